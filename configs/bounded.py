"""Files and texts of others, bounded before anything is built of them.

    path -> read_bytes, read_text (a regular file, of at most so many bytes)
    text -> parse_json, parse_yaml (so deep, so many values, aliases counted as what they stand for)
    value -> brief (as an error line shows it, cut first)

A file that a person hands over may be a pipe that nobody writes to, a gigabyte, ten thousand
brackets, or 439 bytes of aliases that stand for a thousand million values. To refuse any of these
costs less than to accept what is right.
"""

import json
import os
import re
import reprlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml

MOST_TEXT_BYTES = 1 << 20
"""Of a configuration, a list of hosts, a manifest: a thousand times what is usual."""
MOST_DEPTH = 32
MOST_VALUES = 4_000
"""In YAML, keys among them: a list of 256 hosts has two thousand."""
_MOST_YAML = 1 << 18

_CONSTRUCTION_ERRORS = (
    ValueError, ArithmeticError, LookupError, TypeError, AttributeError,
)  # fmt: skip
"""What PyYAML raises, besides its own, for !!int "", !!bool x, !!timestamp x and their like."""


class Unfit(ValueError):
    """A text is not what it should be, or more than anybody needs; one short line."""


# --- files ----------------------------------------------------------------------------------------


def require_regular(path: Path, most_bytes: int | None = None) -> None:
    """Check what opening would not: a pipe blocks its reader, a device has no end.

    Raises:
        OSError: there is no such file, it is no regular one, or it is longer than `most_bytes`.
    """
    _require_fit(os.stat(path), most_bytes)


def read_bytes(path: Path, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read, is no regular file, or is longer than `most_bytes`.
    """
    # A pipe is opened without waiting for somebody to write to it, and then refused.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        _require_fit(os.fstat(descriptor), most_bytes)
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:  # it has grown since
        raise OSError(None, f"more than {most_bytes} bytes")
    return content


def read_text(path: Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The same as UTF-8.

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path, most_bytes).decode("utf-8")


def _require_fit(found: os.stat_result, most_bytes: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(None, "not a regular file")
    if most_bytes is not None and found.st_size > most_bytes:
        raise OSError(None, f"{found.st_size} bytes, at most {most_bytes} are read")


# --- texts ----------------------------------------------------------------------------------------

_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says: nested MOST_DEPTH deep at most.

    Raises:
        ValueError: it is none.
    """
    plain = text.decode("utf-8") if isinstance(text, bytes) else text
    if plain.count("[") + plain.count("{") > MOST_DEPTH:
        _require_shallow(plain)
    return json.loads(plain)


def _require_shallow(json_text: str) -> None:
    depth = 0
    for bracket in _BRACKET.finditer(_JSON_STRING.sub("", json_text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MOST_DEPTH:
            raise Unfit(f"nested more than {MOST_DEPTH} deep")


def parse_yaml(text: str) -> Any:
    """What a YAML text says, with plain types only; a key that is given twice is refused.

    Raises:
        Unfit: it is not YAML, too deep, or too much, aliases counted as what they stand for.
    """
    try:
        _require_small(text)
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        problem = shorten(error.problem or "it ends too early")
        raise Unfit(f"not valid YAML: {problem}{where}") from error
    except yaml.YAMLError as error:
        raise Unfit(f"not valid YAML: {shorten(str(error))}") from error
    except Unfit:
        raise
    except _CONSTRUCTION_ERRORS as error:
        raise Unfit(f"not valid YAML: {shorten(str(error))}") from error


def _require_small(text: str) -> None:
    """Count values in the parser's events: nothing is built yet, and nothing recurses."""
    if len(text) > _MOST_YAML:
        raise Unfit(f"{len(text)} characters, at most {_MOST_YAML} are read")
    values = 0
    open_nodes: list[tuple[str | None, int]] = []
    """Anchor of each node around, and how many values came before it."""
    sizes: dict[str, int] = {}
    events: Any = yaml.parse(text, yaml.SafeLoader)  # pyright: ignore  # no type stubs
    for event in cast("Iterator[object]", events):
        match event:
            case yaml.AliasEvent(anchor=anchor):
                if anchor in sizes:
                    values += sizes[anchor]
                elif any(anchor == around for around, _ in open_nodes):
                    raise Unfit(f"alias {brief(anchor)} stands for what it is part of")
            case yaml.ScalarEvent(anchor=anchor):
                values += 1
                if anchor is not None:
                    sizes[anchor] = 1
            case yaml.CollectionStartEvent(anchor=anchor):
                open_nodes.append((anchor, values))
                values += 1
                if len(open_nodes) > MOST_DEPTH:
                    raise Unfit(f"nested more than {MOST_DEPTH} deep")
            case yaml.CollectionEndEvent():
                anchor, before = open_nodes.pop()
                if anchor is not None:
                    sizes[anchor] = values - before
            case _:
                pass
        if values > MOST_VALUES:
            raise Unfit(f"more than {MOST_VALUES} values")


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where PyYAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = str(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {name[:40]} is given twice", problem_mark=node.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


# --- what an error line shows ---------------------------------------------------------------------


_containers = reprlib.Repr()
_containers.maxlevel = 2
_containers.maxlist = _containers.maxtuple = _containers.maxdict = _containers.maxset = 4
_containers.maxstring = _containers.maxlong = _containers.maxother = 20


def brief(value: object, longest: int = 60) -> str:
    """A value as an error line shows it; looks at no more of it than it shows."""
    match value:
        case str() | bytes():
            text = repr(value[:longest])
            text += "..." * (len(value) > longest)
        case int() if value.bit_length() > 128:
            text = f"a number of {value.bit_length()} bits"
        case None | int() | float():
            text = repr(value)
        case list() | tuple() | dict():
            text = _containers.repr(value)
        case _:
            text = type(value).__name__
    return shorten(text, longest)


def shorten(text: str, longest: int = 200) -> str:
    """A text of others, such as a library's message, as an error line shows it."""
    return text if len(text) <= longest else text[: longest - 3] + "..."
