"""QPLEX: IGM by brute force, where gradients flow, its targets, and a game that no monotonic mixer
can fit.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn
from torch.nn import functional

from configs.algorithms.qplex import QplexOptions
from configs.schema import GateConfig, LearnerConfig
from learner.algorithms.base import Setup
from learner.algorithms.qplex import Attention, QplexMixer
from learner.experience.episode import Dimensions
from learner.experience.part import Part
from learner.initialisation import initialise_linear_layers
from learner.learner import Learner
from learner.ranks import shared_out
from tests.learner.algorithms.matrix_game import NOT_MONOTONIC, greedy_actions, trained
from tests.learner_helpers import (
    DIMENSIONS,
    array,
    load_part,
    make_config,
    make_episode,
    make_flat,
    make_spec,
)

VARIANTS = (
    "variant=dmaq",
    "variant=dmaq,weighted_head=false,advantage_layers=2,advantage_embed=5",
    "variant=qatten,heads=3",
    "variant=qatten,weighted_head=false,advantage_layers=3,kernels=2",
)
AGENTS, ACTIONS, STATE = 3, 4, 5


def settings(options: str = "", **others: Any) -> LearnerConfig:
    return LearnerConfig(
        device="cpu",
        algorithm="qplex",
        options=options,
        batch_size=4,
        learning_starts=1,
        gamma=0.9,
        mixing_embed=6,
        hypernet_embed=7,
        target_update_period=10_000,
        **others,
    )


def make_learner(config: LearnerConfig, episodes: int = 4) -> Learner:
    spec = make_spec()
    run = make_config(gate=GateConfig(mode="open"), learner=config)
    learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))
    for number in range(episodes):
        lifetimes = (6, 3, 0, 6, 5, 1) if number % 2 else None
        learner.add(make_episode(number, lifetimes=lifetimes, terminated=number % 3 == 0))
    return learner


def make_mixer(options: QplexOptions, seed: int = 0) -> QplexMixer:
    sizes = Dimensions(num_agents=AGENTS, observation_dim=5, num_actions=ACTIONS, state_dim=STATE)
    run = make_config(learner=settings())
    mixer = QplexMixer(Setup(run=run, spec=make_spec(), dimensions=sizes, options=options))
    initialise_linear_layers(mixer, torch.Generator().manual_seed(seed))
    for parameter in mixer.parameters():
        parameter.data.mul_(3.0)
    return mixer


def options_of(text: str) -> QplexOptions:
    return make_learner(settings(text), episodes=0).algorithm.options


def q_tot(
    mixer: nn.Module, q_NA: Tensor, actions: tuple[int, ...], state: Tensor, seen: Tensor
) -> float:
    chosen = torch.tensor(actions)
    value, _ = mixer(
        q_NA.gather(-1, chosen.unsqueeze(-1)).squeeze(-1),
        q_NA.amax(-1),
        functional.one_hot(chosen, q_NA.shape[-1]).float(),
        state,
        seen,
    )
    return float(value)


@pytest.mark.parametrize("text", VARIANTS)
@torch.no_grad()
def test_the_best_joint_action_of_all_is_everybodys_own_best(text: str) -> None:
    noise = torch.Generator().manual_seed(1)
    depends_on_others = False
    for seed in range(5):
        mixer = make_mixer(options_of(text), seed)
        q_NA = 3.0 * torch.randn(AGENTS, ACTIONS, generator=noise)
        state, seen = torch.randn(STATE, generator=noise), torch.randn(AGENTS, 5, generator=noise)
        joint = list(product(range(ACTIONS), repeat=AGENTS))
        values = [q_tot(mixer, q_NA, actions, state, seen) for actions in joint]
        assert joint[int(np.argmax(values))] == tuple(int(action) for action in q_NA.argmax(-1))
        # It is no sum: what agent 0 loses by another action depends on what the others do.
        loss = np.array(values).reshape(ACTIONS, -1)
        depends_on_others |= bool(np.ptp(loss[0] - loss[1]) > 1e-3)
    assert depends_on_others


@pytest.mark.parametrize("text", VARIANTS)
@torch.no_grad()
def test_the_mixer_equals_a_calculation_agent_by_agent(text: str) -> None:
    mixer = make_mixer(options_of(text))
    noise = torch.Generator().manual_seed(2)
    q_NA = torch.randn(AGENTS, ACTIONS, generator=noise)
    state, seen = torch.randn(STATE, generator=noise), torch.randn(AGENTS, 5, generator=noise)
    actions = (2, 0, 3)
    one_hot = functional.one_hot(torch.tensor(actions), ACTIONS).float()
    if mixer.weights is None:
        w, v = torch.ones(AGENTS), torch.zeros(AGENTS)
    else:
        w, v, _ = mixer.weights(state, seen)
    lambdas = mixer.lambdas
    total = 0.0
    for i, action in enumerate(actions):
        weight = 0.0
        for key, agents, both in zip(lambdas.keys, lambdas.agents, lambdas.actions, strict=True):
            one = both(torch.cat((state, one_hot.flatten())))[i].sigmoid()
            weight += float(key(state).abs() * agents(state)[i].sigmoid() * one)
        best = float(w[i] * q_NA[i].max() + v[i])
        taken = float(w[i] * q_NA[i, action] + v[i])
        assert weight > 0.0
        total += best + weight * (taken - best)
    assert q_tot(mixer, q_NA, actions, state, seen) == pytest.approx(total, rel=1e-4)


@torch.no_grad()
def test_attention_weighs_agents_by_what_they_see() -> None:
    head = Attention(AGENTS, STATE, 5, embed=6, hidden=7, heads=2, weighted=False)
    initialise_linear_layers(head, torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(3)
    state, seen = torch.randn(STATE, generator=noise), torch.randn(AGENTS, 5, generator=noise)
    w, v, logits = head(state, seen)
    expected, squares = np.zeros(AGENTS), 0.0
    for selector, key in zip(head.selectors, head.keys, strict=True):
        one = np.array([float(key(seen[i]) @ selector(state)) for i in range(AGENTS)])
        expected += np.exp(one / 6**0.5) / np.exp(one / 6**0.5).sum()
        squares += float((one**2).mean())
    assert_allclose(array(w), expected, rtol=1e-4)
    assert float(logits) == pytest.approx(squares, rel=1e-4)
    assert_allclose(array(v), np.full(AGENTS, float(head.v(state)) / AGENTS), rtol=1e-5)
    moved, _, _ = head(state, seen[[1, 0, 2]])
    assert_allclose(array(moved), array(w[[1, 0, 2]]), rtol=1e-5)


@pytest.mark.parametrize("text", VARIANTS)
def test_agents_learn_through_the_sum_and_lambda_through_its_own_parameters(text: str) -> None:
    mixer = make_mixer(options_of(text))
    noise = torch.Generator().manual_seed(4)
    q_N = torch.randn(AGENTS, generator=noise).requires_grad_()
    best_N = q_N.detach() + torch.tensor([0.5, 0.0, 2.0])
    state, seen = torch.randn(STATE, generator=noise), torch.randn(AGENTS, 5, generator=noise)
    one_hot = torch.eye(ACTIONS)[[2, 0, 3]]
    value, _ = mixer(q_N, best_N, one_hot, state, seen)
    torch.autograd.backward(value)
    assert q_N.grad is not None
    w = torch.ones(AGENTS) if mixer.weights is None else mixer.weights(state, seen)[0].detach()
    assert_allclose(array(q_N.grad), array(w), rtol=1e-6, err_msg="as in a weighted sum")
    assert all(
        p.grad is not None and bool(p.grad.any()) for p in mixer.lambdas.actions[0].parameters()
    )


@pytest.mark.parametrize("text", VARIANTS)
@pytest.mark.parametrize("double_q", [True, False])
@torch.no_grad()
def test_the_loss_equals_a_calculation_step_by_step(text: str, double_q: bool) -> None:
    learner = make_learner(settings(text, double_q=double_q), episodes=0)
    learner.add(make_episode(3, length=7, lifetimes=(8, 4, 0, 8, 6, 1)))
    noise = torch.Generator().manual_seed(5)
    for parameter in learner.target.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
    part, algorithm = whole(learner), learner.algorithm
    online, target = (
        algorithm.unroll_deployed(policy, part).q_TBNA[:, 0]
        for policy in (algorithm.policy, algorithm.target_policy)
    )
    alive, states, seen = part.alive[:, 0], part.states[:, 0], part.observations[:, 0]

    def value(name: str, q_TNA: Tensor, t: int, actions_N: Tensor) -> float:
        mixer = (learner.online if name == "online" else learner.target)["mixer"]
        chosen = q_TNA[t].gather(-1, actions_N.unsqueeze(-1)).squeeze(-1) * alive[t]
        one_hot = torch.eye(DIMENSIONS.num_actions)[actions_N] * alive[t].unsqueeze(-1)
        found, _ = mixer(chosen, q_TNA[t].amax(-1) * alive[t], one_hot, states[t], seen[t])
        return float(found)

    loss = 0.0
    for t in range(7):
        greedy = (online if double_q else target)[t + 1].argmax(-1)
        y = float(part.outcome.rewards_TBN[t, 0].mean())
        y += 0.9 * value("target", target, t + 1, greedy)
        loss += (value("online", online, t, part.actions[t, 0]) - y) ** 2
    with torch.enable_grad():
        metrics = learner.compute_gradient()
    assert metrics["loss"] == pytest.approx(loss / 7, rel=1e-3)
    assert ("attention_loss" in metrics) == ("qatten" in text)


def whole(learner: Learner) -> Part:
    """The replay's only episode as a part."""
    batch = learner.replay.sample(np.random.default_rng(0), 1)
    (share,) = shared_out(batch, 1, ranks=1)[0]
    run = make_config(learner=learner.config)
    return load_part(share, torch.Generator(), run)


@pytest.mark.parametrize("text", VARIANTS)
def test_a_fixed_batch_can_be_learnt_by_heart(text: str) -> None:
    learner = make_learner(replace(settings(text), learning_rate=1e-2))
    metrics = [learner.update() for _ in range(40)]
    assert metrics[-1]["loss"] < 0.6 * metrics[0]["loss"]
    assert all(np.isfinite(list(m.values())).all() for m in metrics)


@pytest.mark.slow
def test_it_learns_a_game_that_is_not_monotonic() -> None:
    # The sizes of the paper's own matrix game.
    options = "weighted_head=false,advantage_layers=3,kernels=10"
    learner = trained(settings(options), NOT_MONOTONIC, updates=200)
    assert greedy_actions(learner) == [0, 0]
    assert learner.update()["loss"] < 0.1, "of all nine joint actions, which pay from -3 to 2"
