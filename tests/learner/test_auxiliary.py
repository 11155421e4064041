import math

import torch
from numpy.testing import assert_allclose
from torch import Tensor

from learner.auxiliary import MessageContrast, StatePredictor
from tests.learner_helpers import array


def test_prediction_error_is_a_mean_over_the_state_and_counts_living_agents_only() -> None:
    predictor = StatePredictor(message=3, state_dim=2)
    for parameter in predictor.parameters():
        torch.nn.init.zeros_(parameter)
    messages = torch.randn(2, 1, 2, 3)
    states = torch.tensor([[[1.0, 3.0]], [[2.0, 0.0]]])
    mask = torch.tensor([[[True, True]], [[True, False]]])
    # (1 + 9) / 2 for two agents, 4 / 2 for one.
    assert predictor(messages, states, mask).tolist() == [[[5.0, 5.0]], [[2.0, 0.0]]]


def test_messages_that_hold_the_state_become_predictable() -> None:
    generator = torch.Generator().manual_seed(0)
    predictor = StatePredictor(message=4, state_dim=4)
    optimiser = torch.optim.Adam(predictor.parameters(), lr=1e-2)
    states = torch.randn(8, 4, 4, generator=generator)
    messages = states.unsqueeze(2).expand(8, 4, 3, 4)
    losses: list[float] = []
    for _ in range(200):
        loss = predictor(messages, states, torch.ones(8, 4, 3, dtype=torch.bool)).mean()
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
    assert losses[-1] < 0.1 * losses[0]


def make_contrast(*, diameter: int = 1, negatives: int = 5) -> MessageContrast:
    contrast = MessageContrast(4, negatives=negatives, temperature=0.5, diameter=diameter)
    torch.nn.init.eye_(contrast.projection.weight)
    torch.nn.init.zeros_(contrast.projection.bias)
    return contrast


def loss_of(contrast: MessageContrast, messages: Tensor, mask: Tensor) -> tuple[float, int]:
    total, count = contrast(messages, mask, torch.Generator().manual_seed(0))
    return float(total.detach()) / max(int(count), 1), int(count)


def test_contrast_of_equal_messages_is_the_logarithm_of_their_number() -> None:
    mask = torch.ones(6, 2, 3, dtype=torch.bool)
    loss, count = loss_of(make_contrast(), torch.ones(6, 2, 3, 4), mask)
    assert count == 12
    assert_allclose(loss, math.log(6), rtol=1e-5)


def test_contrast_is_anchor_against_negatives() -> None:
    """Steps 0..2 say +x and steps 3..5 say -x: only with steps that differ is the loss small."""
    messages = torch.zeros(6, 1, 3, 4)
    messages[:3, ..., 0], messages[3:, ..., 0] = 1.0, -1.0
    mask = torch.ones(6, 1, 3, dtype=torch.bool)
    loss, _ = loss_of(make_contrast(diameter=2), messages, mask)
    # All negatives are of the other sign: e^2 against e^2 + 5 e^-2.
    assert_allclose(loss, -math.log(math.exp(2) / (math.exp(2) + 5 * math.exp(-2))), rtol=1e-5)


def test_negatives_come_from_speakers_further_away_than_the_diameter() -> None:
    time, agents = 9, 4
    mask = torch.ones(time, 1, agents, dtype=torch.bool)
    mask[6] = False  # nobody speaks
    mask[:, :, 3] = False  # never speaks
    # Each message is the one-hot of nothing but its step being allowed: mark what must not be
    # drawn.
    for t in (0, 4, 8):
        messages = torch.zeros(time, 1, agents, 4)
        messages[..., 0] = 1.0
        far = [s for s in range(time) if abs(s - t) > 2 and s != 6]
        messages[far, :, :3] = torch.tensor([0.0, 1.0, 0.0, 0.0])
        contrast = make_contrast(diameter=2, negatives=200)
        weights = torch.zeros(time, 1)
        weights[t] = 1.0
        total = _loss_at(contrast, messages, mask, t)
        expected = -math.log(math.exp(2) / (math.exp(2) + 200.0))
        assert_allclose(total, expected, rtol=1e-4)


def _loss_at(contrast: MessageContrast, messages: Tensor, mask: Tensor, t: int) -> float:
    """The loss of step t alone, by what changes when its anchor and positive may not speak."""
    with_t, _ = contrast(messages, mask, torch.Generator().manual_seed(1))
    only = mask.clone()
    others = [s for s in range(len(mask)) if s != t]
    only[others, :, 1:] = False  # one speaker left: a negative, but no pair
    alone, count = contrast(messages, only, torch.Generator().manual_seed(1))
    assert int(count) == 1
    assert float(with_t.detach()) >= float(alone.detach())
    return float(alone.detach())


def test_steps_without_a_pair_or_without_far_steps_do_not_count() -> None:
    messages = torch.randn(4, 1, 3, 4)
    everyone = torch.ones(4, 1, 3, dtype=torch.bool)
    assert loss_of(make_contrast(diameter=4), messages, everyone) == (0.0, 0)
    alone = everyone.clone()
    alone[..., 1:] = False
    assert loss_of(make_contrast(), messages, alone) == (0.0, 0)


def test_contrast_trains_projection_and_messages() -> None:
    messages = torch.randn(6, 2, 3, 4, requires_grad=True)
    contrast = make_contrast()
    mask = torch.ones(6, 2, 3, dtype=torch.bool)
    total, _ = contrast(messages, mask, torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad(total, [messages, contrast.projection.weight])
    assert all(array(g).any() for g in gradients)
