"""A graph that moves, over real sockets: processes against unroll and simulation."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from agents.comm.graphs import graph_of
from configs.schema import RunConfig
from envs.registry import make_copies, opponents_of
from learner.simulate import SimulatedEpisode, simulate
from runtime.evaluate import play
from runtime.net.failures import Failures
from tests.process.runs import SilentView, murmuration_processes, run_config, undecided_policy
from tests.process.test_parity import hold_against_unroll, neighbours_of, record

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


SCHEMES = ("full", "nvif", "mfq", "dgn")
SIZES = [
    pytest.param(scheme, size, marks=() if size == 15 else pytest.mark.slow)
    for scheme in SCHEMES
    for size in (15, 56)
]


def neighbours_config(
    num_agents: int, *, comm: str = "full", copies: int = 2, position: bool = True
) -> RunConfig:
    """A battle in which agents die, and speak to those who are near."""
    said = "neighbours=true,position=true" if position else "neighbours=true"
    return run_config(
        "battle",
        num_agents,
        copies=copies,
        comm=comm,
        comm_options="neighbours=true",
        env_options={"opponent": "scripted", "options": said},
    )


@pytest.mark.parametrize(("scheme", "num_agents"), SIZES)
def test_processes_hear_the_neighbours_that_the_unroll_has(
    scheme: str, num_agents: int, tmp_path: Path
) -> None:
    config = neighbours_config(num_agents, comm=scheme)
    policy = undecided_policy(config)
    episodes = record(config, policy, 2, tmp_path)
    hold_against_unroll(config, policy, episodes)
    bits = graph_of(config.comm, config.comm_options, num_agents).edge_bits
    opened = [bits.unpack(episode.columns["gates"])[episode.alive[:-1]] for episode in episodes]
    degrees = np.concatenate(opened).sum(axis=-1)
    assert 2 < degrees.mean() < 8, "an agent has neighbours in about four directions"
    assert degrees.max() < num_agents - 1
    met = np.any([neighbours_of(config, episode).any(axis=0) for episode in episodes], axis=0)
    assert met.sum(axis=1).mean() > 1.2 * degrees.mean(), "others are near later"


@pytest.mark.slow
@pytest.mark.parametrize("num_agents", [15, 56, 115])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_gather_does_it_as_well(scheme: str, num_agents: int, tmp_path: Path) -> None:
    config = run_config(
        "gather",
        num_agents,
        comm=scheme,
        comm_options="neighbours=true",
        env_options={"options": "position=true,max_cycles=40"},
    )
    policy = undecided_policy(config)
    hold_against_unroll(config, policy, record(config, policy, 2, tmp_path), deaths=False)


@pytest.mark.parametrize(
    ("scheme", "num_agents", "louder"),
    [
        ("full", 15, 2.5),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("full", 56, 2.5), ("nvif", 15, 4.0), ("dgn", 15, 3.0))
        ),
    ],
)
def test_messages_of_neighbours_are_lost_as_in_the_simulation(
    scheme: str, num_agents: int, louder: float, tmp_path: Path
) -> None:
    """With weights by which what is heard decides; larger ones would let rounding decide."""
    config = neighbours_config(num_agents, comm=scheme, copies=4, position=False)
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, max_cycles=30))
    policy = undecided_policy(config)
    policy.flat[...] *= louder
    failures = Failures(drop_edges=0.3)
    end, run = play(config, policy, 4, tmp_path, SilentView(), failures=failures)
    assert end.exit_code == 0, end.reason
    assert murmuration_processes() == []

    def simulated_with(failures: Failures) -> list[SimulatedEpisode]:
        copies = make_copies(config.env, num_agents, config.seed)
        opponents = opponents_of(config.env)
        return simulate(config, policy, copies, 4, failures=failures, opponents=opponents)

    simulated = simulated_with(failures)
    played = sorted(result.episode_return for result in run.board.evaluated)
    assert played == pytest.approx(sorted(r.episode_return for r in simulated))
    assert run.board.world["evaluated_edges_open"] == sum(r.edges_open for r in simulated)
    assert run.board.node["lost_messages"] > 0
    unharmed = sorted(result.episode_return for result in simulated_with(Failures()))
    assert played != pytest.approx(unharmed), "what is lost must matter"
