import numpy as np
import pytest

from agents.backbone import diameter, offsets
from agents.policy import PolicyFile, PolicySpec, initialise
from configs.schema import EnvConfig, GateConfig, NetworkConfig, RunConfig
from envs.registry import make_copies, spec_of
from learner.simulate import SimulatedEpisode, simulate

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
