"""What the neighbours know of a beacon: the one that was said last, as agents/core.py says it.

    z of all steps, said before -> hold -> said at each step

An agent says its beacon when one of its entries has moved by more than `network.beacon_delta` since
it was said last, in every step or in every `network.beacon_period`-th; until then its neighbours
score with what they have. The gradient goes to the beacon that was said, however long ago: to where
it came from, and not through the rule.

Dimension key: T = time, B = batch, N = agents, Z = beacon.
"""

import torch
from torch import Tensor


def hold(
    beacons_TBNZ: Tensor, said_BNZ: Tensor, delta: float, period: int, step_B: Tensor
) -> Tensor:
    """[T, B, N, Z] the beacon that was said last, at each step and including it.

    Args:
        beacons_TBNZ: the agents' beacons as they cross the wire.
        said_BNZ: what was said before the first step; zeros where an episode begins.
        delta: largest change of an entry that is not said.
        period: steps of an episode after which a change may be said.
        step_B: int64: of its episode, the first of these steps.
    """
    if delta == 0.0 and period == 1:
        return beacons_TBNZ  # every change is said
    steps_TB = step_B + torch.arange(len(beacons_TBNZ), device=step_B.device).unsqueeze(1)
    due_TB1 = (steps_TB % period == 0).unsqueeze(-1)
    source_TBN = _sources(beacons_TBNZ.detach(), said_BNZ.detach(), delta, due_TB1)
    known = torch.cat((said_BNZ.unsqueeze(0), beacons_TBNZ))
    # One gather for all steps: backward adds what the steps want back to where it was said.
    return known.gather(0, source_TBN.unsqueeze(-1).expand_as(beacons_TBNZ))


def _sources(beacons_TBNZ: Tensor, said_BNZ: Tensor, delta: float, due_TB1: Tensor) -> Tensor:
    """[T, B, N] the step, counted from 1, in which what is known was said; 0 is before the first.

    Sequential, since what is news depends on what was said.
    """
    source_BN = torch.zeros(said_BNZ.shape[:-1], dtype=torch.int64, device=said_BNZ.device)
    sources: list[Tensor] = []
    for step, z_BNZ in enumerate(beacons_TBNZ.unbind(0), start=1):
        news_BN = ((z_BNZ - said_BNZ).abs().amax(dim=-1) > delta) & due_TB1[step - 1]
        said_BNZ = torch.where(news_BN.unsqueeze(-1), z_BNZ, said_BNZ)
        source_BN = torch.where(news_BN, step, source_BN)
        sources.append(source_BN)
    return torch.stack(sources)
