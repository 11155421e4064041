"""The torch twin of a communication scheme (agents/comm/base.py): the same steps over time.

    hidden of all steps -> the scheme's reads of it ─┐
    who takes part, what the step before left ───────┴-> SchemeTwin -> messages, gates of all steps

Dimension key: T = time, B = batch, N = agents, K = out-edges, H = hidden, M = message, C = context.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.found import scheme_of
from agents.policy import PolicySpec
from learner.comm.carry import Carry, UnrollInput
from learner.comm.gates import GateRule
from learner.kernels.projections import Layer


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What the agents say in all steps."""

    messages_TBNM: Tensor
    """Before rounding: the auxiliary losses read them, and so does the Q head, unless it has a
    context."""
    last_BNM: Tensor
    """The last of them as it crosses the wire."""
    scores_TBNK: Tensor
    """Of the out-edges; zeros where no gate is learned."""
    allowed_TBNK: Tensor
    """bool: out-edges that could be used at all."""
    gates_TBNK: Tensor
    """1 on the out-edges that step t opened, 0 elsewhere, with a gradient where gates are
    learned."""
    own: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """`Carry.own` after the last step."""
    of_loss: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """What `SchemeTwin.own_loss` needs of all steps."""
    context_TBNC: Tensor | None = None
    """What the Q head reads beside hidden states; None: the messages."""

    @classmethod
    def without_scores(
        cls,
        messages: tuple[Tensor, Tensor],
        allowed_TBNK: Tensor,
        gates_TBNK: Tensor,
        own: Mapping[str, Tensor] = {},
        of_loss: Mapping[str, Tensor] = {},
        context_TBNC: Tensor | None = None,
    ) -> "Said":
        """Where no gate is learned: the scores are zeros.

        Args:
            messages: `messages_TBNM` and `last_BNM`.
        """
        return cls(
            messages_TBNM=messages[0],
            last_BNM=messages[1],
            scores_TBNK=torch.zeros_like(gates_TBNK),
            allowed_TBNK=allowed_TBNK,
            gates_TBNK=gates_TBNK,
            own=dict(own),
            of_loss=dict(of_loss),
            context_TBNC=context_TBNC,
        )


class SchemeTwin:
    """The scheme of a trainable policy for N agents that share parameters."""

    layers: dict[str, nn.Module]
    """By the first word of their parameters' names in the layout. `learner.network.PolicyNetwork`
    has them as its own children: this object only calls them."""
    names: Mapping[str, str] = {}
    """Layout name -> torch's name, of parameters whose names differ."""
    leaves_out_the_dead: ClassVar[bool] = False
    """Whether it heeds `UnrollInput.living_R`: reads, and its messages, are of these rows alone, as
    [T, 1, R, …]."""

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        self.spec = spec
        self.num_agents = num_agents
        scheme = scheme_of(spec.scheme)
        self.graph = scheme.graph(num_agents, spec.scheme_opts())
        self.says_actions = scheme.says_actions
        self.moves = scheme.moves(spec.scheme_opts())
        self.layers = {}

    def reads_of_hidden(self, rule: GateRule) -> list[Layer]:
        """Weights [O, H] and biases of all that it needs of hidden states by linear maps: one
        product for all steps, together with the Q head's.
        """
        return []

    def begin(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        """`Carry.own` before the first step: zeros [B, …] of the type and device of `like`."""
        return {}

    def __call__(
        self, reads: Sequence[Tensor], window: UnrollInput, carry: Carry, rule: GateRule
    ) -> Said:
        """Run all steps.

        Args:
            reads: [T, B, N, O] what `reads_of_hidden` asked for, in its order.
            carry: what the step before the first has left.
            rule: timing, mode and noise of a learned gate.
        """
        raise NotImplementedError

    def message_of_actions(self, actions: Tensor) -> Tensor:
        """[…] -> […, M] what is said of actions (int64), by a scheme that says them; those of the
        dead are 0.
        """
        raise NotImplementedError

    def own_loss(self, said: Said, q_TBNA: Tensor) -> Tensor | None:
        """[T, B] what the scheme adds to the loss of a policy in training, already weighed; None:
        nothing.

        Args:
            said: what it has just returned.
            q_TBNA: the agents' values, those of forbidden actions included.
        """
        return None

    def uses(self, rule: GateRule) -> Mapping[str, int]:
        """How often an agent's step needs those of its layers that it does not need exactly
        once."""
        return {}
