import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.process import base_environment

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_environment.make(tmp_path_factory.mktemp("environment") / "base")


def run(python: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *args], capture_output=True, text=True, check=False, timeout=50, cwd=cwd
    )


@pytest.mark.parametrize(
    "module",
    ["agents.process", "runtime.node", "runtime.launch", "runtime.evaluate", "configs.load"],
)
def test_what_a_host_runs_can_be_imported(python: Path, tmp_path: Path, module: str) -> None:
    finished = run(python, "-W", "error", "-c", f"import {module}", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    "module",
    ["torch", "magent2", "pettingzoo", "matplotlib", "tensorboard", "pytest", "pip", "setuptools"],
)
def test_what_a_host_does_not_need_is_not_there(python: Path, tmp_path: Path, module: str) -> None:
    finished = run(python, "-c", f"import {module}", cwd=tmp_path)
    assert f"No module named '{module}'" in finished.stderr


def test_everything_comes_from_the_environment_the_standard_library_or_the_project(
    python: Path, tmp_path: Path
) -> None:
    finished = run(python, "-c", "import sys; print(*sys.path, sep='\\n')", cwd=tmp_path)
    folder = python.parents[1]
    strangers = [
        path
        for path in finished.stdout.split()
        if "site-packages" in path and not path.startswith(str(folder))
    ]
    assert strangers == []
    assert str(base_environment.PROJECT) in finished.stdout.split()


def test_the_options_can_be_asked_for(python: Path, tmp_path: Path) -> None:
    finished = run(python, "-m", "runtime.launch", "--help", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "--agents" in finished.stdout


def test_the_closure_follows_extras_and_markers() -> None:
    def names(requirement: str) -> set[str]:
        return {d.name.lower() for d in base_environment.closure([Requirement(requirement)])}

    assert names("rich") >= {"rich", "markdown-it-py", "mdurl", "pygments"}
    assert names("rich; python_version < '3'") == set()
    assert "torch" not in names("safetensors")
    assert "numpy" in names("safetensors[numpy]")
