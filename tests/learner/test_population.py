"""Populations that the learner plays itself (`learner.also_agents`)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.policy import PolicySpec, views
from configs.arrays import FloatArray
from configs.columns import recorded
from configs.schema import AgentsConfig, EnvConfig, GateConfig, LearnerConfig, RunConfig
from envs import registry
from envs.base import EnvSpec
from envs.family import EnvFamily, NoOptions
from learner.comm.gates import GateRule, open_edges_of
from learner.comm.unroll import UnrollInput, begun_lives, unroll
from learner.experience.episode import Dimensions, Episode
from learner.learner import Learner
from learner.network import PolicyNetwork
from learner.population import Population
from tests.learner_helpers import (
    array,
    make_flat,
    make_network,
    make_spec,
    make_window,
    tensor,
    window_of,
)
from tests.rich_env import RichEnv

OWN, OTHER = 4, 9


class MasksAndRebirths(EnvFamily[NoOptions]):
    """Not every action is allowed, and some agents are away for a while."""

    Options = NoOptions
    is_heavy = False

    def spec(self, options: NoOptions, num_agents: int) -> EnvSpec:
        return self.make(options, num_agents).spec

    def make(self, options: NoOptions, num_agents: int) -> RichEnv:
        return RichEnv(num_agents=num_agents, masks=True, away={2: (0, 3), 3: (3,), 6: (1,)})


def make_run(
    also: Sequence[int] = (OTHER,),
    *,
    env: EnvConfig | None = None,
    gate: GateConfig | None = None,
    epsilon: float = 0.3,
    num_agents: int = OWN,
    seed: int = 0,
) -> RunConfig:
    return RunConfig(
        num_agents=num_agents,
        seed=seed,
        env=env or EnvConfig(name="relay", copies=3),
        gate=gate or GateConfig(),
        agents=AgentsConfig(epsilon_start=epsilon, epsilon_end=epsilon),
        learner=LearnerConfig(
            device="cpu", batch_size=4, learning_starts=4, also_agents=tuple(also)
        ),
    )


def spec_of(run: RunConfig) -> PolicySpec:
    env = registry.spec_of(run.env, run.num_agents)
    return PolicySpec.of(run.network, env.observation_dim, env.num_actions)


def make_policy(run: RunConfig, num_agents: int = OWN) -> PolicyNetwork:
    spec = spec_of(run)
    flat = make_flat(spec)
    flat[-1] = 0.0  # with these sizes scores lie around zero
    return make_network(spec, num_agents, flat)


def make_learner(run: RunConfig) -> Learner:
    spec = spec_of(run)
    env = registry.spec_of(run.env, run.num_agents)
    dimensions = Dimensions.of(env, recorded(run))
    return Learner(run, spec, dimensions, make_flat(spec, gain=1.0))


def play(run: RunConfig, num_agents: int, episodes: int, rule: GateRule) -> list[Episode]:
    """What a population plays: at least so many episodes."""
    population = Population(run, num_agents, torch.device("cpu"))
    population.owed = episodes
    population.catch_up(make_policy(run), rule, env_steps=0)
    return population.replay.oldest(1000).episodes


def fill(learner: Learner, run: RunConfig, count: int = 6) -> None:
    """Give it episodes of the run's own size."""
    for episode in play(run, run.num_agents, count, GateRule.of(run.comm, run.gate))[:count]:
        learner.add(episode)


def gradient_of(learner: Learner) -> list[FloatArray]:
    learner.compute_gradient()
    return [p.grad.numpy().copy() for p in learner.online.parameters() if p.grad is not None]


def test_a_policy_of_another_size_computes_what_one_made_for_that_size_does() -> None:
    spec = make_spec()
    network = make_network(spec, 6, make_flat(spec))
    window = make_window(spec, num_agents=11)
    rule = GateRule(timing="causal", mode="learned")
    found = unroll(network.of_size(11), window, rule)
    wanted = unroll(make_network(spec, 11, make_flat(spec)), window, rule)
    assert_array_equal(array(found.q_TBNA), array(wanted.q_TBNA))
    assert_array_equal(array(found.gates_TBNK), array(wanted.gates_TBNK))


def test_a_policy_of_another_size_has_the_very_same_parameters() -> None:
    network = PolicyNetwork(make_spec(), 6)
    other = network.of_size(11)
    own = list(network.parameters())
    assert [id(p) for p in other.parameters()] == [id(p) for p in own]
    assert network.of_size(11) is other
    assert network.of_size(6) is network
    assert len(list(network.named_parameters())) == len(network.spec.layout)
    with torch.no_grad():
        own[0].add_(1.0)
    assert_array_equal(array(next(other.parameters())), array(own[0]))


@pytest.mark.parametrize(
    "env",
    [
        EnvConfig(name="relay", copies=3),
        EnvConfig(name=f"{__name__}:MasksAndRebirths", copies=2),
        EnvConfig(name="battle", copies=2, max_cycles=12, opponent="random+scripted"),
    ],
    ids=["relay", "masks and rebirths", "battle"],
)
def test_what_a_population_records_is_what_the_policy_does_in_its_episodes(env: EnvConfig) -> None:
    run = make_run((OTHER,), env=env, epsilon=0.0, num_agents=8)
    rule = GateRule.of(run.comm, run.gate)
    episodes = play(run, OTHER, 4, rule)
    assert len(episodes) >= 4
    network = make_policy(run, OTHER)
    some_closed = some_open = False
    for episode in episodes:
        seen = tensor(episode.observations[:, None], np.float32)
        alive = tensor(episode.alive[:, None], np.bool_)
        window = UnrollInput(seen, alive, begins_TBN=begun_lives(alive))
        output = unroll(network, window, rule)
        lives_TN = episode.alive[:-1]
        q_TNA = array(output.q_TBNA[:-1, 0])
        assert q_TNA[lives_TN].std(-1).mean() > 0.1
        if "action_mask" in episode.columns:
            q_TNA = np.where(episode.columns["action_mask"][:-1], q_TNA, -np.inf)
        chosen_TN = np.take_along_axis(q_TNA, episode.actions[..., None], -1)[..., 0]
        # One call for all steps rounds a little differently, which decides between near equals.
        assert ((q_TNA.max(-1) - chosen_TN)[lives_TN] < 0.05).all()
        gates = tensor(episode.columns["gates"].astype(np.int64), np.int64)
        open_TNK = array(open_edges_of(gates, network.scheme.graph.num_edges))
        assert (open_TNK == (array(output.gates_TBNK[:-1, 0]) > 0.0)).mean() > 0.99
        some_open |= bool(open_TNK[lives_TN].any())
        some_closed |= not open_TNK[lives_TN].all()
        assert not episode.actions[~lives_TN].any()
    assert some_open, "gates that never differ prove nothing"
    assert some_closed, "gates that never differ prove nothing"


def test_a_population_hears_what_its_agents_did() -> None:
    run = dataclasses.replace(make_run(epsilon=0.0), comm="mfq")
    env = registry.spec_of(run.env, run.num_agents)
    spec = PolicySpec.of(run.network, env.observation_dim, env.num_actions, comm="mfq")
    flat = make_flat(spec)
    for layer in ("mean_hidden.weight", "mean.weight"):
        views(spec, flat)[layer][...] *= 5.0  # what others did decides
    views(spec, flat)["q_out.bias"][1] += 0.5
    network, rule = make_network(spec, OWN, flat), GateRule.of(run.comm, run.gate)
    population = Population(run, OTHER, torch.device("cpu"))
    population.owed = 4
    population.catch_up(network, rule, env_steps=0)
    episodes = population.replay.oldest(1000).episodes
    assert len(episodes) >= 4
    matters = False
    for episode in episodes:
        window = window_of(spec, episode)
        q_TNA = array(unroll(network.of_size(OTHER), window, rule).q_TBNA[:, 0])
        chosen_TN = np.take_along_axis(q_TNA, episode.actions[..., None], -1)[..., 0]
        assert_allclose(chosen_TN, q_TNA.max(-1), atol=1e-3)
        assert window.actions_TBN is not None
        other = dataclasses.replace(window, actions_TBN=(window.actions_TBN + 1) % env.num_actions)
        moved_TNA = array(unroll(network.of_size(OTHER), other, rule).q_TBNA[:, 0])
        matters |= bool((moved_TNA.argmax(-1) != q_TNA.argmax(-1)).any())
    assert matters, "what was done must decide"


def test_populations_explore_as_much_as_the_run_does() -> None:
    rule = GateRule(timing="causal", mode="open")

    def actions(epsilon: float) -> list[int]:
        episodes = play(make_run(epsilon=epsilon), OTHER, 60, rule)
        return [int(a) for episode in episodes for a in np.unique(episode.actions)]

    shares = np.bincount(actions(1.0), minlength=4)
    assert shares.min() == shares.max(), "all actions are drawn in every episode"
    assert len(actions(0.0)) < len(actions(1.0))


def test_a_population_plays_an_episode_for_each_of_the_runs_and_as_many_as_an_update_needs() -> (
    None
):
    run = make_run()
    learner = make_learner(run)
    (population,) = learner.populations
    fill(learner, run, 4)
    assert len(population.replay) == 0, "nothing is played before an update asks for it"
    learner.update()
    assert population.owed <= 0
    before = len(population.replay)
    assert before >= 4
    fill(learner, run, 12)
    learner.update()
    assert 16 <= len(population.replay) < 16 + run.env.copies


def test_each_population_has_the_same_weight_in_an_update() -> None:
    # Gates that are always open draw no noise, and whole replays make all batches alike.
    gate = GateConfig(mode="open")
    gradients: list[list[FloatArray]] = []
    for also, size in (((), OWN), ((), OTHER), ((OTHER,), OWN)):
        run = make_run(also, num_agents=size, gate=gate)
        learner = make_learner(run)
        fill(learner, make_run(num_agents=size, gate=gate), 4)
        for population in learner.populations:
            for episode in play(
                make_run(num_agents=OTHER, gate=gate), OTHER, 4, GateRule.of("sops", gate)
            )[:4]:
                population.replay.add(episode)
            population.owed = 0
        gradients.append(gradient_of(learner))
    small, large, both = gradients
    for a, b, mean in zip(small, large, both, strict=True):
        assert_allclose(mean, (a + b) / 2, rtol=1e-4, atol=1e-6)


def test_runs_with_populations_depend_on_their_seed_alone() -> None:
    def flat_after(seed: int) -> FloatArray:
        run = make_run((OTHER, 5), seed=seed)
        learner = make_learner(run)
        fill(learner, run)
        for _ in range(3):
            learner.update()
        return learner.parameters_flat()

    assert_array_equal(flat_after(0), flat_after(0))
    assert not np.array_equal(flat_after(0), flat_after(1))


def test_a_resumed_run_plays_other_episodes() -> None:
    run = make_run()
    rule = GateRule(timing="causal", mode="open")
    first, second = (
        play(dataclasses.replace(run, life=life), OTHER, 6, rule)[0].states for life in (0, 1)
    )
    again = play(run, OTHER, 6, rule)[0].states
    assert_array_equal(first, again)
    assert not np.array_equal(first, second)
