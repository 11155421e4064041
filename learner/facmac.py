"""FACMAC: policies that climb a factored critic (Peng et al., 2021), with discrete actions.

    observation, action -> Critic -> q of each agent ─┐
                                         global state ┴-> monotonic mixer -> q_tot
    critic: TD, bootstrapped by the target critic at what the target policy would do
    actor:  logits + Gumbel noise -> one-hot, straight through -> the same critic -> maximise q_tot

The agents are those of the other algorithms: what is their Q head elsewhere are logits here, and
they act by the largest. Unlike in the paper's code they explore by epsilon alone, where that one
samples from the logits as well, and one bound holds for the gradient of actor and critic together.

Dimension key: T = time, B = batch, N = agents, D = observation features, A = actions, S = state.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from learner.experience.replay import Rows
from learner.kernels.straight_through import straight_through
from learner.mixers.qmix import QMixer


class Critic(nn.Module):
    """q of an agent's action; three layers without a memory, shared by all agents."""

    def __init__(self, observation_dim: int, num_actions: int, hidden: int) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.net = nn.Sequential(
            nn.Linear(observation_dim + num_actions, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, observation_D: Tensor, one_hot_A: Tensor) -> Tensor:
        """[…, D], […, A] -> […]"""
        return self.net(torch.cat((observation_D, one_hot_A), dim=-1)).squeeze(-1)

    def of_actions(self, observation_D: Tensor, actions: Tensor) -> Tensor:
        """[…, D], […] int64 -> […]"""
        one_hot_A = functional.one_hot(actions, self.num_actions).to(observation_D.dtype)
        return self(observation_D, one_hot_A)


def gumbel_one_hot(logits_TBNA: Tensor, generator: torch.Generator, rows: Rows) -> Tensor:
    """[T, B, N, A] actions drawn from softmax(logits), with the gradient of what is drawn from.

    Noise is drawn for all rows of the part, so that it does not depend on who works off which.
    """
    time, _, *rest = logits_TBNA.shape
    noise = torch.empty((time, rows.of, *rest), device=logits_TBNA.device, dtype=logits_TBNA.dtype)
    # Gumbel noise is -log of exponential noise.
    noisy = logits_TBNA - noise.exponential_(generator=generator)[:, rows.slice].log()
    hard = functional.one_hot(noisy.argmax(-1), logits_TBNA.shape[-1]).to(logits_TBNA.dtype)
    return straight_through(noisy.softmax(-1), hard)


def policy_value(
    critic: Critic,
    mixer: QMixer,
    observations_TBND: Tensor,
    one_hot_TBNA: Tensor,
    alive_TBN: Tensor,
    states_TBS: Tensor,
) -> Tensor:
    """[T, B] q_tot of the policy's actions, whose gradient reaches these and not the critic."""

    def fixed(module: nn.Module, *arguments: Tensor) -> Tensor:
        held = {name: parameter.detach() for name, parameter in module.named_parameters()}
        result: Tensor = functional_call(module, held, arguments)
        return result

    q_TBN = fixed(critic, observations_TBND, one_hot_TBNA) * alive_TBN
    return fixed(mixer, q_TBN, states_TBS)
