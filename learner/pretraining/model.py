"""NVIF with all that pre-training needs beside what agents run: deviations and decoders.

    observation -> code (mean, deviation) -> sample -> decoder -> the same observation
    codes, neighbours -> flow (learner/comm/nvif.py) -> state -> latent state (mean, deviation)
        -> sample, with the agent's position -> decoder -> the agent's observation

The autoencoder is the paper's "pre-trained VAE module" that makes one vector of an observation. It
is trained first, and stays as it is while the flow is trained.

Dimension key: T = time, B = batch, N = agents, K = out-edges, D = observation features, O = without
the position, F = code, G = state, L = latent state.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.policy import PolicySpec
from configs.schema.limits import POSITION
from learner.comm.carry import Carry, UnrollInput
from learner.comm.nvif import NvifTwin

_WIDEST = 8.0
"""Of a logarithm of a deviation, without sign."""


class Guess(NamedTuple):
    """A latent state, or a code, and what was made of it."""

    mean: Tensor
    log_deviation: Tensor
    sample: Tensor
    decoded: Tensor


class ObservationCoder(nn.Module):
    """The variational autoencoder of observations.

    Args:
        hidden: layer from an observation to the units before its code.
        mean: layer from these to the code's mean, which is the code that agents say.
        decoder: hidden units on the way back.
    """

    def __init__(self, hidden: nn.Linear, mean: nn.Linear, decoder: int) -> None:
        super().__init__()
        self.hidden, self.mean = hidden, mean
        self.log_deviation = nn.Linear(mean.in_features, mean.out_features)
        self.decoder = _decoder(mean.out_features, decoder, hidden.in_features)

    def forward(self, observations_D: Tensor, generator: torch.Generator) -> Guess:
        """From observations […, D]."""
        x = torch.relu(self.hidden(observations_D))
        mean, log_deviation = self.mean(x), self.log_deviation(x)
        sample, log_deviation = _sampled(mean, log_deviation, generator)
        return Guess(mean, log_deviation, sample, self.decoder(sample))


class NvifModel(nn.Module):
    """All parameters of a pre-training."""

    def __init__(self, spec: PolicySpec, num_agents: int, decoder: int) -> None:
        super().__init__()
        self.twin = NvifTwin(spec, num_agents)
        self.layers = nn.ModuleDict(self.twin.layers)
        """By the names of the policy's layout."""
        hidden, mean = self.layers["code_hidden"], self.layers["code"]
        assert isinstance(hidden, nn.Linear)
        assert isinstance(mean, nn.Linear)
        self.coder = ObservationCoder(hidden, mean, decoder)
        options = spec.scheme_opts()
        self.log_deviation = nn.Linear(options.state, options.latent)
        self.decoder = _decoder(options.latent + POSITION, decoder, spec.observation_dim - POSITION)

    def of_flow(self) -> Iterator[nn.Parameter]:
        """Parameters that are trained once the autoencoder is."""
        of_coder = set(self.coder.parameters())
        return (parameter for parameter in self.parameters() if parameter not in of_coder)

    @torch.no_grad()
    def codes(self, observations_D: Tensor) -> Tensor:
        """[…, F] as they cross the wire."""
        return self.twin.rounded(self.twin.codes(observations_D))

    def forward(
        self,
        codes_TBNF: Tensor,
        alive_TBN: Tensor,
        neighbours_TBNK: Tensor | None,
        positions_TBN2: Tensor,
        generator: torch.Generator,
    ) -> Guess:
        """From the first step of episodes on: what everybody makes of what was said until the step
        before, and of its own position now.

        Args:
            codes_TBNF: of the observations, as they cross the wire.
            neighbours_TBNK: bool: out-edges whose other ends are neighbours; None: all are.
        """
        twin = self.twin
        window = UnrollInput(codes_TBNF, alive_TBN, neighbours_TBNK=neighbours_TBNK)
        states_TBNG = twin.flow(codes_TBNF, window, self._beginning(codes_TBNF)).states_TBNG
        mean, log_deviation = twin.means(states_TBNG), self.log_deviation(states_TBNG)
        sample, log_deviation = _sampled(mean, log_deviation, generator)
        return Guess(mean, log_deviation, sample, self.decoded(sample, positions_TBN2))

    def _beginning(self, codes_TBNF: Tensor) -> Carry:
        """Before the first step of episodes: nothing was said."""
        spec, graph = self.twin.spec, self.twin.graph
        batch, agents = codes_TBNF.shape[1:3]

        def zeros(*shape: int) -> Tensor:
            return codes_TBNF.new_zeros(batch, *shape)

        return Carry(
            hidden_BNH=zeros(agents, 0),
            message_BNM=zeros(agents, spec.message),
            alive_BN=zeros(agents).bool(),
            edges_BNK=zeros(agents, graph.num_edges),
            first_B=torch.ones(batch, dtype=torch.bool),
            step_B=torch.zeros(batch, dtype=torch.int64),
            own={},
        )

    def decoded(self, latent_L: Tensor, positions_2: Tensor) -> Tensor:
        """[…, O] what an agent at this position would see, judging by a latent state."""
        return self.decoder(torch.cat((latent_L, positions_2), dim=-1))


def _decoder(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _sampled(
    mean: Tensor, log_deviation: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A draw from the normal distribution, and the logarithm of its deviation within bounds."""
    log_deviation = log_deviation.clamp(-_WIDEST, _WIDEST)
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
    return mean + log_deviation.exp() * noise, log_deviation
