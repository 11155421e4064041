"""MFQ: mean field Q-learning (Yang et al., 2018), beside the scheme of that name.

v_i = sum over a of pi(a | s') q'_i(s', a, mean action),  pi = softmax(q / temperature)  (8 and 12)
y_i = r_i + gamma v_i;   loss = mean over agents and steps of (q_i - y_i)²

Every agent learns from its own rewards. What makes q a function of the neighbours' mean action is
`--comm mfq` (agents/comm/mfq.py); by another scheme this is independent Q-learning with a soft
target. With `learner.double_q` the policy is that of the online network, else the target's.

Agents explore by epsilon, like those of all value-based algorithms. The released code (mlii/mfrl)
explores not at all: it acts by the largest of softmax(q / 0.1), where the temperature has no
effect, and takes the maximum in its target. Here the temperature acts where the paper has it.

Dimension key: T = time, B = batch, N = agents, A = actions.
"""

import torch
from torch import Tensor

from configs.algorithms.mfq import OPTIONS, TRAITS
from learner.algorithms.iql import Iql


class Mfq(Iql):
    """Independent Q-learning whose next step is worth what its Boltzmann policy gets."""

    traits = TRAITS
    Options = OPTIONS

    def next_values(self, online_q_TBNA: Tensor, target_q_TBNA: Tensor) -> Tensor:
        decides_TBNA = online_q_TBNA.detach() if self.config.double_q else target_q_TBNA
        return boltzmann_value(target_q_TBNA[1:], decides_TBNA[1:], self.options.temperature)


def boltzmann_value(q_A: Tensor, decides_A: Tensor, temperature: float) -> Tensor:
    """[…, A] -> […]: mean of the values under softmax(decides / temperature).

    >>> boltzmann_value(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0]), temperature=1.0)
    tensor(2.)
    """
    return (torch.softmax(decides_A / temperature, -1) * q_A).sum(-1)


ALGORITHM = Mfq
