"""Small policies, rules and packets for the tests of an agent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.comm.sops import Sops
from agents.core import AgentCore
from agents.events import Command, Dropped, SendBeacon, SendMessage, ToLearner, ToWorld
from agents.parameters import ParameterStore
from agents.policy import PolicySpec, checksum, initialise, views
from agents.rounding import beacon_to_wire, message_to_wire
from agents.rules import AgentRules
from agents.version import PolicyVersion
from configs.arrays import FloatArray
from configs.columns import Q_VALUES
from configs.schema import BeaconDtype, GateMode, GateTiming, MessageDtype
from runtime.net import topology, wire

NUM_AGENTS = 6
"""Three offsets, and no power of two."""
OFFSETS = len(topology.offsets(NUM_AGENTS))
EVERYONE = (1 << OFFSETS) - 1
"""A mask with the bits of all peers set."""


def make_spec(
    *,
    observation_dim: int = 5,
    num_actions: int = 4,
    message_dtype: MessageDtype = "float16",
    beacon_dtype: BeaconDtype = "int8",
    beacon_delta: float = 0.0,
    beacon_period: int = 1,
    action_bounds: str = "",
    heads: int = 1,
    policies: int = 1,
) -> PolicySpec:
    """Every dimension differs, so that a mix-up of two shows."""
    return PolicySpec(
        observation_dim=observation_dim,
        num_actions=num_actions,
        hidden=8,
        message=7,
        attention=3,
        beacon=6,
        edge_embedding=2,
        scorer=9,
        message_dtype=message_dtype,
        beacon_dtype=beacon_dtype,
        beacon_delta=beacon_delta,
        beacon_period=beacon_period,
        action_bounds=action_bounds,
        heads=heads,
        policies=policies,
    )


SPEC = make_spec()


def make_flat(spec: PolicySpec = SPEC, *, seed: int = 0, score_bias: float = 0.0) -> FloatArray:
    """Parameters large enough that messages, gates and rounding matter.

    `score_bias` is the scorer's last bias: ±50 opens or shuts every edge, 0 leaves it to the rest.
    """
    flat = initialise(spec, np.random.default_rng(seed)) * np.float32(3.0)
    for name, view in views(spec, flat).items():
        if name.endswith("scorer_out.bias"):
            view[...] = score_bias
    return flat


OPEN_ALL, SHUT_ALL = 50.0, -50.0


def make_network(
    spec: PolicySpec = SPEC, flat: FloatArray | None = None, num_agents: int = NUM_AGENTS
) -> PolicyVersion:
    return PolicyVersion(spec, make_flat(spec) if flat is None else flat, num_agents)


def sops(version: PolicyVersion) -> Sops:
    """The scheme of a version."""
    assert isinstance(version.scheme, Sops)
    return version.scheme


def make_rules(
    *,
    num_agents: int = NUM_AGENTS,
    copies: int = 1,
    spec: PolicySpec = SPEC,
    comm: str = "sops",
    timing: GateTiming = "causal",
    mode: GateMode = "learned",
    relay: bool = False,
    ships: str = "training",
    record_q: bool = False,
) -> AgentRules:
    assert ships in ("training", "all", "none")
    return AgentRules(
        num_agents=num_agents,
        copies=copies,
        spec=spec,
        comm=comm,
        gate_timing=timing,
        gate_mode=mode,
        dead="relay" if relay else "silent",
        ships=ships,
        columns=(Q_VALUES,) if record_q else (),
    )


def make_agent(
    rules: AgentRules | None = None,
    *,
    identity: int = 0,
    flat: FloatArray | None = None,
    seed: int = 0,
) -> AgentCore:
    rules = rules or make_rules()
    flat = make_flat(rules.spec, score_bias=OPEN_ALL) if flat is None else flat
    return AgentCore(identity, rules, ParameterStore(flat, 1), np.random.default_rng(seed))


def dense(flat: FloatArray, version: int) -> wire.DenseParameters:
    return wire.DenseParameters(version, checksum(flat), flat)


# --- what comes to an agent -----------------------------------------------------------------------


def observation(
    rules: AgentRules,
    tick: int,
    *,
    steps: int | Sequence[int] | None = None,
    episodes: int | Sequence[int] = 0,
    alive: bool | Sequence[bool] = True,
    explore: bool | Sequence[bool] = False,
    epsilon: float = 0.0,
    heard: int | Sequence[int] = 0,
    beacons: int | Sequence[int] = 0,
    peers: int | Sequence[int] | None = None,
    rows: NDArray[Any] | None = None,
) -> wire.Observation:
    """What the world hands out at `tick`; by default tick 1 is step 0 of episode 0 in all copies.

    Args:
        heard: in-masks, one for all copies or one for each.
        beacons: beacon masks likewise.
        peers: masks of those who took part likewise; by default whoever says a beacon.
        rows: observations of the copies that live; else drawn by the tick.
    """
    copies = rules.copies
    alive_E = np.broadcast_to(np.array(alive, dtype=np.bool_), copies)
    explore_E = np.broadcast_to(np.array(explore, dtype=np.bool_), copies)
    if rows is None:
        drawn = np.random.default_rng(tick).normal(size=(copies, rules.spec.observation_dim))
        rows = drawn[alive_E].astype(np.float16)
    return wire.Observation(
        tick=tick,
        epsilon=epsilon,
        episodes=_column(copies, episodes, np.uint32),
        steps=_column(copies, tick - 1 if steps is None else steps, np.uint16),
        flags=(alive_E * wire.ALIVE + explore_E * wire.EXPLORE).astype(np.uint8),
        in_masks=_column(copies, heard, np.uint16),
        peer_masks=_column(copies, beacons if peers is None else peers, np.uint16),
        beacon_masks=_column(copies, beacons, np.uint16),
        observations=rows,
    )


def message(
    rules: AgentRules,
    sender: int,
    tick: int,
    *,
    value: float = 0.5,
    copies: Sequence[bool] | None = None,
) -> wire.Message:
    """A message all of whose numbers are `value`, in all copies or in those given."""
    vectors, bitmap = _vectors(rules, rules.spec.message, value, copies)
    rows = message_to_wire(vectors, rules.spec.message_dtype)
    return wire.Message(sender, tick, 0, bitmap, rows)


def beacon(
    rules: AgentRules,
    sender: int,
    tick: int,
    *,
    value: float = 1.0,
    copies: Sequence[bool] | None = None,
) -> wire.Beacon:
    vectors, bitmap = _vectors(rules, rules.spec.beacon, value, copies)
    rows = beacon_to_wire(vectors, rules.spec.beacon_dtype)
    return wire.Beacon(sender, tick, 0, bitmap, rows)


def in_mask(tick: int, *masks: int) -> wire.InMask:
    return wire.InMask(tick, np.array(masks, dtype=np.uint16))


def in_neighbour(k: int, agent: int = 0) -> int:
    return topology.in_neighbours(agent, NUM_AGENTS)[k]


def out_neighbour(k: int, agent: int = 0) -> int:
    return topology.out_neighbours(agent, NUM_AGENTS)[k]


def _column(copies: int, values: int | Sequence[int], dtype: type[np.generic]) -> NDArray[Any]:
    return np.array(np.broadcast_to(np.array(values), copies), dtype=dtype)


def _vectors(
    rules: AgentRules, width: int, value: float, copies: Sequence[bool] | None
) -> tuple[FloatArray, NDArray[np.uint8]]:
    present = np.array([True] * rules.copies if copies is None else copies)
    vectors = np.full((int(present.sum()), width), value, dtype=np.float32)
    return vectors, np.packbits(present, bitorder="little")


# --- what comes from an agent ---------------------------------------------------------------------


def action_of(commands: list[Command]) -> wire.Action | None:
    """The one action among the commands, if there is one."""
    packets = [command.packet for command in commands if isinstance(command, ToWorld)]
    actions = [packet for packet in packets if isinstance(packet, wire.Action)]
    assert len(actions) <= 1
    return actions[0] if actions else None


def acted(commands: list[Command]) -> wire.Action:
    action = action_of(commands)
    assert action is not None, f"no action among {commands}"
    return action


def gates_of(commands: list[Command]) -> wire.Gates:
    (gates,) = (command.packet for command in commands if isinstance(command, ToWorld))
    assert isinstance(gates, wire.Gates)
    return gates


def messages_of(commands: list[Command]) -> list[SendMessage]:
    return [command for command in commands if isinstance(command, SendMessage)]


def beacons_of(commands: list[Command]) -> list[SendBeacon]:
    return [command for command in commands if isinstance(command, SendBeacon)]


def edges_of(commands: list[Command]) -> set[int]:
    """Offsets over which a message goes out in some copy."""
    return {edge for command in messages_of(commands) for edge in command.edges}


def reasons_of(commands: list[Command]) -> list[str]:
    return [command.reason for command in commands if isinstance(command, Dropped)]


def trajectories_of(commands: list[Command]) -> list[wire.Trajectory]:
    return [command.packet for command in commands if isinstance(command, ToLearner)]


def kinds_of(commands: list[Command]) -> list[str]:
    """Commands by name, those to the world by the name of their packet."""
    return [
        type(command.packet if isinstance(command, ToWorld) else command).__name__
        for command in commands
    ]
