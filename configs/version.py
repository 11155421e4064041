"""Which version of Murmuration is installed, and the name that pip has for it."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "murmuration-marl"
"""Name of the distribution: the name `murmuration` belongs to another project on PyPI."""


def version_line() -> str:
    """What `--version` prints."""
    try:
        return f"murmuration {version(DISTRIBUTION)}"
    except PackageNotFoundError:  # a folder of sources on the path
        return "murmuration, not installed: `pip install -e .` in its folder gives it a version"
