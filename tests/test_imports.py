"""Who may import whom: the rooms of the house, and that there is no circle among them.

Every import counts, those within functions as well, but not those for type checkers alone.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from runtime.own_packages import PACKAGES

PROJECT = Path(__file__).resolve().parents[1]

RULES: dict[str, tuple[str, ...]] = {
    # room: what it may import beside itself; the longest name that fits a module counts
    "configs": (),
    "runtime.net": ("configs",),
    "runtime.terminal": ("configs", "runtime.net"),
    "runtime.record": ("configs", "runtime.net", "runtime.terminal", "agents"),
    "agents": ("configs", "runtime.net"),
    "envs": ("configs", "runtime.net.topology"),
    "runtime.world": ("configs", "runtime.net", "agents", "envs"),
    "runtime.deployment": ("configs", "runtime.net", "agents"),
    "runtime.host": (
        "configs", "runtime.net", "runtime.terminal", "runtime.deployment", "agents", "envs",
    ),
    # Ray runs it in processes of its own, on the machines that it gives.
    "runtime.ray": (
        "configs", "runtime.net", "runtime.terminal", "runtime.deployment", "runtime.run.placer",
    ),
    "runtime.run": (
        "configs", "runtime.net", "runtime.terminal", "runtime.record", "runtime.world",
        "runtime.host", "runtime.deployment", "agents", "envs", "learner.experience",
    ),
    # It plays an episode in one process, with what a run is placed and played by.
    "runtime.seeing": ("configs", "runtime.run", "runtime.world", "agents", "envs"),
    "learner": (
        "configs", "runtime.net", "runtime.terminal", "runtime.record", "agents", "envs",
    ),
    "learner.studies": ("configs", "runtime", "agents", "envs", "learner"),
    # The commands, and what users import.
    "runtime": ("configs", "runtime", "agents", "envs", "learner"),
}  # fmt: skip

BREACHES = frozenset[str]()
"""Imports that should not be there, and are."""

EVERYWHERE = frozenset({"runtime", "runtime.own_packages"})
"""What looks for foreign packages of our names, before anything else is imported."""


@cache
def modules() -> dict[str, Path]:
    """Our modules by their names."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path in (PROJECT / package).rglob("*.py"):
            parts = path.relative_to(PROJECT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Names of modules, or of what is imported from them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        yield from imports(node)


@cache
def graph() -> dict[str, frozenset[str]]:
    """Module -> modules of ours that it imports."""
    known = modules()
    found: dict[str, frozenset[str]] = {}
    for module, path in known.items():
        names = imports(ast.parse(path.read_text(encoding="utf-8")))
        ours = (name if name in known else name.rpartition(".")[0] for name in names)
        found[module] = frozenset(name for name in ours if name in known) - EVERYWHERE - {module}
    return found


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str:
    return max((room for room in RULES if within(module, room)), key=len)


@pytest.mark.parametrize("room", RULES)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    broken = [
        f"{module} imports {name}"
        for module, names in graph().items()
        if room_of(module) == room
        for name in names
        if room_of(name) != room and not any(within(name, may) for may in RULES[room])
    ]
    known = {breach for breach in BREACHES if room_of(breach.partition(" ")[0]) == room}
    assert set(broken) == known, "\n".join(sorted(set(broken) ^ known))


@pytest.mark.parametrize("package", ["agents", "envs", "configs", "runtime"])
def test_nothing_but_the_learner_imports_torch(package: str) -> None:
    broken = [
        module
        for module, path in modules().items()
        if within(module, package)
        for name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if within(name, "torch")
    ]
    assert not broken, "\n".join(sorted(broken))


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circles(), f"in circles: {sorted(circles())}"


def circles() -> frozenset[str]:
    """Modules from which imports lead back to themselves."""
    rest = {module: set(names) for module, names in graph().items()}
    while leaves := {module for module, names in rest.items() if not names & rest.keys()}:
        rest = {module: names for module, names in rest.items() if module not in leaves}
    # What is left imports a circle or is part of one: take away what none of the others imports.
    while True:
        imported = {name for names in rest.values() for name in names}
        tops = rest.keys() - imported
        if not tops:
            return frozenset(rest)
        rest = {module: names for module, names in rest.items() if module not in tops}


def test_the_walk_sees_imports_within_functions_and_skips_those_for_types() -> None:
    source = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from envs.base import EnvSpec\n    import learner.loss\n"
    )
    assert list(imports(ast.parse(source))) == [
        "typing.TYPE_CHECKING",
        "envs.base.EnvSpec",
        "learner.loss",
    ]


def test_there_is_a_house_to_look_at() -> None:
    assert len(modules()) > 200
    assert "configs.schema" in graph()["runtime.launch"]
