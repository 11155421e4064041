"""A virtual environment like that of a host which only runs agents: the base dependencies, no more.

    pyproject `dependencies` ─▶ closure of installed distributions ─▶ links to their files
                                                 fresh environment ◀──┘     + the project by a .pth

Made without a network and in a second: what is installed here for the tests is linked, file by
file, so that nothing can be imported there that was not asked for. No pip inside.
"""

import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]


def make(folder: Path) -> Path:
    """Make the environment in a folder that does not exist yet.

    Returns:
        Its Python.

    Raises:
        importlib.metadata.PackageNotFoundError: a base dependency is not installed here.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    python = folder / "bin" / "python"
    (site_packages,) = folder.glob("lib/python*/site-packages")
    for found in closure(base_requirements()):
        _link_files(found, site_packages)
    (site_packages / "murmuration.pth").write_text(f"{PROJECT}\n")
    return python


def base_requirements() -> list[Requirement]:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        return [Requirement(line) for line in tomllib.load(file)["project"]["dependencies"]]


def closure(roots: Iterable[Requirement]) -> list[Distribution]:
    """The distributions that pip would install for these on this machine, as installed here."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(requirement, frozenset[str]()) for requirement in roots]
    while waiting:
        requirement, extras_of_its_user = waiting.pop()
        if not _applies(requirement, extras_of_its_user):
            continue
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name not in found:
            found[name] = distribution(name)
        waiting += [(Requirement(line), extras) for line in found[name].requires or ()]
    return [found[name] for name in sorted(found)]


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


def _link_files(installed: Distribution, site_packages: Path) -> None:
    """Link a distribution's files into site-packages, with what Python has compiled of them."""
    for file in installed.files or ():
        if file.parts[0] == "..":  # scripts and manuals, outside site-packages
            continue
        source = Path(str(file.locate()))
        sources = [source]
        if source.suffix == ".py":
            sources.append(Path(importlib.util.cache_from_source(str(source))))
        for existing in filter(Path.exists, sources):
            link = site_packages / Path(str(file)).parent / existing.relative_to(source.parent)
            if not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(existing)
