"""Every environment with every scheme and every algorithm: collection, an update, an evaluation.

Names come from the registries, so that a new one is covered without an edit here. A run is tiny and
in one process; the agents that are evaluated are the numpy ones, which hear each other by packets
(the centre computes those of a centralised scheme). Each time all pairs of an environment and a
scheme are played, with algorithms in turn; the other combinations are marked slow. Some run as real
processes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from agents.found import scheme_of
from agents.policy import load_policy
from configs.algorithms.base import OnPolicy
from configs.algorithms.described import describe
from configs.extensions import ALGORITHM, ENVIRONMENT, SCHEME, names
from configs.load import preset_for
from configs.options import read
from configs.schema import EnvConfig
from envs import registry
from runtime import launch

INSTANCES = {"pettingzoo": "pettingzoo:mpe2.simple_spread_v3"}
"""Names that want more than themselves."""
SIZES = (4, 6, 8, 12, 20, 25, 50)
"""Of which an environment takes the first that it can."""
CYCLES = 8
"""Steps of an episode, where that may be said."""
EPISODES = 4
"""Of training, in two copies."""

ENVS, SCHEMES, ALGORITHMS = (names(kind) for kind in (ENVIRONMENT, SCHEME, ALGORITHM))


@dataclass(frozen=True, slots=True)
class Combination:
    env: str
    scheme: str
    algorithm: str

    def __str__(self) -> str:
        return f"{self.env} {self.scheme} {self.algorithm}"


def combinations() -> list[Any]:
    """All of them, in which those that are not played each time are marked."""
    found: list[Any] = []
    for e, env in enumerate(ENVS):
        for s, scheme in enumerate(SCHEMES):
            # Steps of one and of the number of schemes: every algorithm meets several schemes.
            turn = (e * len(SCHEMES) + s) % len(ALGORITHMS)
            for a, algorithm in enumerate(ALGORITHMS):
                one = Combination(env, scheme, algorithm)
                marks = () if a == turn else (pytest.mark.slow,)
                found.append(pytest.param(one, marks=marks, id=str(one)))
    return found


def size_of(env: EnvConfig) -> int:
    decided = registry.population_of(env)
    if decided is not None:
        return decided
    for size in SIZES:
        try:
            registry.spec_of(env, size)
        except ValueError:
            continue
        return size
    raise AssertionError(f"{env.name} takes none of {SIZES} agents")


def options_of_env(name: str, *, position: bool) -> str:
    """A short episode, where the environment lets us say so; and positions."""
    known = {field.name for field in fields(registry.family_of(name).Options)}
    given: list[str] = []
    if "max_cycles" in known and not registry.family_of(name).takes_max_cycles:
        given.append(f"max_cycles={CYCLES}")
    if position:
        given.append("position=true")
    return ",".join(given)


def arguments_of(
    one: Combination, folder: Path, *more: str, position: bool, comm_options: str = ""
) -> list[str]:
    name = INSTANCES.get(one.env, one.env)
    options = options_of_env(name, position=position)
    config = EnvConfig(name=name, options=options, max_cycles=CYCLES)
    agents = size_of(config)
    given = ["--env", name, "--comm", one.scheme, "--algorithm", one.algorithm, *more]
    if registry.population_of(config) is None:
        given += ["--agents", str(agents)]
    if registry.family_of(name).takes_max_cycles:
        given += ["--env.max-cycles", str(CYCLES)]
    if options:
        given += ["--env.options", options]
    if name == "battle" and scheme_of(one.scheme).says_actions:
        given += ["--agents.adviser", ""]  # the preset's would play what agents have not said
    if comm_options:
        given += ["--comm.options", comm_options]
    if isinstance(describe(one.algorithm, "").traits.experience, OnPolicy):
        given += ["--algorithm.options", "episodes=2,epochs=1,minibatches=1"]
    limit = registry.spec_of(config, agents).episode_limit
    given += [
        "--env-copies",
        "2",
        "--steps",
        str(EPISODES * limit),
        "--device",
        "cpu",
        "--seed",
        "1",
    ]
    given += ["--learner.threads", "1", "--learner.batch-size", "2"]
    given += ["--learner.learning-starts", "2", "--learner.updates-per-episode", "1"]
    given += ["--evaluation.episodes", "2", "--evaluation.interval-steps", "0"]
    return [*given, "--metrics-port", "0", "--runtime.runs-dir", str(folder)]


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a run that is not started."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        launch.main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def played(arguments: Sequence[str], one: Combination, folder: Path) -> None:
    assert launch.main(arguments) == 0
    (run,) = folder.iterdir()
    summary = json.loads((run / "summary.json").read_text())
    trains = describe(one.algorithm, "").traits.trains
    assert (summary["learner_updates"] > 0) == trains
    assert summary["env_steps"] > 0
    assert summary["evaluation_episodes"] >= 2
    assert summary["return_mean"] is not None
    assert summary["messages_late"] == summary["messages_dropped"] == 0
    scheme = scheme_of(one.scheme)
    speaks = one.scheme != "none" and not scheme.centralised
    assert (summary["message_payload_bytes"] > 0) == speaks
    spec = load_policy(run / "policy.safetensors").spec
    assert spec.scheme == (scheme.parameters_of or one.scheme)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("one", combinations())
def test_it_collects_learns_and_is_evaluated(
    one: Combination, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, scheme = INSTANCES.get(one.env, one.env), scheme_of(one.scheme)
    offers = "position" in {field.name for field in fields(registry.family_of(name).Options)}
    wants = scheme.needs_position(read(scheme.Options, "", "--comm.options"))
    comm_options = ""
    if one.scheme != "none" and describe(one.algorithm, "").traits.centralised:
        ring = "distance=ring" if wants and not offers else ""
        given = arguments_of(
            one, tmp_path, "--serial", position=wants and offers, comm_options=ring
        )
        assert "messages of agents mean nothing: add --comm none" in refused(given, capsys)
        return
    if wants and not offers:
        line = refused(arguments_of(one, tmp_path, "--serial", position=False), capsys)
        assert "chooses edges by the agents' positions" in line
        assert "--comm.options distance=ring" in line
        comm_options = "distance=ring"
    given = arguments_of(
        one, tmp_path, "--serial", position=wants and offers, comm_options=comm_options
    )
    env = registry.spec_of(EnvConfig(name=name), size_of(EnvConfig(name=name)))
    kind = "box" if env.is_continuous else "discrete"
    if kind not in describe(one.algorithm, "").traits.actions:
        assert f"which algorithm {one.algorithm} cannot take" in refused(given, capsys)
        return
    if scheme.says_actions and describe(one.algorithm, "").traits.acting == "guided":
        assert "says what an agent has chosen, and the guide" in refused(given, capsys)
        return
    if env.is_continuous and scheme.says_actions:
        assert "says which action of a list was chosen" in refused(given, capsys)
        return
    played(given, one, tmp_path)


@pytest.mark.process
@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", [pytest.param(s, marks=pytest.mark.slow) for s in SCHEMES])
def test_a_diagonal_of_them_runs_as_real_processes(
    scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each scheme once, with environments and algorithms in turn; a centralised one refuses."""
    at = SCHEMES.index(scheme)
    env = [name for name in ENVS if preset_for(name)][at % len(ENVS)]
    known = {name: describe(name, "").traits for name in ALGORITHMS}
    algorithms = [name for name, its in known.items() if its.trains and not its.centralised]
    one = Combination(env, scheme, algorithms[at % len(algorithms)])
    options = fields(registry.family_of(INSTANCES.get(env, env)).Options)
    offers = "position" in {field.name for field in options}
    wants = scheme_of(scheme).needs_position(read(scheme_of(scheme).Options, "", "--comm.options"))
    comm_options = "distance=ring" if wants and not offers else ""
    given = arguments_of(one, tmp_path, position=wants and offers, comm_options=comm_options)
    if scheme_of(scheme).centralised:
        assert "none can run on its own: train with --serial" in refused(given, capsys)
        return
    played(given, one, tmp_path)
