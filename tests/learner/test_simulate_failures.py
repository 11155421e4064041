"""Planned failures in one process; tests/process/test_resilience.py compares with many."""

import dataclasses
from pathlib import Path

import pytest

from agents.policy import load_policy
from configs.schema import EnvConfig, GateConfig, RunConfig
from envs.registry import make_copies
from learner.simulate import SimulatedEpisode, simulate
from runtime.net.failures import NO_FAILURES, Failures
from runtime.net.topology import diameter, offsets

TRAINED = Path(__file__).parents[2] / "configs" / "policies" / "relay-16.safetensors"
"""A policy that has learnt to pass the colour on (docs/results/relay.md)."""
AGENTS = 8
EPISODES = 12
STEPS = diameter(AGENTS) + 2


def play(gate: GateConfig, failures: Failures = NO_FAILURES) -> list[SimulatedEpisode]:
    policy = load_policy(TRAINED)
    run = RunConfig(num_agents=AGENTS, env=EnvConfig(name="relay", copies=EPISODES), gate=gate)
    copies = make_copies(run.env, AGENTS, run.seed)
    return simulate(run, policy, copies, EPISODES, failures=failures)


def returns(results: list[SimulatedEpisode]) -> list[float]:
    return [result.episode_return for result in results]


@pytest.mark.parametrize("timing", ["causal", "paper"])
@pytest.mark.parametrize("kill_at", [0, 2])
def test_the_killed_take_no_more_steps_and_the_bodies_name_the_first_colour(
    kill_at: int, timing: str
) -> None:
    gate = GateConfig(mode="open", timing=timing)  # type: ignore[arg-type]  # from the parameters
    failures = Failures(kill_fraction=0.25, kill_at=kill_at)
    results = play(gate, failures)
    for result in results:
        assert result.length == STEPS
        assert result.agent_steps == AGENTS * kill_at + (AGENTS - 2) * (STEPS - kill_at)
        # The two bodies are both right or both wrong.
        bodies = AGENTS * result.episode_return - (AGENTS - 2) * result.spared_return
        assert bodies == pytest.approx(0.0) or bodies == pytest.approx(2.0)


def test_after_the_kill_only_the_living_are_spoken_to() -> None:
    failures = Failures(kill_fraction=0.25, kill_at=2)
    victims = failures.victims(AGENTS, seed=0)
    living = [agent for agent in range(AGENTS) if agent not in victims]
    reach = [agent + 2**k for agent in living for k in range(len(offsets(AGENTS)))]
    between = sum(peer % AGENTS in living for peer in reach)
    for result in play(GateConfig(mode="open"), failures):
        assert result.edges_open == AGENTS * 3 * 2 + between * (STEPS - 2)


def test_a_kill_that_no_episode_lives_to_see_changes_nothing() -> None:
    failures = Failures(kill_fraction=0.5, kill_at=STEPS)
    with_it, without = play(GateConfig(), failures), play(GateConfig())
    assert returns(with_it) == returns(without)


def test_without_failures_the_spared_are_everybody() -> None:
    for result in play(GateConfig()):
        assert result.spared_return == pytest.approx(result.episode_return)


@pytest.mark.parametrize("mode", ["learned", "open"])
def test_to_lose_everything_is_to_have_closed_gates(mode: str) -> None:
    gate = GateConfig(mode=mode)  # type: ignore[arg-type]  # from the parameters above
    lost = play(gate, Failures(drop_edges=1.0))
    assert returns(lost) == returns(play(dataclasses.replace(gate, mode="closed")))
    assert returns(lost) != returns(play(gate)), "messages must matter for this to mean something"


def test_the_more_is_lost_the_fewer_edges_open() -> None:
    """A beacon that was not heard closes its edge; a closed edge has no message to lose."""
    open_edges = [
        sum(r.edges_open for r in play(GateConfig(), Failures(drop_edges=probability)))
        for probability in (0.0, 0.3, 0.6, 1.0)
    ]
    assert open_edges == sorted(open_edges, reverse=True)
    assert len(set(open_edges)) == 4


def test_losses_in_paper_timing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^losses are simulated with gate.timing causal only"):
        play(GateConfig(timing="paper"), Failures(drop_edges=0.2))
