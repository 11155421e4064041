"""Losses of guided policy optimisation (MAGPO, section 4; Li et al., 2025), element by element.

    guider mu stays within a factor delta of the learner pi     learner pi follows mu

The guider acts during training, so its old log-probability is that of the behaviour. What belongs
to the other policy has no gradient here: the released code stops it in the divergences alone and
relies on differentiating by one policy's parameters.

Dimension key: A = actions; everything else is batch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def double_clipped(
    log_mu: Tensor, log_pi: Tensor, old_log_mu: Tensor, advantage: Tensor, clip: float, delta: float
) -> Tensor:
    """The guider's surrogate, to be minimised: that of PPO, whose clipped ratio is the one that mu
    would have within a factor delta of pi (equation 10).

    Args:
        log_mu, log_pi, old_log_mu: of the action that was played.
    """
    log_pi = log_pi.detach()
    bound = math.log(delta)
    near = (log_mu - log_pi).clamp(-bound, bound) + log_pi
    ratio, near_ratio = (log_mu - old_log_mu).exp(), (near - old_log_mu).exp()
    return -torch.minimum(ratio * advantage, near_ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def strays(log_mu: Tensor, log_pi: Tensor, delta: float) -> Tensor:
    """bool: mu is not within a factor delta of pi at the action that was played. Only there the
    guider is pulled back to the learner.
    """
    return (log_mu - log_pi).abs() > math.log(delta)


def divergence(from_logits: Tensor, to_logits: Tensor) -> Tensor:
    """[…] KL(p || q) of two categorical policies by their logits […, A]."""
    log_p = functional.log_softmax(from_logits, -1)
    log_q = functional.log_softmax(to_logits, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
