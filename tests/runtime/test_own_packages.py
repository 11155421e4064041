"""Foreign packages of our names: noticed without being imported, and named in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.own_packages import PACKAGES

PROJECT = Path(__file__).resolve().parents[2]
SHOUT = "raise SystemExit('the foreign package was imported')\n"


def foreign(folder: Path, name: str) -> Path:
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SHOUT)
    return package


def run(
    *arguments: str | Path, cwd: Path, path: Path | None = PROJECT, safe: bool = False
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    if safe:
        environment["PYTHONSAFEPATH"] = "1"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("runtime.launch", name) for name in PACKAGES if name != "runtime"),
        ("runtime.keys", "envs"),
        ("learner.opponent", "envs"),
    ],
)
def test_a_package_of_the_users_is_named_in_one_line(
    tmp_path: Path, name: str, command: str
) -> None:
    package = foreign(tmp_path, name)
    ended = run("-m", command, "--help", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {package} stands in the way of Murmuration's package")
    assert ended.stderr.count("\n") == 1
    assert "murmuration COMMAND" in ended.stderr


def test_a_folder_of_that_name_without_python_in_it_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    assert run("-m", "runtime.keys", "--help", cwd=tmp_path).returncode == 0


def test_a_folder_in_pythonpath_is_what_has_to_go(tmp_path: Path) -> None:
    foreign(tmp_path / "theirs", "envs")
    path = f"{tmp_path / 'theirs'}{os.pathsep}{PROJECT}"
    ended = run("-m", "runtime.keys", "--help", cwd=tmp_path, path=Path(path))
    assert ended.returncode == 2
    assert "take that folder out of PYTHONPATH" in ended.stderr


def test_the_console_script_says_it_in_one_line_too(tmp_path: Path) -> None:
    foreign(tmp_path / "theirs", "envs")
    script = tmp_path / "murmuration"
    script.write_text("from runtime.command_line import main\nmain()\n")
    path = f"{tmp_path / 'theirs'}{os.pathsep}{PROJECT}"
    ended = run(script, "keys", "--help", cwd=tmp_path, path=Path(path))
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


def test_a_library_user_gets_an_import_error(tmp_path: Path) -> None:
    package = foreign(tmp_path, "envs")
    code = "import runtime.own_packages\n"
    ended = run("-c", code, cwd=tmp_path)
    assert ended.returncode == 1
    assert f"ForeignPackageError: {package} stands in the way" in ended.stderr


def test_a_file_that_another_distribution_has_written_over_ours_is_noticed(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    for name in PACKAGES:
        (installed / name).mkdir(parents=True)
        shutil.copy(PROJECT / name / "__init__.py", installed / name)
    shutil.copy(PROJECT / "runtime" / "own_packages.py", installed / "runtime")
    check = "from runtime.own_packages import check; check()"
    assert run("-c", check, cwd=tmp_path, path=installed, safe=True).returncode == 0
    (installed / "agents" / "__init__.py").write_text(SHOUT)
    ended = run("-c", check, cwd=tmp_path, path=installed, safe=True)
    assert "another project has written over Murmuration's package 'agents'" in ended.stderr
    assert "a virtual environment of its own" in ended.stderr
