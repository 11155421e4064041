"""The package of docs/extending.md does what the document says: nothing here is edited for it.

Its algorithm, environment, network and scheme train and are evaluated from the command line, once
by the names that the package announces and once as module:attribute; agents and learner compute the
same with its network and scheme.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from agents.policy import load_policy
from configs.schema import GateConfig
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, unroll
from learner.network import PolicyNetwork
from tests.extension_package import PAGE, files_of, install
from tests.process.parity_bound import bound

PROJECT = Path(__file__).resolve().parents[1]
AGENTS = 4
SMALL = [
    "--agents", str(AGENTS), "--metrics-port", "0", "--env.options", "length=6",
    "--network.hidden", "16", "--network.message", "8",
]  # fmt: skip
ANNOUNCED = {"algorithm": "patient", "env": "whisper", "network": "elman", "comm": "hum"}
ADDRESSES = {
    "algorithm": "starlings.patient:Patient",
    "env": "starlings.whisper:Whisper",
    "network": "starlings.elman:Elman",
    "comm": "starlings.hum:Hum",
}

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Package:
    """The installed package, and commands that find it."""

    folder: Path
    environment: dict[str, str]

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
            cwd=PROJECT,
            env=self.environment,
        )

    def train(self, names: dict[str, str], *arguments: str) -> Path:
        """The folder of a short run."""
        runs = self.folder / f"runs-{len(list(self.folder.glob('runs-*')))}"
        given = [word for option, name in names.items() for word in (f"--{option}", name)]
        done = self.run(
            "runtime.launch", *given, *SMALL, "--steps", "120",
            "--learner.learning-starts", "2", "--evaluation.episodes", "4",
            "--runtime.runs-dir", str(runs), *arguments,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        (run,) = runs.iterdir()
        return run


@pytest.fixture
def package(tmp_path: Path) -> Package:
    folder = tmp_path / "outside"
    folder.mkdir()
    return Package(folder, install(folder))


def test_the_document_shows_every_file_and_nothing_else() -> None:
    assert sorted(files_of()) == [
        "pyproject.toml",
        "starlings/__init__.py",
        *(
            f"starlings/{name}.py"
            for name in ("elman", "elman_torch", "hum", "hum_torch", "patient", "whisper")
        ),
    ]
    assert not (PROJECT / "starlings").exists()
    assert PAGE.exists()


def test_what_a_package_announces_trains_is_evaluated_and_computes_alike(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained by module:attribute; evaluated, by processes and simulated, under the name of its
    environment.
    """
    run = package.train(ADDRESSES, "--comm.options", "every=2", "--algorithm.options", "patience=1")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["learner_updates"] > 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["network"]["name"] == ADDRESSES["network"]

    recorded = package.folder / "episodes"
    evaluation = [
        "--policy", str(run / "policy.safetensors"), "--env", ANNOUNCED["env"],
        "--env.options", "length=6", "--agents", str(AGENTS), "--episodes", "6", "--json",
    ]  # fmt: skip
    played = package.run("runtime.evaluate", *evaluation, "--record", str(recorded))
    assert played.returncode == 0, played.stderr
    simulated = package.run("runtime.evaluate", *evaluation, "--simulate")
    assert simulated.returncode == 0, simulated.stderr
    figures, again = json.loads(played.stdout), json.loads(simulated.stdout)
    assert figures["return_mean"] == pytest.approx(again["return_mean"])
    assert figures["out_degree_mean"] == pytest.approx(0.5), "every other step, to one neighbour"

    monkeypatch.setattr(sys, "path", [str(package.folder), *sys.path])
    assert_agents_computed_what_the_learner_does(run / "policy.safetensors", recorded)


def assert_agents_computed_what_the_learner_does(policy_file: Path, recorded: Path) -> None:
    """Hold recorded q-values and edges of processes against the unroll."""
    policy = load_policy(policy_file)
    network = PolicyNetwork(policy.spec, AGENTS)
    network.load_flat(policy.flat)
    rule = GateRule.of("starlings.hum:Hum", GateConfig())
    episodes = sorted(recorded.glob("*.npz"))
    assert len(episodes) == 6
    for path in episodes:
        episode = np.load(path)
        observations = torch.tensor(episode["observations"][:-1].astype(np.float32))[:, None]
        alive = torch.tensor(episode["alive"][:-1])[:, None]
        window = UnrollInput(observations, alive)
        with torch.no_grad():
            output = unroll(network, window, rule)
        opened_TN = output.gates_TBNK[:, 0, :, 0].numpy() > 0.5
        np.testing.assert_array_equal(opened_TN, episode["gates"].astype(bool))
        assert 0 < opened_TN.sum() < opened_TN.size
        difference = np.abs(output.q_TBNA[:, 0].numpy() - episode["q_values"]).max()
        assert difference <= bound(network, window, rule, 6 * opened_TN.size)


@pytest.mark.slow
def test_the_same_by_the_names_that_a_package_announces(package: Package) -> None:
    run = package.train(ANNOUNCED)
    assert json.loads((run / "summary.json").read_text())["learner_updates"] > 0
    policy = str(run / "policy.safetensors")
    done = package.run(
        "runtime.evaluate", "--policy", policy, "--env", ADDRESSES["env"],
        "--env.options", "length=6", "--agents", "6", "--episodes", "2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("option", ["algorithm", "env", "network", "comm"])
def test_an_unknown_name_is_one_line_with_what_there_is(package: Package, option: str) -> None:
    done = package.run("runtime.launch", f"--{option}", "magpie", "--agents", "4")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "'magpie'" in line
    assert ANNOUNCED[option] in line


def test_the_help_lists_what_packages_announce(package: Package) -> None:
    done = package.run("runtime.launch", "--help")
    assert done.returncode == 0
    for name in ANNOUNCED.values():
        assert re.search(rf"\b{name}\b", done.stdout)
