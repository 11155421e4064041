"""A checksum in the first line of a resolved configuration: whether a file is what was written.

    YAML -> signed -> config.yaml -> is_signed, is_intact

Half of a YAML file is mostly valid YAML, and the schema has a default for whatever is missing, so a
file that was cut short would be another configuration. The checksum stands in front because the
end is what gets lost.
"""

import zlib

_MARK = "# crc32 "
_HINT = "of all that follows: to change values, remove this line"


def signed(text: str) -> str:
    """The text with its checksum in front, as a comment."""
    return f"{_MARK}{_crc32(text)} {_HINT}\n{text}"


def is_signed(text: str) -> bool:
    """Whether a checksum stands in front; files of older versions have none."""
    return text.startswith(_MARK)


def is_intact(text: str) -> bool:
    """Whether a signed text is what was signed."""
    first, _, rest = text.partition("\n")
    return first.removeprefix(_MARK).split(" ")[0] == _crc32(rest)


def _crc32(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
