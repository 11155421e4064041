"""How far q-values of agents and unroll may differ, derived from the rounding of messages.

    spacing of float16 × gain of the policy × entries that tip at once + float32's own

Agents (numpy) and unroll (torch) add up float32 products in different orders, so an entry of a
message comes out up to EPSILON apart. Rounded to float16, both are the same number, unless a middle
between two float16 numbers lies between them: then the entry tips, and what is heard differs by one
spacing. Messages are tanh, so entries lie in (-1, 1), where the spacing is at most 2^-11.

The gain is what a q-value owes to one entry of one message, own or heard, at the same step or after
a few: the largest change of any q when one entry moves, per unit. It is measured, policy by policy.

How many tip at once follows from chance: the middle lies within EPSILON for 2 EPSILON / 2^-11 of
the entries, an agent hears 1 + K messages, and all that it heard before weighs no more than what it
hears now, since an effect falls by more than half with each step. The number is the least that is
exceeded once in a thousand runs of so many agent-steps (Poisson).

Float32 messages cannot tip, nor can numbers of actions: FLOAT32 is all that is left.

Dimension key: T = time, B = entries that are moved, N = agents, D = observation features, A =
actions, M = message.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from learner.comm.gates import GateRule
from learner.comm.unroll import Carry, UnrollInput, unroll
from learner.network import PolicyNetwork

FLOAT32 = 1e-5
"""Sums in another order, of q-values in the tens at most."""
EPSILON = 2.0**-21
"""Largest difference of an entry of a message before it is rounded: eight roundings of float32."""
SPACING = 2.0**-11
"""Of float16 numbers between 1/2 and 1, the widest in (-1, 1)."""
NOW_AND_BEFORE = 2
"""What is heard now, and as much again for all that was heard before."""
_STEPS = 4
"""In which the effect of an entry is looked for; it is largest in the first."""
_MOVED = 64
_RARE = 1e-3


def bound(network: PolicyNetwork, window: UnrollInput, rule: GateRule, agent_steps: int) -> float:
    """Largest difference of q-values that rounding explains.

    Args:
        network: of the policy, with its spec: the type of messages matters.
        window: an episode, [T, 1, N, D].
        agent_steps: of all episodes that are compared.
    """
    if network.spec.message_dtype == "float32" or network.scheme.says_actions:
        return FLOAT32
    heard = (1 + network.scheme.graph.num_edges) * network.spec.message * NOW_AND_BEFORE
    tips = most_tips(heard * 2 * EPSILON / SPACING, _RARE / agent_steps)
    return FLOAT32 + tips * SPACING * gain(network, window, rule)


def most_tips(mean: float, chance: float) -> int:
    """The least number that a Poisson count of this mean exceeds with no more than this chance."""
    number, term = 0, math.exp(-mean)
    left = 1.0 - term
    while left > chance:
        number += 1
        term *= mean / number
        left -= term
    return number


@torch.no_grad()
def gain(network: PolicyNetwork, window: UnrollInput, rule: GateRule) -> float:
    """Largest change of any q when one entry of one message moves, per unit; a sample of entries,
    at three moments of the episode.
    """
    length, _, num_agents, _ = window.observations_TBND.shape
    size, largest = network.spec.message, 0.0
    rng = np.random.default_rng(0)
    spec = network.spec
    for moment in (length // 4, length // 2, 3 * length // 4):
        carry = unroll(network, _part(window, 0, moment), rule).carry
        after = _part(window, moment, moment + _STEPS)
        agents_B = torch.tensor(rng.integers(num_agents, size=_MOVED))
        entries_B = torch.tensor(rng.integers(size, size=_MOVED))
        moved = _repeated(carry, _MOVED)
        moved.message_BNM[torch.arange(_MOVED), agents_B, entries_B] += SPACING
        # Unrounded, or the rounding would hide what is looked for.
        network.scheme.spec = dataclasses.replace(spec, message_dtype="float32")
        before_T1NA = unroll(network, after, rule, carry).q_TBNA
        rows = _each_step(after, lambda x: x.expand(x.shape[0], _MOVED, *x.shape[2:]))
        after_TBNA = unroll(network, rows, rule, moved).q_TBNA
        network.scheme.spec = spec
        change_TBN = (after_TBNA - before_T1NA).abs().amax(-1) * after.alive_TBN
        largest = max(largest, float(change_TBN.max()) / SPACING)
    return largest


def _each_step(window: UnrollInput, change: Callable[[Tensor], Tensor]) -> UnrollInput:
    near_TBNK, actions_TBN = window.neighbours_TBNK, window.actions_TBN
    return UnrollInput(
        change(window.observations_TBND),
        change(window.alive_TBN),
        actions_TBN=None if actions_TBN is None else change(actions_TBN),
        neighbours_TBNK=None if near_TBNK is None else change(near_TBNK),
    )


def _part(window: UnrollInput, begin: int, end: int) -> UnrollInput:
    return _each_step(window, lambda x: x[begin:end])


def _repeated(carry: Carry, batch: int) -> Carry:
    """The carry of one episode as that of `batch` equal ones."""

    def repeated(x: Tensor) -> Tensor:
        return x.expand(batch, *x.shape[1:]).clone()

    names = [field.name for field in dataclasses.fields(carry) if field.name != "own"]
    columns = {name: repeated(getattr(carry, name)) for name in names}
    return Carry(**columns, own={name: repeated(x) for name, x in carry.own.items()})
