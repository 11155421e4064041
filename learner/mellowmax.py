"""Soft mellowmax: a maximum that trusts no single overestimated value (MAST, equation 3).

    sm(q) = 1/omega log sum_u softmax(alpha q)_u exp(omega q_u)

Mellowmax (Asadi & Littman, 2017) weighs all actions alike; the soft one (Gan et al., 2021) weighs
them by a softmax, so that many bad actions do not pull a good one down.

    alpha = 0           mellowmax: between the mean (omega to 0) and the maximum
    omega to infinity   the maximum, from below by at most -log(softmax weight) / omega
    omega to 0          the mean under the softmax weights

Dimension key: A = actions.
"""

import torch
from torch import Tensor


def soft_mellowmax(q_A: Tensor, alpha: float, omega: float) -> Tensor:
    """[…, A] -> […]: at least the softmax-weighted mean, never above the largest value.

    >>> soft_mellowmax(torch.tensor([3.0, 3.0]), alpha=1.0, omega=10.0)
    tensor(3.)

    Args:
        q_A: action values; every action can be taken.
        alpha: inverse temperature of the weights; 0 weighs all actions alike.
        omega: above 0; the larger, the closer to the maximum.
    """
    # In logarithms throughout: exp(10 q) of float32 overflows at q = 9.
    log_weights_A = (alpha * q_A).log_softmax(-1)
    return torch.logsumexp(log_weights_A + omega * q_A, -1) / omega
