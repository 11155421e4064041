"""The command `murmuration`: every subcommand, the version, and a user's own packages beside it."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from configs.version import DISTRIBUTION
from runtime.command_line import SUBCOMMANDS, main
from runtime.own_packages import PACKAGES

PROJECT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """What pip writes for the entry point, in a folder of its own."""
    module, _, function = PYPROJECT["project"]["scripts"]["murmuration"].partition(":")
    path = tmp_path / "bin" / "murmuration"
    path.parent.mkdir()
    path.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return path


def run(script: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, script, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_its_module(name: str) -> None:
    assert callable(import_module(SUBCOMMANDS[name].module).main)


def test_every_command_of_the_project_is_a_subcommand() -> None:
    commands = {
        path.relative_to(PROJECT).with_suffix("").as_posix().replace("/", ".")
        for package in PACKAGES
        for path in (PROJECT / package).rglob("*.py")
        if 'if __name__ == "__main__":' in path.read_text()
    }
    modules = {command.module for command in SUBCOMMANDS.values()}
    assert modules == commands


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_subcommands(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in SUBCOMMANDS)


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lunch"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown command 'lunch', choose from launch, ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["--version"], ["keys", "--version"], ["launch", "--version"]])
def test_the_version_can_be_asked_for(script: Path, tmp_path: Path, words: list[str]) -> None:
    ended = run(script, *words, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"murmuration {version(DISTRIBUTION)}\n"


def test_a_subcommands_help_names_what_was_typed(script: Path, tmp_path: Path) -> None:
    ended = run(script, "keys", "--help", cwd=tmp_path)
    assert ended.stdout.startswith("usage: murmuration keys ")


@pytest.mark.process
def test_a_run_is_not_disturbed_by_packages_of_the_same_names(script: Path, tmp_path: Path) -> None:
    """World, node, learner, forkserver and agents all run our packages."""
    for name in ("agents", "configs", "envs", "learner", "runtime"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('foreign package')\n")
    words = ["launch", "--agents", "3", "--env", "relay", "--steps", "60", "--metrics-port", "0"]
    ended = run(script, *words, "--evaluation.episodes", "0", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    logs = next((tmp_path / "runs").iterdir()) / "logs"
    assert "foreign package" not in "".join(path.read_text() for path in logs.iterdir())


def test_no_hint_has_people_install_a_strangers_package() -> None:
    """The name `murmuration` belongs to another project on PyPI."""
    hint = re.compile(r"pip install [^\n]*\bmurmuration(?!-marl)\b")
    for path in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("*/**/*.py")]:
        if path != Path(__file__) and "site-packages" not in path.parts:
            assert not hint.search(path.read_text()), path


def test_the_licence_is_there_and_named() -> None:
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    for name in PYPROJECT["project"]["license-files"]:
        assert "Apache License" in (PROJECT / name).read_text()


def test_every_package_says_that_it_is_typed() -> None:
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    for name in PACKAGES:
        assert (PROJECT / name / "py.typed").exists()
        assert "py.typed" in data[name]
