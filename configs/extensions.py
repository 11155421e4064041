"""Algorithms, communication schemes, networks and environments, by name.

    "expocomm-static"        -> agents/comm/expocomm_static.py, its SCHEME
    "my_package.mine:Mine"   -> that attribute of that module
    a name that an installed package announces (an entry point) -> what it points to

A module says what it offers by one assignment at its top level, ALGORITHM = Qmix, and that is all:
there is no table to edit. Names are found by looking for the assignment in source files, so that a
list of names imports nothing, torch and engines least of all. Standard library only.
"""

import functools
import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from configs.errors import UserError

_HOME = Path(__file__).resolve().parent.parent
"""The folder that holds our packages."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that may be added from outside."""

    what: str
    """As a sentence names it."""
    option: str
    """The flag that takes its name."""
    mark: str
    """What a module assigns."""
    package: str
    """Where ours are."""
    group: str
    """Entry points by which installed packages announce theirs."""


ALGORITHM = Kind(
    "algorithm", "--algorithm", "ALGORITHM", "learner.algorithms", "murmuration.algorithms"
)
SCHEME = Kind("communication scheme", "--comm", "SCHEME", "agents.comm", "murmuration.schemes")
NETWORK = Kind("network", "--network", "NETWORK", "agents.networks", "murmuration.networks")
ENVIRONMENT = Kind("environment", "--env", "ENVIRONMENT", "envs", "murmuration.environments")

KINDS = (ALGORITHM, SCHEME, NETWORK, ENVIRONMENT)


class ExtensionError(UserError, ValueError):
    """There is nothing by this name, or it cannot be imported."""


@functools.cache
def own_names(kind: Kind) -> tuple[str, ...]:
    """Names of those in this project, in alphabetical order."""
    mark = re.compile(rf"^{kind.mark}\b.*=", re.MULTILINE)
    folder = _HOME.joinpath(*kind.package.split("."))
    found = {
        path.parent.name if path.name == "__init__.py" else path.stem: path
        for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py"))
    }
    return tuple(
        sorted(
            name.replace("_", "-")
            for name, path in found.items()
            if mark.search(path.read_text(encoding="utf-8"))
        )
    )


@functools.cache
def announced(kind: Kind) -> dict[str, str]:
    """Name -> `module:attribute` of those that installed packages announce."""
    return {entry.name: entry.value for entry in metadata.entry_points(group=kind.group)}


def names(kind: Kind) -> tuple[str, ...]:
    """All names: ours, then those of installed packages. Ours win where both have one."""
    own = own_names(kind)
    return (*own, *sorted(set(announced(kind)) - set(own)))


def address(kind: Kind, name: str) -> str:
    """`module:attribute` of what goes by this name; imports nothing.

    Whatever follows the first colon of one of our own names belongs to that extension
    (pettingzoo:mpe2.simple_spread_v3).

    Raises:
        ExtensionError: there is nothing by this name; says what there is.
    """
    first, colon, rest = name.partition(":")
    if first in own_names(kind):
        return f"{kind.package}.{first.replace('-', '_')}:{kind.mark}"
    entry = announced(kind).get(first if kind is ENVIRONMENT else name)
    if entry is not None:
        module, _, attribute = entry.partition(":")
        return f"{module}:{attribute or kind.mark}"
    if colon and first and rest:
        return name
    raise ExtensionError(
        f"unknown {kind.what} {name[:100]!r}, choose from {', '.join(names(kind))}, or give "
        "package.module:attribute"
    )


def load(kind: Kind, name: str) -> object:
    """Import what goes by this name.

    Raises:
        ExtensionError: nothing goes by it, its module cannot be imported, or has no such attribute.
    """
    return load_address(kind, address(kind, name))


def load_address(kind: Kind, where: str) -> object:
    """Import `module:attribute`.

    Raises:
        ExtensionError: the module cannot be imported, or has no such attribute.
    """
    module, _, attribute = where.partition(":")
    _look_into_the_current_folder()
    try:
        found: object = importlib.import_module(module)
    except Exception as error:
        # Whatever goes wrong in somebody's module is theirs to read, and not a stack of ours.
        raise ExtensionError(
            f"{kind.option} {where}: {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ExtensionError(f"{kind.option} {where}: {module} has no {part}")
        found = getattr(found, part)
    return found


class _CurrentFolder:
    """Finds what nobody else finds, in the folder that the process was started in.

    The script `murmuration` does not look there, and an entry of `sys.path` would not do: in an
    installation that can be edited ours are found after all of these, so that a folder `envs/` of
    the user's would hide our own, and processes that we start would inherit it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [self.folder], target) if path is None else None


def _look_into_the_current_folder() -> None:
    here = str(Path.cwd())
    finders = [finder for finder in sys.meta_path if isinstance(finder, _CurrentFolder)]
    if all(finder.folder != here for finder in finders):
        sys.meta_path.append(_CurrentFolder(here))
