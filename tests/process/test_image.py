"""docs/clusters/Dockerfile: what its stages are, and its builders' commands in fresh environments.

Nothing here needs docker. The slow tests run each RUN of a builder in a shell, after the COPYs
before it, with other folders in place of /build and /opt/murmuration; what pip downloads comes from
the index that it is set up for.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.dockerfile import Stage, lineage, stages
from tests.manifests import PROJECT, commands
from tests.process.namespaces import Hosts, require_hosts
from tests.process.runs import wait_for

CLUSTERS = PROJECT / "docs" / "clusters"
STAGES = stages((CLUSTERS / "Dockerfile").read_text())
TARGETS = ("base", "train")
PYTHON = "python:${PYTHON}-slim"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_python_our_environment_and_a_user_without_rights(target: str) -> None:
    family = lineage(STAGES, target)
    assert family[0].base == PYTHON
    copied = [argument for stage in family for argument in stage.all("COPY")]
    assert copied == [f"--from={target}-builder /opt/murmuration /opt/murmuration"]
    assert lineage(STAGES, f"{target}-builder")[0].base == PYTHON, "or the environment's is missing"
    (user,) = (argument for stage in family for argument in stage.all("USER"))
    uid, gid = user.split(":")
    assert uid.isdigit(), "a cluster cannot know that a name is not root's"
    assert int(uid) > 0
    (made,) = (argument for stage in family for argument in stage.all("RUN"))
    assert f"useradd --uid {uid} --gid {gid} " in made


def test_both_images_are_built_by_the_pages_commands() -> None:
    for target in TARGETS:
        command = f"docker build --file docs/clusters/Dockerfile --target {target} --tag "
        assert command in commands("image")


def test_the_image_is_built_from_all_packages_and_nothing_is_ignored_that_it_needs() -> None:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    needed = {name.rstrip("*") for name in packages} | {"pyproject.toml", "README.md", "LICENSE"}
    sources = {source.rstrip("/") for source, _ in copies(STAGES["base-builder"])}
    assert sources == needed
    lines = (CLUSTERS / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == needed
    assert lines[1] == "**", "all else: keys and runs lie in such folders"


def test_the_train_image_has_torch_and_the_engine() -> None:
    (argument,) = STAGES["train-builder"].all("ARG")
    name, _, names = argument.partition("=")
    (command,) = STAGES["train-builder"].all("RUN")
    assert f'".[${name}]"' in command
    with (PROJECT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    wanted = [Requirement(line).name for name in names.split(",") for line in extras[name]]
    assert {"torch", "magent2"} <= set(wanted), "the example trains Battle"


def copies(stage: Stage) -> list[tuple[str, str]]:
    """(source, destination) of each COPY from the project."""
    found: list[tuple[str, str]] = []
    for argument in stage.all("COPY"):
        *sources, destination = argument.split()
        found += [(source, destination) for source in sources]
    return found


class Builder:
    """Carries out a builder stage below a folder."""

    def __init__(self, folder: Path) -> None:
        self._build = folder / "build"
        self.installed = folder / "opt"
        self._build.mkdir(parents=True)
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        """ARGs are part of it, as in a build."""

    def carry_out(self, stage: Stage) -> None:
        for name, argument in stage.instructions:
            if name == "COPY":
                self._copy(argument)
            elif name == "RUN":
                command = argument.replace("/opt/murmuration", str(self.installed))
                done = subprocess.run(
                    ["sh", "-ec", command], cwd=self._build, capture_output=True, text=True,
                    env=self._environment,
                    timeout=540, check=False,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr[-2000:]
            elif name == "ARG":
                variable, has_default, value = argument.partition("=")
                if has_default:
                    self._environment[variable] = value
            else:
                assert name == "WORKDIR", f"{name}: this test does not know it"

    def _copy(self, argument: str) -> None:
        *sources, destination = argument.split()
        for source in sources:
            target = self._build / destination / ("" if source.endswith("/") else source)
            if source.endswith("/"):
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(PROJECT / source, target, ignore=ignored)
            else:
                shutil.copy(PROJECT / source, target)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A folder that does not stay, as torch would fill a disk run by run."""
    yield tmp_path / "image"
    shutil.rmtree(tmp_path / "image", ignore_errors=True)


def build(target: str, folder: Path) -> Path:
    """The folder that a target copies into its image."""
    builder = Builder(folder)
    for stage in lineage(STAGES, f"{target}-builder"):
        builder.carry_out(stage)
    return builder.installed / "bin"


def health_command(programs: Path) -> list[str]:
    (check,) = STAGES["bare"].all("HEALTHCHECK")
    _, found, command = check.partition("CMD ")
    assert found
    first, *others = json.loads(command)
    return [str(programs / first), *others]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(590)
def test_the_base_image_serves_a_deployed_policy_and_knows_its_health(
    tmp_path: Path, image: Path
) -> None:
    require_hosts()
    programs = build("base", image)
    murmuration = programs / "murmuration"
    torch = [programs / "python", "-c", "import torch"]
    assert subprocess.run(torch, capture_output=True, check=False).returncode != 0, (
        "base is without torch"
    )
    with Hosts.create("a") as hosts:
        host = hosts["a"]
        (tmp_path / "hosts.yaml").write_text(f"hosts: {{a: {{address: {host.address}}}}}")
        policy = next((image / "opt").rglob("policies/relay.safetensors"))
        deploy = f"deploy --policy {policy} --agents 2 --hosts hosts.yaml --out bundles"
        host.run([murmuration, *shlex.split(deploy)], cwd=tmp_path)
        assert host.run(health_command(programs), check=False).returncode != 0, "nobody there yet"
        output = tmp_path / "node.txt"
        node = host.popen(
            [murmuration, "node", "--bundle", "bundles/a"], cwd=tmp_path, output=output
        )
        wait_for(
            "the image to be healthy",
            lambda: host.run(health_command(programs), check=False).returncode == 0,
            90.0,
        )
        os.kill(node.pid, signal.SIGTERM)
        assert node.wait(30.0) == 0, output.read_text()


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(590)
def test_the_train_image_trains(tmp_path: Path, image: Path) -> None:
    programs = build("train", image)
    options = "--agents 8 --env battle --env-copies 2 --steps 200 --metrics-port 0"
    done = subprocess.run(
        [programs / "murmuration", "launch", *options.split()],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(summary.read_text())["exit_reason"] == "finished"
