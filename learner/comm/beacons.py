"""What the neighbours know of a beacon: the one that was said last, as agents/core.py says it.

    z of all steps, said before -> hold -> said at each step

An agent says its beacon when one of its entries has moved by more than `network.beacon_delta` since
it was said last; until then its neighbours score with what they have. The gradient goes to the
beacon that was said, however long ago: to where it came from, and not through the rule.

Dimension key: T = time, B = batch, N = agents, Z = beacon.
"""

import torch
from torch import Tensor


def hold(beacons_TBNZ: Tensor, said_BNZ: Tensor, delta: float) -> Tensor:
    """[T, B, N, Z] the beacon that was said last, at each step and including it.

    Args:
        beacons_TBNZ: the agents' beacons as they cross the wire.
        said_BNZ: what was said before the first step; zeros where an episode begins.
        delta: largest change of an entry that is not said.
    """
    if delta == 0.0:
        return beacons_TBNZ  # every change is said
    source_TBN = _sources(beacons_TBNZ.detach(), said_BNZ.detach(), delta)
    known = torch.cat((said_BNZ.unsqueeze(0), beacons_TBNZ))
    # One gather for all steps: backward adds what the steps want back to where it was said.
    return known.gather(0, source_TBN.unsqueeze(-1).expand_as(beacons_TBNZ))


def _sources(beacons_TBNZ: Tensor, said_BNZ: Tensor, delta: float) -> Tensor:
    """[T, B, N] the step, counted from 1, in which what is known was said; 0 is before the first.

    Sequential, since what is news depends on what was said.
    """
    source_BN = torch.zeros(said_BNZ.shape[:-1], dtype=torch.int64, device=said_BNZ.device)
    sources: list[Tensor] = []
    for step, z_BNZ in enumerate(beacons_TBNZ.unbind(0), start=1):
        news_BN = (z_BNZ - said_BNZ).abs().amax(dim=-1) > delta
        said_BNZ = torch.where(news_BN.unsqueeze(-1), z_BNZ, said_BNZ)
        source_BN = torch.where(news_BN, step, source_BN)
        sources.append(source_BN)
    return torch.stack(sources)
