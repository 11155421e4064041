"""IPPO and MAPPO: on-policy to rounding, advantages by hand, a task whose optimum is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from configs.columns import LOG_PROB, VALUE
from configs.schema import GateConfig, LearnerConfig
from envs.base import Env
from envs.relay import Relay
from envs.spaces import Box
from learner.algorithms.policy_gradient import ADVANTAGE, TARGET, PolicyGradient
from learner.experience.episode import Dimensions, Episode
from learner.learner import Learner
from learner.policy_gradient.critic import Critic, ValueScale
from runtime.run.serial import SerialRun
from tests.learner_helpers import make_config
from tests.rich_env import RichEnv
from tests.test_rich_run import make_run, played

AGENTS = 6
EPISODES = 4
OPTIONS = f"episodes={EPISODES},epochs=1,minibatches=1"


def collected(
    env: Env | None = None, steps: int = 0, **given: Any
) -> tuple[SerialRun, list[Episode]]:
    """Episodes that real agents have played, with noise in their gates."""
    env = env or Relay(AGENTS)
    run = make_run(
        env,
        acting="sample",
        columns=(LOG_PROB,),
        train_steps=EPISODES * (steps or env.spec.episode_limit),
        **given,
    )
    return run, played(run)[:EPISODES]


def learner_of(
    run: SerialRun,
    algorithm: str = "mappo",
    options: str = OPTIONS,
    gate: GateConfig | None = None,
    **settings_given: Any,
) -> Learner:
    settings = LearnerConfig(device="cpu", algorithm=algorithm, options=options, gamma=0.9)
    settings = replace(settings, **settings_given)
    spec = run.rules.spec
    config = make_config(comm=run.rules.comm, learner=settings, gate=gate)
    config = replace(
        config,
        num_agents=AGENTS,
        network=replace(config.network, hidden=spec.hidden, message=spec.message),
    )
    sizes = Dimensions.of(run.copies.spec, run.rules.columns)
    return Learner(config, spec, sizes, run.parameters.flat)


@pytest.mark.parametrize(("algorithm", "steps"), [("ippo", 1), ("mappo", 1), ("happo", AGENTS + 1)])
def test_the_first_minibatch_is_on_policy_to_rounding_though_gates_had_noise(
    algorithm: str, steps: int
) -> None:
    run, episodes = collected()
    learner = learner_of(run, algorithm)
    for episode in episodes:
        learner.add(episode)
    assert learner.updates_owed == steps
    metrics = learner.update()
    assert metrics["policy_moved"] < 1e-7
    assert metrics["ratios_clipped"] == 0.0
    assert learner.updates_owed == steps - 1


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "happo"])
def test_real_numbers_are_on_policy_to_rounding(algorithm: str) -> None:
    box = Box((-1.0, 0.0, -5.0), (1.0, 5.0, 20.0))
    run, episodes = collected(RichEnv(actions=box, num_agents=AGENTS), steps=6)
    learner = learner_of(run, algorithm)
    for episode in episodes:
        learner.add(episode)
    before = learner.parameters_flat()
    metrics = learner.update()
    assert metrics["policy_moved"] < 1e-7
    assert metrics["ratios_clipped"] == 0.0
    assert np.isfinite(metrics["entropy"])
    assert (learner.parameters_flat() != before).any()


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "happo"])
def test_gates_are_learned_from_a_rollout(algorithm: str) -> None:
    run, episodes = collected()
    gate = GateConfig(noise_share=0.5, price=0.01, price_loss=100.0)
    learner = learner_of(run, algorithm, gate=gate)
    for episode in episodes:
        learner.add(episode)
    scorer = {k: p for k, p in learner.network.named_parameters() if k.startswith("scorer")}
    before = {name: parameter.detach().clone() for name, parameter in scorer.items()}
    learner.update()
    for name, parameter in scorer.items():
        assert not torch.equal(parameter, before[name]), name


def test_agents_act_by_the_newest_parameters_whatever_a_preset_averages() -> None:
    run, episodes = collected()
    learner = learner_of(run, average_rate=0.01)
    for episode in episodes:
        learner.add(episode)
    learner.update()
    assert_array_equal(learner.parameters_flat(), learner.network.to_flat())


def test_without_the_recorded_gates_it_would_not_be() -> None:
    run, episodes = collected()
    learner = learner_of(run)
    shut = [
        replace(e, columns={**e.columns, "gates": np.zeros_like(e.columns["gates"])})
        for e in episodes
    ]
    for episode in shut:
        learner.add(episode)
    assert learner.update()["policy_moved"] > 1e-5


@pytest.mark.parametrize("options", ["", ",normalise_values=true", ",reward=team", ",critic=gru"])
def test_a_rollout_has_advantages_of_mean_zero_and_targets_that_are_values_and_advantages(
    options: str,
) -> None:
    run, episodes = collected()
    learner = learner_of(run, options=f"{OPTIONS},gae_lambda=0.7{options}")
    algorithm = learner.algorithm
    assert isinstance(algorithm, PolicyGradient)
    found = algorithm.prepared(episodes)
    everything = np.concatenate([e.columns[ADVANTAGE.name].ravel() for e in found])
    assert everything.mean() == pytest.approx(0.0, abs=1e-5)
    assert everything.std() == pytest.approx(1.0, abs=1e-4)
    raw: list[float] = []
    for episode in found:
        values_TN, targets_TN = episode.columns[VALUE.name], episode.columns[TARGET.name]
        rewards_TN = episode.rewards
        if "team" in options:
            rewards_TN = np.broadcast_to(rewards_TN.mean(1, keepdims=True), rewards_TN.shape)
        later_N = np.zeros(AGENTS)
        for t in range(episode.length - 1, -1, -1):
            last = t == episode.length - 1
            following_N = 0.0 if last else values_TN[t + 1]  # the episode was terminated
            delta_N = rewards_TN[t] + 0.9 * following_N - values_TN[t]
            later_N = delta_N + 0.9 * 0.7 * later_N
            assert_allclose(targets_TN[t] - values_TN[t], later_N, atol=1e-5)
            raw += later_N.tolist()
    scaled = (np.array(raw) - np.mean(raw)) / np.std(raw)
    assert_allclose(sorted(scaled), sorted(everything), atol=1e-4)


def test_a_critic_with_memory_tells_moments_apart_that_look_alike() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
    seen = torch.zeros(3, 1, 2, 4)
    seen[0, 0, 0] = 1.0
    with torch.no_grad():
        plain, remembering = (Critic(4, 8, kind)(seen) for kind in ("mlp", "gru"))
    assert torch.equal(plain[2, 0, 0], plain[2, 0, 1])
    assert not torch.allclose(remembering[2, 0, 0], remembering[2, 0, 1], atol=1e-4)


def test_values_are_learned_at_the_scale_of_their_targets() -> None:
    scale, values = ValueScale(), torch.tensor([-1.0, 2.0])
    assert torch.equal(scale.scaled(values), values), "nothing is known yet"
    targets = 50.0 + 10.0 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        scale.learn(targets)
    scaled = scale.scaled(targets)
    assert scaled.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert scaled.std().item() == pytest.approx(1.0, abs=1e-2)
    assert_allclose(scale.unscaled(scaled).detach(), targets, rtol=1e-4)
    assert dict(scale.named_parameters()).keys() == {"mean", "square", "weight"}, "in checkpoints"
