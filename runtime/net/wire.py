"""What crosses a socket, and its encoding.

    dataclass -> encode -> msgpack array [version, kind, field, …] -> decode -> the same dataclass

The packets themselves stand by story in step, trajectory, guidance, parameters, control, updates
and body_packets beside this file, and are all found here by name. No pickle anywhere. Limits stand
in the field annotations (runtime/net/codecs.py) and are checked before anything is built from a
frame, its size first of all. Whatever does not fit raises WireFormatError, whose reason is counted.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import msgpack

from runtime.net.body_packets import (
    BodyAction,
    BodyHello,
    BodyObservation,
    BodyReals,
    BodyWelcome,
)
from runtime.net.codecs import (
    Choice,
    Codec,
    Real,
    Scalars,
    Tensor,
    Tensors,
    Text,
    Texts,
    Uint,
    brief,
    items,
)
from runtime.net.control import (
    EVICTED,
    FINISHED,
    INTERRUPTED,
    PHASES,
    UNKNOWN_OFFSET,
    AddressBook,
    AgentReport,
    AgentState,
    Alive,
    Assignment,
    ClockOffsets,
    ClockProbe,
    ClockReply,
    EpisodeResult,
    Evaluated,
    Failure,
    Hello,
    Instruction,
    Join,
    LearnerState,
    Leaving,
    Moves,
    NodeState,
    Ready,
    Status,
    Stop,
    Trained,
    WorldState,
)
from runtime.net.errors import WireFormatError
from runtime.net.forms import Layout
from runtime.net.guidance import GuideAnswer, GuideQuestion
from runtime.net.packet import (
    KIB,
    KINDS,
    MIB,
    MOST_AGENTS,
    VERSION,
    Packet,
)
from runtime.net.parameters import (
    AGENT_PARAMETERS,
    PARAMETERS,
    AgentParameters,
    DeltaParameters,
    DenseParameters,
    Parameters,
    SharedVersion,
    SnapshotRequest,
    SparseDelta,
    SparseParameters,
)
from runtime.net.step import (
    ALIVE,
    ALL_ALLOWED,
    EXPLORE,
    FIRST,
    LAST,
    REST,
    Action,
    Beacon,
    EdgeHello,
    EdgeWelcome,
    Gates,
    InMask,
    Message,
    Observation,
    PolicyDue,
    action_dtype,
)
from runtime.net.trajectory import (
    EpisodeRecord,
    Trajectory,
    TrajectoryAck,
)
from runtime.net.updates import (
    PolicyOffer,
    PolicySwitch,
    UpdateOrder,
    UpdateState,
)

__all__ = [
    "AGENT_PARAMETERS",
    "ALIVE",
    "ALL_ALLOWED",
    "EVICTED",
    "EXPLORE",
    "FINISHED",
    "FIRST",
    "INTERRUPTED",
    "KIB",
    "LAST",
    "MIB",
    "PARAMETERS",
    "PHASES",
    "REST",
    "UNKNOWN_OFFSET",
    "VERSION",
    "Action",
    "AddressBook",
    "AgentParameters",
    "AgentReport",
    "AgentState",
    "Alive",
    "Assignment",
    "Beacon",
    "BodyAction",
    "BodyHello",
    "BodyObservation",
    "BodyReals",
    "BodyWelcome",
    "Choice",
    "ClockOffsets",
    "ClockProbe",
    "ClockReply",
    "Codec",
    "DeltaParameters",
    "DenseParameters",
    "EdgeHello",
    "EdgeWelcome",
    "EpisodeRecord",
    "EpisodeResult",
    "Evaluated",
    "Failure",
    "Gates",
    "GuideAnswer",
    "GuideQuestion",
    "Hello",
    "InMask",
    "Instruction",
    "Join",
    "LearnerState",
    "Leaving",
    "Message",
    "Moves",
    "NodeState",
    "Observation",
    "Packet",
    "Parameters",
    "PolicyDue",
    "PolicyOffer",
    "PolicySwitch",
    "Ready",
    "Real",
    "Scalars",
    "SharedVersion",
    "SnapshotRequest",
    "SparseDelta",
    "SparseParameters",
    "Status",
    "Stop",
    "Tensor",
    "Tensors",
    "Text",
    "Texts",
    "Trained",
    "Trajectory",
    "TrajectoryAck",
    "Uint",
    "UpdateOrder",
    "UpdateState",
    "WorldState",
    "action_dtype",
    "decode",
    "encode",
]

_pack = cast("Callable[[Any], bytes]", msgpack.Packer().pack)  # pyright: ignore  # no type stubs
_unpack = cast("Callable[..., Any]", msgpack.unpackb)  # pyright: ignore  # no type stubs


@cache
def _codecs(cls: type[Packet]) -> tuple[tuple[str, Codec], ...]:
    hints = get_type_hints(cls, include_extras=True)
    codecs: list[tuple[str, Codec]] = []
    for field in fields(cls):  # type: ignore[arg-type]  # every registered packet is a dataclass
        hint = hints[field.name]
        assert get_origin(hint) is Annotated, f"{cls.__name__}.{field.name} has no codec"
        codecs.append((field.name, get_args(hint)[1]))
    return tuple(codecs)


_SMALL_FRAME = 64 * KIB
_LISTS_PER_FRAME = 64


def _list_budget() -> Callable[[list[Any]], list[Any]]:
    """Refuse lists within lists: 8 MB of empty ones would become 600 MB of objects.

    Small frames cannot do harm and do not pay for the counting; no packet has more than 50 lists.
    """
    lists = 0

    def count(items: list[Any]) -> list[Any]:
        nonlocal lists
        lists += 1
        if lists > _LISTS_PER_FRAME:
            raise ValueError(f"more than {_LISTS_PER_FRAME} lists")
        return items

    return count


@cache
def _field_reader(cls: type[Packet]) -> Callable[[Packet], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in fields(cls)))  # type: ignore[arg-type]  # as above


_LAYOUTS: dict[type[Packet], Layout] = {
    cls: Layout(cls.FORMAT, cls.KIND, numbers, tensors)
    for cls, numbers, tensors in (
        (Observation, (32, None), 8),
        (Action, (32, 32), 3),
        (Gates, (32,), 1),
        (InMask, (32,), 1),
        (Message, (16, 32, 64), 2),
        (Beacon, (16, 32, 64), 2),
    )
}
"""Of the packets that cross in every step; a test holds them against the field annotations."""
_KNOWN_STARTS = {layout.start: (cls, layout) for cls, layout in _LAYOUTS.items()}


def encode(packet: Packet) -> bytes:
    """Turn a packet into one frame."""
    cls = type(packet)
    layout = _LAYOUTS.get(cls)
    if layout is not None:
        return layout.write(_field_reader(cls)(packet))
    parts: list[Any] = [cls.FORMAT, cls.KIND]
    parts += [codec.pack(getattr(packet, name)) for name, codec in _codecs(cls)]
    return _pack(parts)


def decode(frame: bytes, *accepted: type[Packet]) -> Packet:
    """Turn a frame back into its packet; with `accepted`, refuse every other kind.

    Raises:
        WireFormatError: reason `oversize`, `decode`, `version`, `kind`, `shape`, `dtype`, `range`
            or `nonfinite`.
    """
    known = _KNOWN_STARTS.get(frame[:3])
    if known is not None and (not accepted or known[0] in accepted):
        values = known[1].read(frame)
        if values is not None:
            return known[0](*values)
    limit = max(cls.LARGEST for cls in accepted) if accepted else 256 * MIB
    if len(frame) > limit:
        raise WireFormatError("oversize", f"{len(frame)} bytes, at most {limit} allowed")
    try:
        raw = _unpack(
            frame,
            max_array_len=MOST_AGENTS,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=KIB,
            max_bin_len=len(frame),
            list_hook=_list_budget() if len(frame) > _SMALL_FRAME else None,
        )
    except Exception as error:  # msgpack raises five unrelated types, UnicodeDecodeError among them
        raise WireFormatError("decode", f"{type(error).__name__}") from error
    parts = items(raw)
    if parts is None or len(parts) < 2:
        raise WireFormatError("decode", f"expected an array, got {brief(raw)}")
    version, kind = parts[0], parts[1]
    cls = KINDS.get(kind) if type(kind) is int else None
    expected = VERSION if cls is None else cls.FORMAT
    if version != expected or type(version) is not int:
        raise WireFormatError("version", f"version {brief(version)}, this is {expected}")
    if cls is None or (accepted and cls not in accepted):
        raise WireFormatError("kind", f"kind {brief(kind)} is not expected here")
    if len(frame) > cls.LARGEST:
        raise WireFormatError("oversize", f"{len(frame)} bytes, {cls.__name__} has {cls.LARGEST}")
    codecs = _codecs(cls)
    if len(raw) != len(codecs) + 2:
        raise WireFormatError(
            "shape", f"{cls.__name__} has {len(codecs)} fields, not {len(raw) - 2}"
        )
    values = [codec.unpack(part) for (_, codec), part in zip(codecs, raw[2:], strict=True)]
    if known is not None:
        known[1].learn(frame, values)
    return cls(*values)
