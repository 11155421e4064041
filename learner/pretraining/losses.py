"""What NVIF is pre-trained by (equations 6 to 8), for each agent and step.

    reconstruction + kl × divergence + alpha × consistency

Dimension key: … = any leading dimensions, N = agents, O = numbers of a target, L = latent state.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

ReconstructionLoss = Literal["bce", "mse"]


def reconstruction(decoded_O: Tensor, target_O: Tensor, loss: ReconstructionLoss) -> Tensor:
    """[…] how badly observations were made again, summed over their numbers.

    Args:
        decoded_O: bce: logits of the numbers; mse: the numbers.
        target_O: bce: in [0, 1].
    """
    if loss == "bce":
        losses_O = functional.binary_cross_entropy_with_logits(
            decoded_O, target_O, reduction="none"
        )
        return losses_O.sum(-1)
    return 0.5 * (decoded_O - target_O).square().sum(-1)


def divergence(mean_L: Tensor, log_deviation_L: Tensor) -> Tensor:
    """[…] KL(N(mean, deviation²) | N(0, 1)), summed over the numbers of a latent state."""
    variance_L = (2.0 * log_deviation_L).exp()
    return 0.5 * (mean_L.square() + variance_L - 1.0 - 2.0 * log_deviation_L).sum(-1)


def consistency(latent_NL: Tensor, counts_N: Tensor) -> Tensor:
    """[…, N] squared distance of each agent's latent state from the mean of those that count
    (equation 7); 0 for the others.

    Args:
        latent_NL: […, N, L]
        counts_N: […, N] bool
    """
    weight_N1 = counts_N.unsqueeze(-1).to(latent_NL.dtype)
    number_11 = weight_N1.sum(-2, keepdim=True).clamp(min=1.0)
    mean_1L = (latent_NL * weight_N1).sum(-2, keepdim=True) / number_11
    return torch.where(counts_N, (latent_NL - mean_1L).square().sum(-1), 0.0)
