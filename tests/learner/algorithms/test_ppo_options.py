"""Options of IPPO and MAPPO against numbers by hand: scaled values, Huber, entropy, masks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from configs.columns import ACTION_MASK, GATES, LOG_PROB, VALUE
from configs.schema import LearnerConfig
from learner.algorithms.actor_critic import ActorCritic
from learner.algorithms.base import Loss
from learner.algorithms.policy_gradient import ADVANTAGE, TARGET
from learner.experience.episode import Dimensions, Episode
from learner.experience.part import Divisors, Part
from learner.learner import Learner
from learner.policy_gradient.clipped import value_loss
from learner.policy_gradient.critic import ValueScale
from tests.learner_helpers import DIMENSIONS, array, make_config, make_episode, make_flat, make_spec
from tests.scheme_cases import Case

MASKED = replace(DIMENSIONS, columns=(GATES, ACTION_MASK, LOG_PROB))
RAW = replace(DIMENSIONS, columns=(GATES, LOG_PROB))
LIFETIMES = (6, 3, 0, 6, 5, 1)
FORBIDDEN = 3


def make_learner(options: str = "", sizes: Dimensions = RAW, algorithm: str = "mappo") -> Learner:
    """One whose agents prefer the first action: 2 to 1 to 1 to 1, whatever they see."""
    spec = make_spec()
    given = f"episodes=1,minibatches=1{options}"
    settings = LearnerConfig(device="cpu", algorithm=algorithm, options=given)
    learner = Learner(make_config(comm="none", learner=settings), spec, sizes, make_flat(spec))
    with torch.no_grad():
        learner.network.q_out.weight.zero_()
        learner.network.q_out.bias.copy_(torch.tensor([2.0, 1.0, 1.0, 1.0]).log())
    return learner


def algorithm_of(learner: Learner) -> ActorCritic:
    assert isinstance(learner.algorithm, ActorCritic)
    return learner.algorithm


def recorded(sizes: Dimensions = RAW, *, lifetimes: tuple[int, ...] | None = None) -> Episode:
    """An episode as old as the policy: log-probabilities are those of now."""
    episode = make_episode(3, lifetimes=lifetimes)
    chances = np.log(np.where(episode.actions == 0, 0.4, 0.2)).astype(np.float32)
    columns: dict[str, Any] = {**episode.columns, LOG_PROB.name: chances}
    if ACTION_MASK in sizes.columns:
        episode.actions[episode.actions == FORBIDDEN] = 0
        mask = np.repeat(episode.alive[..., None], sizes.num_actions, axis=-1).astype(np.uint8)
        mask[..., FORBIDDEN] = 0
        columns[ACTION_MASK.name] = mask
    return replace(episode, dimensions=sizes, columns=columns)


def loss_of(learner: Learner, episode: Episode) -> tuple[Part, Loss]:
    """Of an episode with advantages and targets."""
    algorithm = algorithm_of(learner)
    ((part, _),) = algorithm.parts_of(algorithm.prepared([episode]))
    divisors = Divisors(part.learns_TB.sum(), part.agent_mask_TBN.sum())
    return part, algorithm.loss(part, divisors)


@pytest.mark.parametrize("comm", ["full", "nvif"])
def test_ippos_critic_may_see_what_the_head_reads_beside_the_hidden_state(comm: str) -> None:
    case = Case(comm, "", "causal")
    spec = case.applied(make_spec())
    settings = LearnerConfig(
        device="cpu", algorithm="ippo", options="episodes=1,minibatches=1,sees=context,critic=mlp"
    )
    run = replace(make_config(comm=comm, learner=settings), comm_options=case.options)
    learner = Learner(run, spec, RAW, make_flat(spec))
    part, loss = loss_of(learner, recorded())
    algorithm = algorithm_of(learner)
    seen, dim = algorithm.seen(part), spec.observation_dim
    read = algorithm.unroll(part, gates="recorded").output.context_TBNC
    assert_allclose(array(seen[..., :dim]), array(part.observations))
    assert_allclose(array(seen[..., dim:]), array(read))
    assert seen.shape[-1] == dim + spec.context
    torch.autograd.backward(loss.total)
    critic = next(algorithm.online["critic"].parameters())
    assert critic.grad is not None
    assert critic.grad[:, dim:].any()


# --- values ---------------------------------------------------------------------------------------


def test_errors_beyond_huber_count_linearly_and_moves_beyond_clip_do_not_help() -> None:
    value, old = torch.tensor([3.0, 1.2, -4.0]), torch.tensor([1.0, 1.0, -1.0])
    target = torch.tensor([1.0, 1.0, 1.0])
    assert_allclose(value_loss(value, old, target), [2.0, 0.02, 12.5], rtol=1e-6)
    # |e| = 2, 0.2, 5: 0.5 e² up to 1, and |e| - 0.5 from there.
    assert_allclose(value_loss(value, old, target, huber=1.0), [1.5, 0.02, 4.5], rtol=1e-6)
    # Moved by at most 0.5 from what it was: 1.5, 1.2, -1.5, of which the larger error counts.
    assert_allclose(value_loss(value, old, target, clip=0.5), [2.0, 0.02, 12.5], rtol=1e-6)
    near = torch.tensor([1.0, 1.0, 1.0])
    assert_allclose(value_loss(near, old, target, clip=0.5), [0.0, 0.0, 1.125], rtol=1e-6)
    assert_allclose(value_loss(near, old, target, clip=0.5, huber=1.0), [0, 0, 1.0], rtol=1e-6)


def test_the_scale_of_values_follows_the_rollouts_slowly() -> None:
    scale = ValueScale()
    scale.learn(torch.tensor([1.0, 3.0]))  # mean 2, of squares 5: deviation 1
    assert_allclose(array(scale.scaled(torch.tensor([2.0, 4.0]))), [0.0, 2.0], atol=1e-5)
    scale.learn(torch.tensor([6.0, 10.0]))  # mean 8, of squares 68
    mean = (0.99 * 2.0 + 8.0) / 1.99
    deviation = ((0.99 * 5.0 + 68.0) / 1.99 - mean**2) ** 0.5
    found = array(scale.scaled(torch.tensor([mean, mean + deviation, 0.0])))
    assert_allclose(found, [0.0, 1.0, -mean / deviation], atol=1e-4)
    assert_allclose(array(scale.unscaled(torch.tensor([1.0]))), [mean + deviation], rtol=1e-5)


@pytest.mark.parametrize("options", ["", ",huber=0.3", ",normalise_values=true,huber=0.3"])
def test_the_critics_loss_is_the_one_by_hand(options: str) -> None:
    learner = make_learner(f"{options},value_coef=0.25")
    algorithm = algorithm_of(learner)
    part, loss = loss_of(learner, recorded(lifetimes=LIFETIMES))
    with torch.no_grad():
        said = array(algorithm.expected(part))[:-1]
    targets, lives = array(part.columns[TARGET.name]), array(part.agent_mask_TBN)
    if "normalise" in options:
        counted = targets[lives]
        # Of the one rollout that has been, so that these are the statistics themselves.
        deviation = max(counted.std(), 0.1)
        targets = (targets - counted.mean()) / deviation
        values = array(algorithm.values(part))[:-1]
        assert_allclose(values, counted.mean() + deviation * said, rtol=1e-3, atol=1e-4)
    errors = np.abs(said - targets)[lives]
    assert 0 < (errors > 0.3).sum() < errors.size
    by_hand = 0.5 * errors**2
    if "huber" in options:
        by_hand = np.where(errors > 0.3, 0.3 * (errors - 0.15), by_hand)
    assert loss.sums["value_loss"].item() == pytest.approx(by_hand.mean(), rel=1e-3)
    policy = loss.sums["policy_loss"] - 0.01 * loss.sums["entropy"]
    assert loss.sums["loss"].item() == pytest.approx(
        float(policy.detach()) + 0.25 * by_hand.mean(), rel=1e-3
    )


def test_the_first_values_are_those_of_the_rollout() -> None:
    """Where the scale changes after a rollout, what was expected in it does not."""
    learner = make_learner(",normalise_values=true")
    algorithm = algorithm_of(learner)
    ((part, _),) = algorithm.parts_of([recorded()])
    with torch.no_grad():
        before = array(algorithm.values(part))[:-1, 0]
    (episode,) = algorithm.prepared([recorded()])
    assert_allclose(episode.columns[VALUE.name], before, rtol=1e-5)


# --- entropy and masks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "chances"), [(RAW, [0.4, 0.2, 0.2, 0.2]), (MASKED, [0.5, 0.25, 0.25])]
)
def test_the_entropy_is_that_of_what_is_allowed(sizes: Dimensions, chances: list[float]) -> None:
    by_hand = -sum(p * np.log(p) for p in chances)
    totals: list[float] = []
    for weight in (0.0, 0.5):
        learner = make_learner(f",entropy={weight}", sizes)
        _, loss = loss_of(learner, recorded(sizes, lifetimes=LIFETIMES))
        assert loss.sums["entropy"].item() == pytest.approx(by_hand, rel=1e-5)
        totals.append(loss.sums["loss"].item())
    assert totals[0] - totals[1] == pytest.approx(0.5 * by_hand, rel=1e-4)


def test_the_entropy_pulls_chances_together() -> None:
    learner = make_learner(",entropy=0.5")
    (episode,) = algorithm_of(learner).prepared([recorded()])
    nothing = np.zeros_like(episode.columns[ADVANTAGE.name])
    ((part, _),) = algorithm_of(learner).parts_of([episode.with_column(ADVANTAGE, nothing)])
    divisors = Divisors(part.learns_TB.sum(), part.agent_mask_TBN.sum())
    loss = algorithm_of(learner).loss(part, divisors)
    (gradient,) = torch.autograd.grad(loss.sums["loss"], [learner.network.q_out.bias])
    # d(-H)/d logit = p (log p + H), times the weight.
    p = np.array([0.4, 0.2, 0.2, 0.2])
    entropy = -(p * np.log(p)).sum()
    assert_allclose(array(gradient), 0.5 * p * (np.log(p) + entropy), atol=1e-6)


@pytest.mark.parametrize("algorithm", ["ippo", "mappo"])
def test_what_is_not_allowed_has_no_gradient_and_its_logit_no_say(algorithm: str) -> None:
    found: list[dict[str, float]] = []
    for by in (0.0, 50.0):
        learner = make_learner(",entropy=0.1", MASKED, algorithm)
        with torch.no_grad():
            learner.network.q_out.bias[FORBIDDEN] += by
        _, loss = loss_of(learner, recorded(MASKED, lifetimes=LIFETIMES))
        bias = learner.network.q_out.bias
        (gradient,) = torch.autograd.grad(loss.sums["loss"], [bias], retain_graph=True)
        assert gradient[FORBIDDEN] == 0.0
        assert bool((gradient[:FORBIDDEN] != 0.0).all())
        found.append({name: value.item() for name, value in loss.sums.items()})
    assert found[0] == pytest.approx(found[1])
