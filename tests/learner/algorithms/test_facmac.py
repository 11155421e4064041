"""FACMAC: what its critic learns from, and what its policy climbs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from torch.nn import functional

from configs.algorithms.described import check
from configs.schema import GateConfig, LearnerConfig
from learner import learner as learner_module
from learner.algorithms.facmac import Critic, gumbel_one_hot, policy_value
from learner.comm.unroll import UnrollInput, unroll
from learner.experience.replay import Rows
from learner.initialisation import initialise_linear_layers
from learner.learner import Learner
from learner.mixers.qmix import QMixer
from tests.learner_helpers import (
    DIMENSIONS,
    array,
    make_config,
    make_episode,
    make_flat,
    make_spec,
    tensor,
)

SETTINGS = LearnerConfig(
    device="cpu",
    algorithm="facmac",
    batch_size=4,
    learning_starts=1,
    gamma=0.9,
    critic_hidden=9,
    target_update_period=10_000,
)


def make_learner(config: LearnerConfig = SETTINGS, *, episodes: int = 0) -> Learner:
    spec = make_spec()
    run = make_config(gate=GateConfig(mode="open"), learner=config)
    learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))
    for number in range(episodes):
        lifetimes = (6, 3, 0, 6, 5, 1) if number % 2 else None
        learner.add(make_episode(number, lifetimes=lifetimes, terminated=number % 3 == 0))
    return learner


# --- the policy's actions -------------------------------------------------------------------------


def test_actions_are_drawn_in_proportion_to_their_softmax() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0])
    drawn = gumbel_one_hot(
        logits.expand(200, 50, 2, 3), torch.Generator().manual_seed(0), Rows(0, 50, 50)
    )
    assert ((drawn == 0.0) | (drawn == 1.0)).all()
    assert (drawn.sum(-1) == 1.0).all()
    # 20 000 draws: a standard deviation is 0.004 at most.
    assert_allclose(array(drawn.mean((0, 1, 2))), array(logits.softmax(-1)), atol=0.015)


def test_the_gradient_is_that_of_the_softmax_that_was_drawn_from() -> None:
    logits = torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))

    def slope(weighted: Tensor, at: Tensor) -> Tensor:
        return torch.autograd.grad((weighted * weights).sum(), at)[0]

    hard_at = logits.clone().requires_grad_()
    hard = gumbel_one_hot(hard_at, torch.Generator().manual_seed(0), Rows(0, 3, 3))
    drawn = torch.empty(logits.shape).exponential_(generator=torch.Generator().manual_seed(0))
    soft_at = logits.clone().requires_grad_()
    soft = (soft_at - drawn.log()).softmax(-1)
    assert_allclose(array(slope(hard, hard_at)), array(slope(soft, soft_at)), rtol=1e-6)
    assert torch.equal(hard.argmax(-1), soft.argmax(-1))


def test_noise_does_not_depend_on_who_works_off_which_rows() -> None:
    logits = torch.zeros(3, 5, 2, 4)

    def drawn(rows: Rows) -> Tensor:
        return gumbel_one_hot(logits[:, rows.slice], torch.Generator().manual_seed(0), rows)

    whole = drawn(Rows(0, 5, 5))
    assert torch.equal(torch.cat((drawn(Rows(0, 2, 5)), drawn(Rows(2, 5, 5))), dim=1), whole)


def test_the_policys_value_teaches_the_policy_and_not_the_critic() -> None:
    critic, mixer = Critic(5, 4, 9), QMixer(3, 2, mixing_embed=6, hypernet_embed=7)
    for module in (critic, mixer):
        initialise_linear_layers(module, torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    observations, states = torch.randn(7, 2, 3, 5, generator=noise), torch.randn(7, 2, 2)
    one_hot = functional.one_hot(torch.randint(4, (7, 2, 3)), 4).float().requires_grad_()
    alive = torch.ones(7, 2, 3, dtype=torch.bool)
    alive[:, :, 1] = False
    value = policy_value(critic, mixer, observations, one_hot, alive, states)
    expected = mixer(critic(observations, one_hot) * alive, states)
    assert_allclose(array(value), array(expected), rtol=1e-6)
    torch.autograd.backward(value.sum())
    assert all(p.grad is None for module in (critic, mixer) for p in module.parameters())
    assert one_hot.grad is not None
    assert (one_hot.grad[:, :, [0, 2]] != 0.0).any(dim=-1).all()
    assert not one_hot.grad[:, :, 1].any(), "the dead do nothing"


def test_threads_that_share_a_batch_take_the_step_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "AGENT_STEPS_FOR_A_THREAD", 1)
    monkeypatch.setitem(learner_module.AGENT_STEPS_PER_PART, "cpu", 40)  # one row a part
    found: list[dict[str, float]] = []
    for workers in (1, 3):
        spec = make_spec()
        run = make_config(gate=GateConfig(mode="open"), learner=SETTINGS)
        learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0), workers=workers)
        for number in range(8):
            learner.add(make_episode(number))
        found.append([learner.update() for _ in range(20)][-1])
    assert found[1] == pytest.approx(found[0], rel=1e-3)


# --- in the learner -------------------------------------------------------------------------------


@pytest.mark.parametrize("terminated", [False, True])
@torch.no_grad()
def test_the_critics_target_is_what_the_target_policy_would_do(terminated: bool) -> None:
    learner = make_learner(replace(SETTINGS, batch_size=1))
    episode = make_episode(3, length=9, lifetimes=(10, 4, 0, 10, 7, 1), terminated=terminated)
    learner.add(episode)
    critic, target_critic = learner.online["critic"], learner.target["critic"]
    mixer, target_mixer = learner.online["mixer"], learner.target["mixer"]
    noise = torch.Generator().manual_seed(3)
    for module in (target_critic, target_mixer, learner.target["policy"]):
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
    batch = learner.replay.sample(np.random.default_rng(0), 1)
    seen = tensor(batch.observations, np.float32)
    alive = tensor(batch.alive, np.bool_)[:, 0]
    states = tensor(batch.states, np.float32)[:, 0]
    rule = learner.algorithm.rule()
    logits = unroll(
        learner.algorithm.target_policy, UnrollInput(seen, alive[:, None]), rule
    ).q_TBNA[:, 0]

    def q_tot(critic: torch.nn.Module, mixer: torch.nn.Module, t: int, actions: Tensor) -> float:
        one_hot = torch.eye(DIMENSIONS.num_actions)[actions]
        return float(mixer(critic(seen[t, 0], one_hot) * alive[t], states[t]))

    loss = 0.0
    for t in range(9):
        y = float(batch.rewards[t, 0].mean())
        if not batch.terminated[t, 0]:
            y += 0.9 * q_tot(target_critic, target_mixer, t + 1, logits[t + 1].argmax(-1))
        loss += (q_tot(critic, mixer, t, tensor(batch.actions[t, 0], np.int64)) - y) ** 2
    with torch.enable_grad():
        metrics = learner.compute_gradient()
    assert metrics["loss"] == pytest.approx(loss / 9, rel=1e-4)


def test_policy_and_critic_learn_from_their_own_losses() -> None:
    def gradients(reward_scale: float) -> dict[str, Tensor]:
        learner = make_learner(replace(SETTINGS, reward_scale=reward_scale), episodes=4)
        learner.compute_gradient()
        named = learner.online.named_parameters()
        return {name: p.grad for name, p in named if p.grad is not None}

    once, twice = gradients(1.0), gradients(2.0)
    # Rewards move the critic's targets; what the policy climbs is the critic as it is.
    for name, gradient in once.items():
        assert torch.equal(gradient, twice[name]) == name.startswith("policy."), name
    assert {name.partition(".")[0] for name in once} == {"policy", "mixer", "critic"}


@torch.no_grad()
def value_of_what_the_policy_does(learner: Learner) -> float:
    """Mean q_tot, by the critic, of the largest logits in four episodes of five steps."""
    batch = learner.replay.sample(np.random.default_rng(0), 4)
    seen, alive = tensor(batch.observations, np.float32), tensor(batch.alive, np.bool_)
    rule = learner.algorithm.rule()
    logits = unroll(learner.network, UnrollInput(seen, alive), rule).q_TBNA
    critic = learner.online["critic"]
    assert isinstance(critic, Critic)
    q_TBN = critic.of_actions(seen, logits.argmax(-1)) * alive
    return float(learner.online["mixer"](q_TBN, tensor(batch.states, np.float32)).mean())


def test_the_policy_comes_to_do_what_the_critic_values() -> None:
    learner = make_learner(replace(SETTINGS, learning_rate=1e-2, critic_rate=1e-6), episodes=4)
    before = value_of_what_the_policy_does(learner)
    for _ in range(40):
        learner.update()
    assert value_of_what_the_policy_does(learner) > before + 0.01


def test_critic_and_mixer_take_steps_of_their_own_size() -> None:
    learner = make_learner(replace(SETTINGS, learning_rate=1e-3, critic_rate=0.1), episodes=4)
    before = {name: p.detach().clone() for name, p in learner.online.named_parameters()}
    learner.update()
    # The first step of Adam is as long as its step size wherever a gradient is not tiny.
    lengths = {
        name: float((parameter.detach() - before[name]).abs().max())
        for name, parameter in learner.online.named_parameters()
    }
    for name in ("policy.encoder.weight", "policy.q_out.weight"):
        assert lengths[name] == pytest.approx(1e-3, rel=0.02)
    for name in ("critic.net.0.weight", "mixer.hyper_w_1.0.weight"):
        assert lengths[name] == pytest.approx(1e-4, rel=0.02)


def test_an_operator_that_would_have_no_say_is_refused() -> None:
    with pytest.raises(ValueError, match=r"algorithm facmac .*operator"):
        check(LearnerConfig(algorithm="facmac", operator="mellowmax"))
