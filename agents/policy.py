"""A policy: its dimensions, the layout of its parameters, and its file.

    PolicySpec -> layout -> one flat float32 vector, tensors are views of it -> safetensors file

The flat vector is what crosses the wire (dense or as changed entries), what is checksummed and what
an agent swaps between two steps. Nothing depends on N or K, so the same file runs at any
population.
"""

import contextlib
import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import dacite
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as _save

from agents.found import network_of, scheme_of
from agents.head import QHead
from agents.layers import Layout, draw_uniform
from configs.arrays import Bounds, FloatArray
from configs.bounded import brief, parse_json, require_regular, shorten
from configs.errors import UserError
from configs.options import read as read_options
from configs.schema import BeaconDtype, MessageDtype, NetworkConfig
from configs.schema.limits import POSITION

FORMAT = "murmuration-policy/1"
_MOST_BYTES = 1 << 30


class PolicyFileError(UserError, ValueError):
    """A policy file cannot be read, or does not fit the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicySpec:
    """Dimensions of a policy; all that two policies must share to exchange parameters."""

    observation_dim: int
    num_actions: int
    hidden: int
    message: int
    attention: int
    beacon: int
    edge_embedding: int
    scorer: int
    message_dtype: MessageDtype
    beacon_dtype: BeaconDtype
    beacon_delta: float = 0.0
    """Largest change of a beacon's entries that its agent keeps to itself; policies that are older
    than this field say every change."""
    beacon_period: int = 1
    """Steps after which a beacon may be said again; policies that are older than this field may in
    every step."""
    network: str = "gru"
    """Encoder and memory, by name (agents/networks/); policies that are older than this field have
    a GRU."""
    network_options: str = ""
    """What the network itself takes: name=value,name=value."""
    scheme: str = "sops"
    """The communication scheme whose parameters these are, by name (agents/comm/)."""
    scheme_options: str = ""
    heads: int = 1
    """Output layers of the head: agent i acts by layer i modulo their number."""
    policies: int = 1
    """Networks that share nothing, one after the other in the flat vector: agent i acts by number i
    modulo their number."""
    action_bounds: str = ""
    """Where num_actions real numbers make up an action, what bounds each, as -1:1,0:5; empty: one
    of num_actions is chosen."""
    observation_shape: str = ""
    """As 13x13x5, of which the observation is the flat form; empty: it has no other."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.beacon_delta <= 2.0:
            raise ValueError(f"policy beacon_delta must be in [0, 2], got {self.beacon_delta}")
        sizes = {f.name: getattr(self, f.name) for f in fields(self) if f.type is int}
        for name, size in sizes.items():
            if not 1 <= size <= 65_536:
                raise ValueError(f"policy {name} must be between 1 and 65536, got {size}")
        if self.observation_shape and math.prod(self.shape) != self.observation_dim:
            raise ValueError(
                f"policy observation_shape {self.observation_shape} has another size than "
                f"observation_dim {self.observation_dim}"
            )
        bounds = self.bounds
        if bounds is not None and len(bounds[0]) != self.num_actions:
            raise ValueError(
                f"policy action_bounds {brief(self.action_bounds)} are not those of "
                f"{self.num_actions} numbers"
            )

    @classmethod
    def of(
        cls,
        network: NetworkConfig,
        observation_dim: int,
        num_actions: int,
        *,
        comm: str = "sops",
        comm_options: str = "",
        observation_shape: tuple[int, ...] = (),
        bounds: Bounds | None = None,
    ) -> "PolicySpec":
        """The policy that a run asks for.

        Args:
            observation_shape: of which observations are the flat form; networks that use it keep
                it.
            bounds: of the numbers that make up an action; None: actions are chosen from a list.

        Raises:
            ExtensionError: there is no such network or scheme.
            OptionsError: it does not take these options.
        """
        scheme = scheme_of(comm)
        name = scheme.parameters_of or comm
        scheme_options = "" if name != comm else comm_options
        spec = cls(
            observation_dim=observation_dim,
            num_actions=num_actions,
            hidden=network.hidden,
            message=scheme.message_size(
                network, _options(scheme.Options, scheme_options, "--comm.options")
            ),
            attention=network.attention,
            beacon=scheme.beacon_size or network.beacon,
            edge_embedding=network.edge_embedding,
            scorer=network.scorer,
            message_dtype=network.message_dtype,
            beacon_dtype=network.beacon_dtype,
            beacon_delta=network.beacon_delta,
            beacon_period=network.beacon_period,
            network=network.name,
            network_options=network.options,
            heads=network.heads,
            policies=network.policies,
            scheme=name,
            scheme_options=scheme_options,
            action_bounds="" if bounds is None else bounds_to_text(bounds),
            observation_shape=(
                "x".join(map(str, observation_shape)) if network_of(network.name).uses_shape else ""
            ),
        )
        spec.network_opts()
        return spec

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an observation, as the environment makes it."""
        if not self.observation_shape:
            return (self.observation_dim,)
        return tuple(int(size) for size in self.observation_shape.split("x"))

    @property
    def bounds(self) -> Bounds | None:
        """Of the numbers that make up an action; None: actions are chosen from a list.

        Raises:
            ValueError: they are no bounds.
        """
        return _bounds(self.action_bounds) if self.action_bounds else None

    @property
    def outputs(self) -> int:
        """Numbers that an agent's head says: the actions' values or logits, or a mean and the
        logarithm of a deviation for each number of an action.
        """
        return 2 * self.num_actions if self.action_bounds else self.num_actions

    @property
    def context(self) -> int:
        """Numbers that the Q head reads beside the hidden state."""
        return scheme_of(self.scheme).context_of(self)

    def network_opts(self) -> Any:
        """The network's options, as its own dataclass."""
        return _options(network_of(self.network).Options, self.network_options, "--network.options")

    def scheme_opts(self) -> Any:
        """The scheme's options, as its own dataclass."""
        return _options(scheme_of(self.scheme).Options, self.scheme_options, "--comm.options")

    @property
    def one(self) -> "PolicySpec":
        """Of a single one of its networks."""
        return self if self.policies == 1 else replace(self, policies=1)

    def own(self, flat: FloatArray, agent: int) -> FloatArray:
        """The numbers of the network that an agent acts by, a view of [P]."""
        return flat.reshape(self.policies, -1)[agent % self.policies]

    @property
    def layout(self) -> Layout:
        """Names and shapes in the order of the flat vector; matrices are [out, in] as in torch.
        Of several networks the number of each stands before the names: 0/encoder.weight.
        """
        one = _layout(self.one)
        if self.policies == 1:
            return one
        return tuple((f"{n}/{name}", shape) for n in range(self.policies) for name, shape in one)

    @property
    def size(self) -> int:
        """Numbers in the flat vector."""
        return sum(int(np.prod(shape)) for _, shape in self.layout)


@lru_cache(maxsize=32)
def _layout(spec: PolicySpec) -> Layout:
    network, scheme = network_of(spec.network), scheme_of(spec.scheme)
    layout = (
        *network.layout(spec),
        *scheme.layout(spec),
        *QHead.layout(spec),
        *scheme.gate_layout(spec),
    )
    names = [name for name, _ in layout]
    if len(set(names)) < len(names):
        raise ValueError(
            f"network {spec.network} and scheme {spec.scheme} have parameters of the same name"
        )
    return layout


def bounds_to_text(bounds: Bounds) -> str:
    """As a policy's spec keeps them."""
    return ",".join(f"{low!r}:{high!r}" for low, high in zip(*bounds, strict=True))


@lru_cache(maxsize=32)
def _bounds(text: str) -> Bounds:
    pairs: list[tuple[float, float]] = []
    for part in text.split(","):
        low, _, high = part.partition(":")
        pairs.append((float(low), float(high)))
        if not (math.isfinite(pairs[-1][0]) and pairs[-1][0] <= pairs[-1][1] < math.inf):
            raise ValueError(f"policy action_bounds: {brief(part)} bounds nothing")
    low_n, high_n = zip(*pairs, strict=True)
    return low_n, high_n


@lru_cache(maxsize=32)
def _options(options: type[Any], text: str, flag: str) -> Any:
    return read_options(options, text, flag)


def views(spec: PolicySpec, flat: FloatArray) -> Mapping[str, FloatArray]:
    """Name each parameter's view of the flat vector.

    Raises:
        ValueError: the vector has another length than the spec.
    """
    if flat.shape != (spec.size,):
        raise ValueError(f"policy has {flat.shape} numbers, its spec asks for ({spec.size},)")
    tensors: dict[str, FloatArray] = {}
    start = 0
    for name, shape in spec.layout:
        stop = start + int(np.prod(shape))
        tensors[name] = flat[start:stop].reshape(shape)
        start = stop
    return MappingProxyType(tensors)


def checksum(flat: FloatArray) -> int:
    """CRC-32 of the vector's little-endian bytes."""
    return zlib.crc32(np.ascontiguousarray(flat, dtype="<f4").data)


def initialise(spec: PolicySpec, rng: np.random.Generator) -> FloatArray:
    """Draw an untrained policy, tensor by tensor in the order of its layout."""
    if spec.policies > 1:
        return np.concatenate([initialise(spec.one, rng) for _ in range(spec.policies)])
    flat = np.empty(spec.size, dtype=np.float32)
    tensors = views(spec, flat)
    network, scheme = network_of(spec.network), scheme_of(spec.scheme)
    of_network = {name for name, _ in network.layout(spec)}
    of_head = {name for name, _ in QHead.layout(spec)}
    for name in tensors:
        if name in of_head:
            draw_uniform(name, tensors, rng)
        else:
            (network if name in of_network else scheme).draw(spec, name, tensors, rng)
    return flat


@dataclass(frozen=True, slots=True, eq=False)
class PolicyFile:
    """What a policy file holds."""

    spec: PolicySpec
    flat: FloatArray
    """[P] parameters in layout order."""
    version: int
    """Policy version it was published as; 0 for an untrained one."""
    trained: Mapping[str, str]
    """What a run must know to reproduce behaviour: env, comm, gate_timing, gate_mode, dead, …"""

    @property
    def gate_budget(self) -> int:
        """Edges that an agent may open in a step; 0, no limit, where nothing is said."""
        return int(self.trained.get("gate_budget", "0"))


CENTRALISED = "centralised"
"""In `PolicyFile.trained`, of a policy beside which a guide has chosen all actions."""
FROZEN = "frozen"
"""In `PolicyFile.trained`, the file of a pre-training whose tensors were not trained further."""


def load_agents_policy(path: Path) -> PolicyFile:
    """`load_policy` of what agents are to act by.

    Raises:
        PolicyFileError: as there; or an algorithm has trained a guide for all agents, and they have
            learnt nothing.
    """
    policy = load_policy(path)
    if CENTRALISED in policy.trained:
        raise PolicyFileError(
            f"policy file {path}: algorithm {policy.trained.get('algorithm', '?')} chooses all "
            "agents' actions in the learner's process, so no agent can act by this file: train "
            "with magpo for a policy of their own"
        )
    return policy


def save_policy(path: Path, policy: PolicyFile) -> None:
    """Write the file whole or not at all (write, fsync, rename)."""
    metadata = {
        "format": FORMAT,
        "spec": json.dumps(asdict(policy.spec)),
        "version": str(policy.version),
        "crc32": str(checksum(policy.flat)),
        "trained": json.dumps(dict(policy.trained)),
    }
    tensors = {name: np.ascontiguousarray(t) for name, t in views(policy.spec, policy.flat).items()}
    write_atomically(path, _save(tensors, metadata))


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` so that a crash leaves either the old or the new content, never half of it."""
    scratch = path.with_name(path.name + ".tmp")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # A full disk must not be kept full by half of what did not fit; nor does a Ctrl-C leave it.
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    scratch.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@dataclass(frozen=True, slots=True)
class _Metadata:
    """What a policy file says about its tensors."""

    spec: PolicySpec
    version: int
    crc32: int
    trained: dict[str, str]

    def __post_init__(self) -> None:
        if not 0 <= self.version < 1 << 32:
            raise ValueError(f"version must fit 32 bits, got {self.version}")
        budget = self.trained.get("gate_budget", "0")
        if not (budget.isascii() and budget.isdigit()):
            raise ValueError(f"gate_budget must be a whole number, got {budget!r}")


def load_policy(path: Path) -> PolicyFile:
    """Read and check a policy file with numpy alone.

    Raises:
        PolicyFileError: unreadable, of another format, damaged, or not matching its own spec.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        raise PolicyFileError(
            f"policy file {path} has format {brief(metadata.get('format'))}, expected {FORMAT!r}"
        )
    try:
        stated = dacite.from_dict(
            _Metadata,
            {
                "spec": parse_json(metadata["spec"]),
                "version": int(metadata["version"]),
                "crc32": int(metadata["crc32"]),
                "trained": parse_json(metadata["trained"]),
            },
            dacite.Config(strict=True),
        )
    except (KeyError, ValueError, dacite.DaciteError) as error:
        what = shorten(str(error))
        raise PolicyFileError(f"policy file {path} has damaged metadata: {what}") from error
    for name, shape in stated.spec.layout:
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != np.float32:
            found = "missing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
            raise PolicyFileError(
                f"policy file {path}: {name} is {found}, its spec asks for float32 {shape}"
            )
    flat = np.concatenate([tensors[name].ravel() for name, _ in stated.spec.layout])
    if checksum(flat) != stated.crc32:
        raise PolicyFileError(f"policy file {path} is damaged: checksum does not match")
    if not np.isfinite(flat).all():
        raise PolicyFileError(f"policy file {path} holds values that are not finite")
    trained = MappingProxyType(stated.trained)
    return PolicyFile(spec=stated.spec, flat=flat, version=stated.version, trained=trained)


def _read(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    try:
        require_regular(path, _MOST_BYTES)
        # safetensors ships no types for its numpy side.
        with cast("Any", safe_open)(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            names: list[str] = list(file.keys())
            return metadata, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: a dtype that numpy lacks
        what = shorten(getattr(error, "strerror", None) or str(error))
        raise PolicyFileError(f"policy file {path} cannot be read: {what}") from error


def require_spec(path: Path, found: PolicySpec, wanted: PolicySpec) -> None:
    """Check that a file's policy fits a run; when beacons are said is no matter of fitting.

    Raises:
        PolicyFileError: names every dimension that differs.
    """
    found = replace(found, beacon_delta=wanted.beacon_delta, beacon_period=wanted.beacon_period)
    said = [f"{name} is {a}, this run has {b}" for name, a, b in differences(found, wanted)]
    more = found.observation_dim - wanted.observation_dim
    if said and abs(more) == POSITION:
        way_out = "give" if more > 0 else "leave out"
        said[-1] += f" (the agent's own position? {way_out} --env.options position=true)"
    if said:
        raise PolicyFileError(f"policy file {path} does not fit: {'; '.join(said)}")


def differences(found: PolicySpec, wanted: PolicySpec) -> list[tuple[str, object, object]]:
    """Every dimension that differs: its name, what was found, what is wanted."""
    return [
        (field.name, getattr(found, field.name), getattr(wanted, field.name))
        for field in fields(PolicySpec)
        if getattr(found, field.name) != getattr(wanted, field.name)
    ]
