import numpy as np
import pytest
import torch
from torch import Tensor

from learner.comm.beacons import hold

TIME, BATCH, AGENTS, BEACON = 12, 2, 3, 4
DELTA = 0.25
BEGIN_B = torch.zeros(BATCH, dtype=torch.int64)


def drifting(seed: int = 0) -> Tensor:
    """Beacons that move by less than DELTA in a step, and by more in a few."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(TIME, BATCH, AGENTS, BEACON, generator=generator) * 0.15
    return steps.cumsum(0).tanh()


def test_what_is_known_is_what_was_said_last() -> None:
    z_TBNZ, before_BNZ = drifting(), drifting(seed=1)[0]
    known = hold(z_TBNZ, before_BNZ, DELTA, 1, BEGIN_B)
    silent = 0
    for b, n in np.ndindex(BATCH, AGENTS):
        last = before_BNZ[b, n]
        for t in range(TIME):
            if float((z_TBNZ[t, b, n] - last).abs().max()) > DELTA:
                last = z_TBNZ[t, b, n]
            else:
                silent += 1
            assert torch.equal(known[t, b, n], last)
    assert 0 < silent < TIME * BATCH * AGENTS


def test_with_a_period_what_is_known_is_that_many_steps_old_at_most() -> None:
    z_TBNZ, nothing = drifting(), torch.zeros(BATCH, AGENTS, BEACON)
    known = hold(z_TBNZ, nothing, 0.0, 5, torch.tensor([0, 3]))
    for t in range(TIME):
        assert torch.equal(known[t, 0], z_TBNZ[t - t % 5, 0])
        said = t - (t + 3) % 5  # the window begins with the episode's fourth step
        assert torch.equal(known[t, 1], z_TBNZ[said, 1] if said >= 0 else nothing[1])


def test_without_a_threshold_every_change_is_said() -> None:
    z_TBNZ = drifting()
    assert hold(z_TBNZ, torch.zeros(BATCH, AGENTS, BEACON), 0.0, 1, BEGIN_B) is z_TBNZ


@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize("split", [1, 5, 11])
def test_a_sequence_equals_its_parts_that_hand_on_what_was_said(split: int, period: int) -> None:
    z_TBNZ, nothing = drifting(), torch.zeros(BATCH, AGENTS, BEACON)
    whole = hold(z_TBNZ, nothing, DELTA, period, BEGIN_B)
    first = hold(z_TBNZ[:split], nothing, DELTA, period, BEGIN_B)
    second = hold(z_TBNZ[split:], first[-1], DELTA, period, BEGIN_B + split)
    assert torch.equal(torch.cat((first, second)), whole)


def test_gradients_go_to_the_beacon_that_was_said() -> None:
    z_TBNZ = drifting().requires_grad_()
    before_BNZ = torch.zeros(BATCH, AGENTS, BEACON, requires_grad=True)
    known = hold(z_TBNZ, before_BNZ, DELTA, 1, BEGIN_B)
    weight = torch.rand(known.shape, generator=torch.Generator().manual_seed(3))
    after, initial = torch.autograd.grad((known * weight).sum(), (z_TBNZ, before_BNZ))
    expected, before = torch.zeros_like(z_TBNZ), torch.zeros_like(before_BNZ)
    for b, n in np.ndindex(BATCH, AGENTS):
        source = before[b, n]
        for t in range(TIME):
            if torch.equal(known[t, b, n], z_TBNZ[t, b, n]):
                source = expected[t, b, n]
            source += weight[t, b, n]
    torch.testing.assert_close(after, expected)
    torch.testing.assert_close(initial, before)
    assert bool((expected == 0).any())
