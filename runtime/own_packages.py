"""Whether the packages that Python finds are Murmuration's own.

    sys.path  ->  origin of agents, configs, envs, learner, runtime  ->  one line, or nothing

Their names are ordinary words. A folder `envs/` of the user's, or another distribution that
installs `agents`, can hide one of ours, and what follows is an ImportError that names neither.
Standard library only, and nothing of ours: this runs before everything else.
"""

import importlib.util
import os
import sys
from pathlib import Path

PACKAGES = ("agents", "configs", "envs", "learner", "runtime")
_HOME = Path(__file__).resolve().parent.parent
"""The folder that holds our packages."""
_MARK = '"""Murmuration: '
"""How the `__init__.py` of each begins. Another distribution's file could stand in our folder."""


class ForeignPackageError(ImportError):
    """A package of the same name stands where one of ours should be found."""


def check(packages: tuple[str, ...] = PACKAGES) -> None:
    """Find every package without importing it.

    Raises:
        ForeignPackageError: one line that says which path stands in the way, and what to do.
    """
    for name in packages:
        origin = _origin(name)
        if origin is None or not _is_ours(name, origin):
            raise ForeignPackageError(_explanation(name, origin))


def _origin(name: str) -> Path | None:
    """The `__init__.py` that an import of this name would run; None if there is none."""
    module = sys.modules.get(name)
    spec = importlib.util.find_spec(name) if module is None else module.__spec__
    return None if spec is None or spec.origin is None else Path(spec.origin).resolve()


def _is_ours(name: str, origin: Path) -> bool:
    if origin.parent != _HOME / name:
        return False
    try:
        return origin.read_text(encoding="utf-8").startswith(_MARK)
    except (OSError, UnicodeDecodeError):
        return False


def _explanation(name: str, origin: Path | None) -> str:
    ours, way_out = _HOME / name, "give Murmuration a virtual environment of its own"
    if origin is None:
        return f"Murmuration's package {name!r} is missing from {_HOME}: install it again"
    folder = origin.parent if origin.name == "__init__.py" else origin
    if folder == ours:
        return (
            f"another project has written over Murmuration's package {name!r} in {ours}: {way_out}"
        )
    if folder.parent == Path.cwd():
        way_out = (
            "start it as `murmuration COMMAND`, which does not look into the current folder, "
            "or from another folder"
        )
    elif str(folder.parent) in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        way_out = "take that folder out of PYTHONPATH"
    return f"{folder} stands in the way of Murmuration's package {name!r} in {ours}: {way_out}"
