import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from agents.policy import PolicyFile, PolicySpec, initialise
from configs.schema import EnvConfig, GateConfig, NetworkConfig, RunConfig
from envs.copies import Copies
from envs.opponent_schedule import OpponentSchedule
from envs.registry import make_copies, spec_of
from learner.simulate import SimulatedEpisode, SimulatedStep, simulate
from runtime.net.topology import diameter, offsets
from tests.world_helpers import (
    NUM_AGENTS,
    ScriptedEnv,
    make_rules,
    make_world,
    play_out,
    results_of,
)

AGENTS = 5


def play(
    config: RunConfig, episodes: int, progress: list[int] | None = None
) -> list[SimulatedEpisode]:
    env = spec_of(config.env, AGENTS)
    spec = PolicySpec.of(config.network, env.observation_dim, env.num_actions)
    flat = initialise(spec, np.random.default_rng(0))
    policy = PolicyFile(spec=spec, flat=flat, version=0, trained={})
    copies = make_copies(config.env, AGENTS, config.seed)
    return simulate(config, policy, copies, episodes, None if progress is None else progress.append)


def make_config(gate: GateConfig, copies: int = 3) -> RunConfig:
    return RunConfig(
        num_agents=AGENTS,
        env=EnvConfig(name="relay", copies=copies),
        gate=gate,
        network=NetworkConfig(hidden=8, message=6),
    )


def test_relay_is_played_to_the_end_as_often_as_asked() -> None:
    seen: list[int] = []
    results = play(make_config(GateConfig()), episodes=7, progress=seen)
    assert len(results) == 7
    assert seen == list(range(1, 8))
    for result in results:
        assert result.length == diameter(AGENTS) + 2
        assert result.agent_steps == AGENTS * result.length
        assert 0.0 <= result.episode_return <= 1.0


def test_equal_seeds_give_equal_results() -> None:
    config = make_config(GateConfig())
    assert play(config, episodes=4) == play(config, episodes=4)


@pytest.mark.parametrize(("gate", "degree"), [("open", len(offsets(AGENTS))), ("closed", 0)])
def test_out_degree_and_bytes_count_open_edges(gate: str, degree: int) -> None:
    config = make_config(GateConfig(mode=gate))  # type: ignore[arg-type]  # from the parameters above
    for result in play(config, episodes=2):
        assert result.out_degree == degree
        assert result.message_bytes == result.edges_open * 6 * 2  # float16


def test_who_watches_sees_every_step_and_the_edges_that_are_counted() -> None:
    """Three copies play five episodes: two of them take a second one, and the third rests."""
    config = dataclasses.replace(make_config(GateConfig()), seed=3)
    env = spec_of(config.env, AGENTS)
    spec = PolicySpec.of(config.network, env.observation_dim, env.num_actions)
    policy = PolicyFile(spec, initialise(spec, np.random.default_rng(2)), 0, {})

    def run(watch: Callable[[SimulatedStep], None] | None) -> list[SimulatedEpisode]:
        copies = make_copies(config.env, AGENTS, config.seed)
        return simulate(config, policy, copies, 5, watch=watch)

    steps: list[SimulatedStep] = []
    results = run(steps.append)
    assert results == run(None)
    lengths = Counter(number for step in steps for number in step.episodes_E.tolist())
    assert lengths.pop(-1) == diameter(AGENTS) + 2
    assert lengths == dict.fromkeys(range(5), diameter(AGENTS) + 2)
    opened = [int(step.open_ENK[step.episodes_E >= 0].sum()) for step in steps]
    assert 0 < sum(opened) == sum(result.edges_open for result in results)
    assert all((step.open_ENK <= step.allowed_ENK).all() for step in steps)
    assert all((step.alive_EN[step.episodes_E >= 0]).all() for step in steps)


def test_a_simulation_plays_the_episodes_that_a_world_plays() -> None:
    """Copies whose episodes are short take more of them, and opponents take turns in that order."""
    envs = [ScriptedEnv(*lengths) for lengths in ((5, 1), (1, 2, 3), (2, 7))]
    opponents = OpponentSchedule.parse("random+scripted+idqn")
    rules = dataclasses.replace(make_rules(train_steps=0), opponents=opponents)
    world = make_world(*envs, rules=rules)
    world.evaluate(7)
    played = [(r.length, r.opponent) for r in results_of(play_out(world, copies=3))]
    spec = PolicySpec.of(NetworkConfig(hidden=8, message=6), 3, 4)
    policy = PolicyFile(spec, initialise(spec, np.random.default_rng(0)), 0, {})
    config = dataclasses.replace(make_config(GateConfig()), num_agents=NUM_AGENTS)
    again = [ScriptedEnv(*lengths) for lengths in ((5, 1), (1, 2, 3), (2, 7))]
    results = simulate(config, policy, Copies(again, seed=0), 7, opponents=opponents)
    assert [(r.length, r.opponent) for r in results] == played
    assert (
        sum(r.agent_steps for r in results)
        == world.kill.aftermath.figures()["evaluated_agent_steps"]
    )
    assert [len(env.played) for env in again] == [len(env.played) for env in envs]
    shares = [sum(r.opponent == i for r in results) for i in range(3)]
    assert sorted(shares) == [2, 2, 3]


def test_nine_episodes_of_three_opponents_are_three_each() -> None:
    opponents = OpponentSchedule.parse("random+scripted+idqn")
    spec = PolicySpec.of(NetworkConfig(hidden=8, message=6), 3, 4)
    policy = PolicyFile(spec, initialise(spec, np.random.default_rng(0)), 0, {})
    config = dataclasses.replace(make_config(GateConfig()), num_agents=NUM_AGENTS)
    envs = [ScriptedEnv(*lengths) for lengths in ((2, 1), (1, 1), (3, 2), (1, 4))]
    results = simulate(config, policy, Copies(envs, seed=0), 9, opponents=opponents)
    assert [sum(r.opponent == i for r in results) for i in range(3)] == [3, 3, 3]
