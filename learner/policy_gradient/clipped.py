"""Losses of PPO (Schulman et al., 2017), element by element: the caller says what counts.

    log pi, log pi_old, advantage -> surrogate        value, value_old, target -> squared error

All arguments have one shape, and so have the results.
"""

import torch
from torch import Tensor
from torch.nn import functional


def surrogate(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """-min(r A, clip(r, 1 - eps, 1 + eps) A) with r = pi / pi_old (equation 7), to be minimised."""
    ratio = (log_prob - old_log_prob).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def value_loss(
    value: Tensor, old_value: Tensor, target: Tensor, clip: float = 0.0, huber: float = 0.0
) -> Tensor:
    """Half the squared error; where the value has moved by more than `clip` from what it was, the
    larger of that and the error of the value moved by just `clip`.

    Args:
        clip: 0 does not look at what the value was.
        huber: errors beyond it count linearly (Yu et al., 2022, take 10); 0: none does.
    """
    loss = _error(value - target, huber)
    if clip == 0.0:
        return loss
    near = old_value + (value - old_value).clamp(-clip, clip)
    return torch.maximum(loss, _error(near - target, huber))


def _error(difference: Tensor, huber: float) -> Tensor:
    if huber == 0.0:
        return 0.5 * difference.square()
    nothing = torch.zeros_like(difference)
    return functional.huber_loss(difference, nothing, reduction="none", delta=huber)
