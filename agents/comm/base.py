"""What a communication scheme is to an agent, in numpy: what is said, over which edges, and what is
made of what was heard.

    hidden -> the scheme's columns of the fused product ─┐
    own last message, those that have come, its memory ──┴-> message -> over the open edges
                                                          └-> context (the message) -> Q head
    allowed edges, step of the episode -> Gating (agents/comm/gating.py) -> open edges

A module offers a scheme by SCHEME = ItsClass; the class names its torch twin (learner/comm/base.py)
by a string, so that agents never import torch.

Dimension key: E = copies, T = 1 + K tokens (own message first), K = edges of one direction, H =
hidden, M = message, C = context, D = observation features, P = columns of the fused product, X =
numbers that the scheme remembers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from agents.comm.gating import Gating, Site
from agents.layers import Layout, Linear, NoOptions, draw_uniform
from configs.arrays import BoolArray, FloatArray
from configs.schema import GateMode, GateTiming, NetworkConfig
from runtime.net.topology import Graph, exponential

if TYPE_CHECKING:
    from agents.policy import PolicySpec


@dataclass(slots=True, eq=False)
class Heard:
    """What a step has to make a message of; the agent fills it anew in every step."""

    own_EM: FloatArray
    """Own last message as it crossed the wire; zeros where an episode begins."""
    tokens_ETM: FloatArray | None
    """The same, then the last messages of the in-neighbours, edge by edge; None: nobody ever
    speaks."""
    present_ET: BoolArray | None
    """Tokens that are there; None: all are."""
    steps_E: NDArray[np.integer[Any]]
    """Step of each copy's episode, from 0."""
    memory_EX: FloatArray
    """What `message` left here a step before; zeros where an episode begins. It writes the next."""
    observation_ED: FloatArray
    """What the agent sees in this step; zeros where it is dead."""
    open_EK: BoolArray | None = None
    """Out-edges over which the message will go; None: the scheme does not count them."""


class Scheme:
    """The scheme of one policy version."""

    Options: ClassVar[type[Any]] = NoOptions
    """Frozen dataclass of what `--comm.options` may say."""
    twin: ClassVar[str] = ""
    """`module:Class` of the torch twin, a learner.comm.base.SchemeTwin."""
    centralised: ClassVar[bool] = False
    """Whether one place computes all agents (agents/comm/centralised.py)."""
    timings: ClassVar[tuple[GateTiming, ...]] = ("causal",)
    """causal: one exchange in a step, what is said is heard in the next; paper: two, and what was
    said a step before is heard in this one, over edges that are chosen now."""
    largest: ClassVar[float] = 1.0
    """Of a message's entries, without sign; a float32 message beyond it is dropped."""
    beacon_size: ClassVar[int] = 0
    """Numbers in a beacon whose content is the scheme's own; 0: `network.beacon` says how many."""
    says_actions: ClassVar[bool] = False
    """Whether what is said in a step is the action just chosen: the agent acts first and speaks
    then, by `message_of_actions`, and nobody asks for `message`. Actions are chosen from a list."""
    counts_edges: ClassVar[bool] = False
    """Whether a message says over how many edges it goes: these are chosen first, by what needs no
    message, and `message` finds them in `Heard.open_EK`. Only with causal timing."""
    pretrainer: ClassVar[str] = ""
    """What trains parameters of it before there is a policy, by `python -m learner.pretrain --comm
    NAME`: module:attribute of a dataclass of options, which has `out`, `check()`, and `trained_by`,
    the module:attribute of what takes them. Empty: nothing does."""
    parameters_of: ClassVar[str] = ""
    """The scheme whose parameters, and so whose policy files, it takes; empty: its own."""
    hidden_readers: ClassVar[tuple[str, ...] | None] = None
    """Names of the matrices [out, H or more] whose first H columns read the hidden state, and
    nothing else of this scheme does; None: all hidden units are kept in a sparse policy."""

    shared_arrays: ClassVar[bool] = False
    """As in agents/networks/base.py."""

    carries: ClassVar[tuple[Literal["beacon", "memory"], ...]] = ()
    """What its twin's `begin` makes zeros for, in that order: the beacon that was said last, and
    `memory`. Rollouts of fixed length begin with them."""

    reads: tuple[Linear, ...] = ()
    """What it needs of the hidden state by linear maps: columns of the fused product."""
    memory: int = 0
    """Numbers X that it remembers of a copy from step to step, beside its last message."""

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        """
        Args:
            tensors: all of the policy's by their names; those of its layouts are the scheme's.
        """

    # --- what is known of the scheme without a policy ---------------------------------------------

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        """Names and shapes of its parameters; matrices are [out, in] as in torch."""
        raise NotImplementedError

    @classmethod
    def gate_layout(cls, spec: "PolicySpec") -> Layout:
        """Those that decide about edges: they follow the Q head in a policy file."""
        return ()

    @classmethod
    def pretrained_layout(cls, spec: "PolicySpec") -> Layout:
        """Those of its parameters that `pretrainer` trains (agents/pretrained.py)."""
        return ()

    @classmethod
    def draw(
        cls,
        spec: "PolicySpec",
        name: str,
        tensors: Mapping[str, FloatArray],
        rng: np.random.Generator,
    ) -> None:
        """Fill an untrained tensor: U(±1/sqrt(fan_in)), torch's default for linear layers."""
        draw_uniform(name, tensors, rng)

    @classmethod
    def shrink(cls, living: dict[str, FloatArray]) -> None:
        """Take dead units out of a sparse policy's own tensors (agents/dead_units.py)."""

    @classmethod
    def read_hidden(cls, living: Mapping[str, FloatArray], hidden: int) -> BoolArray:
        """[H] the hidden units that anything of this scheme reads, by `hidden_readers`."""
        read_H: BoolArray = np.zeros(hidden, dtype=np.bool_)
        for name in cls.hidden_readers or ():
            read_H |= living[name][:, :hidden].any(axis=0)
        return read_H

    @classmethod
    def graph(cls, num_agents: int, options: Any) -> Graph:
        """The edges that exist: sockets are opened for all of them. Which of them carry a message
        in a step is for `gating` to say.

        Args:
            options: an `Options`.

        Raises:
            ValueError: the scheme does not take this many agents.
        """
        return exponential(num_agents)

    @classmethod
    def memory_of(cls, spec: "PolicySpec") -> int:
        """`memory` of a version, known before there is one."""
        return 0

    @classmethod
    def message_size(cls, network: NetworkConfig, options: Any) -> int:
        """Numbers M in a message. A scheme whose messages have a form of their own says how many;
        `network.message` has no say then.

        Args:
            network: of the run.
            options: an `Options`.
        """
        return network.message

    @classmethod
    def context_of(cls, spec: "PolicySpec") -> int:
        """Numbers C that the Q head reads beside the hidden state."""
        return spec.message

    @classmethod
    def gate_mode(cls, mode: GateMode) -> GateMode:
        """What a run's gate.mode comes to: a scheme without a learned gate has open edges."""
        return "open"

    @classmethod
    def reads_beacons(cls, mode: GateMode, options: Any) -> bool:
        """Whether beacons decide about edges: then agents say them.

        Args:
            mode: what `gate_mode` has made of it.
            options: an `Options`.
        """
        return False

    @classmethod
    def needs_position(cls, options: Any) -> bool:
        """Whether an observation has to end with its agent's own position (envs/base.py)."""
        return False

    @classmethod
    def moves(cls, options: Any) -> bool:
        """Whether its graph moves with the agents: in each step an agent sends to its neighbours of
        that step (envs/neighbours.py), to all of them and to nobody else. Its `graph` is the
        complete one then, and its timing causal: what is said in a step is heard in the next.

        Args:
            options: an `Options`.
        """
        return False

    @classmethod
    def gating(cls, site: Site) -> Gating:
        """What opens an agent's edges, for as long as the agent lives."""
        return Gating(site)

    # --- the step ---------------------------------------------------------------------------------

    def seat(self, columns: Sequence[slice]) -> None:
        """Learn where in a row of the fused product each of `reads` is."""

    def open_edges(self, steps_E: NDArray[np.integer[Any]], allowed_EK: BoolArray) -> BoolArray:
        """[E, K] the allowed edges that carry this step's message (as `Gating` asks)."""
        return allowed_EK

    def message(self, parts_EP: FloatArray, heard: Heard) -> FloatArray:
        """[E, M] new message, before it is rounded for the wire."""
        raise NotImplementedError

    def message_of_actions(self, actions_E: NDArray[np.integer[Any]]) -> FloatArray:
        """[E, M] the same where a scheme says actions; those of the dead are 0."""
        raise NotImplementedError

    def context(self, parts_EP: FloatArray, heard: Heard, message_EM: FloatArray) -> FloatArray:
        """[E, C] what the Q head reads beside the hidden state: the message, unless a scheme says
        otherwise.

        Args:
            message_EM: what `message` has just returned; the own last message where a scheme says
                actions.
        """
        return message_EM

    def weights(self, parts_EP: FloatArray, heard: Heard) -> FloatArray | None:
        """[E, T] how much each token counted in `message`, for who looks (agents/insight.py); None:
        the scheme has no such weights.
        """
        return None
