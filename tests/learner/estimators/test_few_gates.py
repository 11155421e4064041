"""Estimators against the exact gradient of a loss that is a table over a few gates.

The scores of many rows are equal and their noise is not, so each row is a draw. The table goes on
between 0 and 1 as the multilinear function through its entries, which straight-through needs.
"""

import itertools
from collections.abc import Callable

import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from configs.schema import GateConfig
from learner.algorithms.policy_terms import Loss
from learner.comm.gates import GateRule, gate
from learner.estimators import arm, score_function
from learner.estimators.draw import Draw, Drawn, costs_to_go
from learner.experience.part import Divisors, Part
from learner.experience.replay import Replay
from learner.ranks import Share, shared_out
from tests.learner_helpers import array, load_part, make_config, make_episode

ROWS = 40_000
SCORES = torch.tensor([0.8, -0.4, 1.5, -1.1], dtype=torch.float64)
TABLE = 3.0 + torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(4)).double()
"""Losses lie around 3, as squared errors lie around something above 0."""
TIMING = "paper"  # an edge is paid for in its own step

Estimate = Callable[..., Loss]


def some_part(generator: torch.Generator) -> Part:
    """Of which the estimators read no more than the stream of noise."""
    replay = Replay(1)
    replay.add(make_episode(0))
    batch = replay.oldest(1).gather()
    share: Share = shared_out(batch, 1, 1)[0][0]
    return load_part(share, generator, make_config())


def table_loss(scores_TBNK: Tensor, budget: int) -> Callable[[Part, Divisors], Loss]:
    """The table's value of each row's gates; the second of its steps has no edges."""
    allowed = torch.ones_like(scores_TBNK, dtype=torch.bool)
    allowed[1] = False

    def loss_of(part: Part, divisors: Divisors) -> Loss:
        rule = GateRule(TIMING, "learned", 1.0, part.generator, budget=budget, draw=part.draw)
        gates_BK = gate(scores_TBNK, allowed, rule)[0, :, 0]
        values_B = torch.zeros_like(gates_BK[:, 0])
        for opened in itertools.product((0, 1), repeat=gates_BK.shape[1]):
            sides = [c if o else 1.0 - c for o, c in zip(opened, gates_BK.unbind(-1), strict=True)]
            index = opened + (0,) * (4 - len(opened))
            values_B = values_B + TABLE[index] * torch.stack(sides).prod(0)
        part.charge(values_B.unsqueeze(0), divisors.steps)
        return Loss(values_B.sum() / divisors.steps, {})

    return loss_of


def estimates(estimate: Estimate | None, scores_K: Tensor = SCORES, budget: int = 0) -> Tensor:
    """[ROWS, K] the gradient by each draw; None: straight-through."""
    scores = scores_K.expand(2, ROWS, 1, len(scores_K)).clone().requires_grad_()
    loss_of = table_loss(scores, budget)
    part = some_part(torch.Generator().manual_seed(11))
    one = Divisors(torch.ones(()), torch.ones(()))
    if estimate is None:
        total = loss_of(part, one).total
    else:
        gate_config = GateConfig(timing=TIMING, budget=budget)
        total = estimate(loss_of, part, one, gate_config).total
    (gradient,) = torch.autograd.grad(total, scores)
    assert bool((gradient[1] == 0.0).all()), "edges that cannot be used"
    return gradient[0, :, 0]


def exact(scores_K: Tensor) -> Tensor:
    """[K] by all 2^K configurations."""
    scores_K = scores_K.clone().requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for opened in itertools.product((0, 1), repeat=4):
        signs = torch.tensor([1.0 if o else -1.0 for o in opened], dtype=torch.float64)
        expected = expected + TABLE[opened] * torch.sigmoid(signs * scores_K).prod()
    (gradient,) = torch.autograd.grad(expected, scores_K)
    return gradient


def errors_of(rows: Tensor) -> Tensor:
    """[K] standard errors of the mean."""
    return rows.std(0) / len(rows) ** 0.5


def spread(rows: Tensor) -> float:
    """Variance of one draw's gradient, summed over the gates."""
    return float(rows.var(0).sum())


def plain(scores_K: Tensor = SCORES) -> Tensor:
    """[ROWS, K] REINFORCE without a baseline."""
    uniform = torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    opened = uniform < torch.sigmoid(scores_K)
    losses = TABLE[tuple(opened.long().unbind(-1))]
    return losses.unsqueeze(-1) * (opened.double() - torch.sigmoid(scores_K))


@pytest.mark.parametrize("estimate", [score_function.estimate, arm.estimate])
def test_the_mean_over_draws_is_the_exact_gradient(estimate: Estimate) -> None:
    rows = estimates(estimate)
    assert bool(((rows.mean(0) - exact(SCORES)).abs() < 4.0 * errors_of(rows)).all())
    # The draws are enough to tell: an error of a tenth would show.
    assert float((errors_of(rows) / exact(SCORES).abs().mean()).max()) < 0.03


def test_both_vary_less_than_plain_reinforce_whose_mean_they_share() -> None:
    rows = plain()
    assert bool(((rows.mean(0) - exact(SCORES)).abs() < 4.0 * errors_of(rows)).all())
    assert spread(estimates(arm.estimate)) < 0.5 * spread(rows)
    assert spread(estimates(score_function.estimate)) < 0.5 * spread(rows)


def test_straight_through_is_off_by_more_than_chance() -> None:
    rows = estimates(None)
    off = (rows.mean(0) - exact(SCORES)).abs()
    assert bool((off > 10.0 * errors_of(rows)).any())
    # It varies least, which is what it is for.
    assert spread(rows) < spread(estimates(arm.estimate))


def exact_of_two_with_a_budget_of_one(scores_K: Tensor) -> Tensor:
    """[2] gates of which the better one opens, by integrals over the noisy score of each."""
    scores_K = scores_K.clone().requires_grad_()
    y = torch.linspace(0.0, 60.0, 60_001, dtype=torch.float64)
    alone: list[Tensor] = []
    for own, rival in ((0, 1), (1, 0)):
        ahead, behind = torch.sigmoid(y - scores_K[own]), torch.sigmoid(scores_K[own] - y)
        density = ahead * behind * torch.sigmoid(y - scores_K[rival])
        alone.append(torch.trapezoid(density, y))
    none = torch.sigmoid(-scores_K).prod()
    assert float((alone[0] + alone[1] + none).detach()) == pytest.approx(1.0, abs=1e-7)
    expected = (
        TABLE[1, 0, 0, 0] * alone[0] + TABLE[0, 1, 0, 0] * alone[1] + TABLE[0, 0, 0, 0] * none
    )
    (gradient,) = torch.autograd.grad(expected, scores_K)
    return gradient


@pytest.mark.parametrize("estimate", [score_function.estimate, arm.estimate])
def test_a_budget_leaves_the_mean_exact(estimate: Estimate) -> None:
    scores = torch.tensor([0.8, 0.3], dtype=torch.float64)
    rows = estimates(estimate, scores, budget=1)
    expected = exact_of_two_with_a_budget_of_one(scores)
    assert bool(((rows.mean(0) - expected).abs() < 4.0 * errors_of(rows)).all())
    assert float((errors_of(rows) / expected.abs().max()).max()) < 0.05


def test_an_edge_answers_for_the_steps_that_it_can_reach() -> None:
    costs = torch.tensor([[1.0], [2.0], [4.0]])
    assert_allclose(array(costs_to_go(costs, "causal")).ravel(), [6.0, 4.0, 0.0, 0.0])
    assert_allclose(array(costs_to_go(costs, "paper")).ravel(), [7.0, 6.0, 4.0, 0.0])


def test_gates_that_no_noise_has_drawn_are_not_pushed() -> None:
    scores = torch.zeros(2, 3, 1, 4, requires_grad=True)
    everything = torch.ones(2, 3, 1, 4, dtype=torch.bool)
    draw = Draw(1.0)
    rule = GateRule(
        "causal",
        "learned",
        noise=torch.Generator().manual_seed(0),
        noisy_B=torch.tensor([True, False, True]),
        recorded_TBNK=everything[:1],
        draw=draw,
    )
    gates = gate(scores, everything, rule)
    assert not gates.requires_grad
    drawn: Drawn = draw.gates
    assert_array_equal(
        array(drawn.counts_TBNK[:, :, 0, 0]), [[False, False, False], [True, False, True]]
    )
