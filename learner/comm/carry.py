"""What the unroll is given, and what a step leaves for the next one.

Dimension key: T = time, B = batch, N = agents, K = out-edges, D = observation features, H = hidden,
M = message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from learner.kernels.straight_through import round_message

if TYPE_CHECKING:
    from learner.network import PolicyNetwork


@dataclass(frozen=True, slots=True, eq=False)
class UnrollInput:
    """What the agents see and which of them take part."""

    observations_TBND: Tensor
    """[T, B, N, D] zeros for the dead."""
    alive_TBN: Tensor
    """[T, B, N] bool: sends and is heard. All ones where the dead keep relaying."""
    start_B: Tensor | None = None
    """[B] int64: step of its episode with which a row begins; None: all begin with the first."""
    begins_TBN: Tensor | None = None
    """[T, B, N] bool: a new life begins, in an episode in which the agent had died, and nothing is
    remembered; None: nobody comes back."""
    living_R: Tensor | None = None
    """int64: rows b × N + n of agents that matter; nobody asks for hidden states or values of the
    others, who are dead in all steps. None: all matter."""
    actions_TBN: Tensor | None = None
    """int64: what was done, by the dead 0; None: the scheme says no actions, or the actions of one
    single step are yet to be chosen (`Carry.after_acting`)."""
    neighbours_TBNK: Tensor | None = None
    """bool: out-edges whose two ends are neighbours in that step; None: the graph does not move."""

    def everybody(self, x_T1RX: Tensor) -> Tensor:
        """[T, B, N, X] with zeros for the rows that are left out; the same if none is."""
        if self.living_R is None:
            return x_T1RX
        batch, agents = self.alive_TBN.shape[1:]
        x_TRX = x_T1RX.squeeze(1)
        zeros = x_TRX.new_zeros(len(x_TRX), batch * agents, x_TRX.shape[-1])
        whole = zeros.index_copy(1, self.living_R, x_TRX)
        return whole.view(len(x_TRX), batch, agents, -1)


@dataclass(slots=True, eq=False)
class Carry:
    """What is left of a step for the next one."""

    hidden_BNH: Tensor
    message_BNM: Tensor
    """Own last message as it crosses the wire."""
    alive_BN: Tensor
    """bool: took part in the last step."""
    edges_BNK: Tensor
    """causal: out-edges on which the last message is under way; paper: unused."""
    first_B: Tensor
    """bool: the next step is the first of its episode, or of what is known of it."""
    step_B: Tensor
    """int64: number of the next step within its episode."""
    own: dict[str, Tensor]
    """What the scheme itself remembers, [B, …] by its own names; zeros where an episode begins."""

    @classmethod
    def begin(cls, network: "PolicyNetwork", batch: int, start_B: Tensor | None = None) -> "Carry":
        """Before the first step: nothing was seen, said or heard."""
        spec, agents = network.spec, network.num_agents
        like = next(network.parameters())

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, dtype=like.dtype, device=like.device)

        if start_B is None:
            start_B = torch.zeros(batch, dtype=torch.int64, device=like.device)
        return cls(
            hidden_BNH=zeros(agents, spec.hidden),
            message_BNM=zeros(agents, spec.message),
            alive_BN=zeros(agents).bool(),
            edges_BNK=zeros(agents, network.scheme.graph.num_edges),
            first_B=torch.ones(batch, dtype=torch.bool, device=like.device),
            step_B=start_B,
            own=network.scheme.begin(batch, like),
        )

    @classmethod
    def of_rows(
        cls, network: "PolicyNetwork", rows_BNX: Tensor, present_BN: Tensor, start_B: Tensor
    ) -> "Carry":
        """Where pieces of episodes begin.

        Args:
            rows_BNX: what the agents remembered (agents/carry.py).
            present_BN: bool: took part in the step before.
            start_B: int64: step of its episode with which a piece begins; at 0 nothing was before.
        """
        begins = cls.begin(network, len(rows_BNX), start_B)
        whole = {
            "hidden": begins.hidden_BNH,
            "message": begins.message_BNM,
            "edges": begins.edges_BNK,
            **begins.own,
        }
        sizes = [zeros.shape[-1] for zeros in whole.values()]
        parts: Sequence[Tensor] = torch.split(rows_BNX, sizes, dim=-1)
        found = dict(zip(whole, (part.contiguous() for part in parts), strict=True))
        carry = replace(
            begins,
            hidden_BNH=found.pop("hidden"),
            message_BNM=found.pop("message"),
            edges_BNK=found.pop("edges"),
            alive_BN=present_BN,
            first_B=torch.zeros_like(begins.first_B),
            own=found,
        )
        return carry.restart(start_B == 0)

    def after_acting(self, network: "PolicyNetwork", actions_BN: Tensor) -> "Carry":
        """The same once agents have said the actions that they have chosen.

        Args:
            network: its scheme says actions.
            actions_BN: int64, those of the dead are 0.
        """
        said_BNM = network.scheme.message_of_actions(actions_BN)
        return replace(self, message_BNM=round_message(said_BNM, network.spec.message_dtype))

    def restart(self, ended_B: Tensor) -> "Carry":
        """The same carry with a fresh beginning in the rows where `ended_B` is true."""

        def cleared(state: Tensor) -> Tensor:
            return state.masked_fill(ended_B.view(-1, *[1] * (state.ndim - 1)), 0)

        return replace(
            self,
            hidden_BNH=cleared(self.hidden_BNH),
            message_BNM=cleared(self.message_BNM),
            alive_BN=cleared(self.alive_BN),
            edges_BNK=cleared(self.edges_BNK),
            first_B=self.first_B | ended_B,
            step_B=cleared(self.step_B),
            own={name: cleared(state) for name, state in self.own.items()},
        )
