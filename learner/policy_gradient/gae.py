"""Generalised advantage estimation (Schulman et al., 2016).

    rewards, values of T + 1 moments, who lives on -> advantage = sum_k (gamma lambda)^k delta_t+k

A time-out does not end the value: the value of the observation after it counts. Reference code ends
it there; `learner.timeout_is_terminal` brings that back. Nothing is carried over from one episode
to the next.

Dimension key: T = time, B = batch, N = agents.
"""

import torch
from torch import Tensor


def advantages(
    rewards: Tensor,
    values: Tensor,
    goes_on: Tensor,
    follows: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """[T, …] advantages; with `values[:-1]` added they are the values' targets.

    Args:
        rewards: [T, …]
        values: [T + 1, …] of the moments before each step and after the last.
        goes_on: [T, …] bool: there is a value beyond the step.
        follows: [T, …] bool: the next step was played, by the same episode; else the sum ends here
            with the value beyond, if there is one.
    """
    deltas = rewards + gamma * values[1:] * goes_on - values[:-1]
    weights = gamma * gae_lambda * (goes_on & follows).to(values.dtype)
    found: list[Tensor] = []
    later = torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas.flip(0), weights.flip(0), strict=True):
        later = delta + weight * later
        found.append(later)
    return torch.stack(found[::-1])


def normalised(advantages: Tensor, counts: Tensor) -> Tensor:
    """The same with mean 0 and deviation 1 over what counts (bool); zeros elsewhere."""
    number = counts.sum().clamp(min=1)
    mean = torch.where(counts, advantages, 0.0).sum() / number
    centred = torch.where(counts, advantages - mean, 0.0)
    deviation = (centred.square().sum() / number).sqrt()
    return centred / (deviation + 1e-8)
