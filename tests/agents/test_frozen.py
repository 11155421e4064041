"""Objects as blocks of bytes: the same policy at the other end, nothing copied, nothing called."""

import sys
from dataclasses import dataclass
from types import MethodType, ModuleType
from typing import Any, cast

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

from agents.comm.base import Heard
from agents.found import network_of
from agents.frozen import ALIGNMENT, Block, DamagedError, Frozen, NotShareableError, thaw
from agents.policy import PolicySpec, initialise
from agents.shared_parameters import freeze
from agents.version import PolicyVersion
from configs.extensions import NETWORK, names
from configs.schema import NetworkConfig
from tests.agents_helpers import NUM_AGENTS, SPEC, make_flat
from tests.scheme_cases import Case, cases

SHAPE = (6, 6, 2)
COPIES = 3


def block_of(thing: object) -> Block:
    """The object in memory that may not be written."""
    return filled(Frozen(thing))


def filled(frozen: Frozen) -> Block:
    room = np.zeros(frozen.size + ALIGNMENT, dtype=np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    block = room[start : start + frozen.size]
    frozen.write(block)
    block.flags.writeable = False
    return block


def arrays_in(thing: Any, seen: set[int] | None = None) -> list[NDArray[Any]]:
    """All arrays that an object holds, however deep."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return [cast("NDArray[Any]", thing)]
    parts: list[Any] = list(cast("Any", thing)) if isinstance(thing, list | tuple) else []
    parts += [thing.__self__] if isinstance(thing, MethodType) else []
    parts += list(cast("dict[str, Any]", getattr(cast("Any", thing), "__dict__", {})).values())
    return [array for part in parts for array in arrays_in(part, seen)]


def play(version: PolicyVersion, spec: PolicySpec, steps: int = 4) -> list[NDArray[Any]]:
    """What an agent computes in a few steps, in the order in which it does."""
    rng = np.random.default_rng(5)
    edges = version.scheme.graph(NUM_AGENTS, spec.scheme_opts()).num_edges
    hidden_EH = version.begin(COPIES)
    parts_EP = version.parts(hidden_EH)
    own_EM = np.zeros((COPIES, spec.message), dtype=np.float32)
    memory_EX = np.zeros((COPIES, version.scheme.memory), dtype=np.float32)
    results: list[NDArray[Any]] = []
    for step in range(steps):
        observation_ED = rng.standard_normal((COPIES, spec.observation_dim), dtype=np.float32)
        hidden_EH = version.recur(observation_ED, hidden_EH, parts_EP)
        parts_EP = version.parts(hidden_EH)
        heard_EKM = rng.standard_normal((COPIES, edges, spec.message), dtype=np.float32)
        if version.scheme.says_actions:
            heard_EKM = np.floor(np.abs(heard_EKM))
        present_ET = rng.random((COPIES, 1 + edges)) < 0.6
        present_ET[:, 0] = True
        heard = Heard(
            own_EM=own_EM,
            tokens_ETM=np.concatenate((own_EM[:, None], heard_EKM), axis=1),
            present_ET=present_ET,
            steps_E=np.full(COPIES, step, dtype=np.uint16),
            memory_EX=memory_EX,
            observation_ED=observation_ED,
            open_EK=present_ET[:, 1:],
        )
        if not version.scheme.says_actions:
            own_EM = version.message(parts_EP, heard)
        results += [hidden_EH.copy(), parts_EP.copy(), own_EM.copy(), memory_EX.copy()]
        context_EC = version.context(parts_EP, heard, own_EM)
        results.append(version.q_values(parts_EP, context_EC))
    return results


def spec_for(network: str, case: Case) -> PolicySpec:
    return PolicySpec.of(
        NetworkConfig(name=network),
        int(np.prod(SHAPE)),
        4,
        comm=case.scheme,
        comm_options=case.options,
        observation_shape=SHAPE,
    )


def sparse(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Most weights are zero, so that units die."""
    rng = np.random.default_rng(3)
    return np.where(rng.random(flat.size) < 0.03, flat, np.float32(0.0))


@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("case", cases(), ids=str)
@pytest.mark.parametrize("network", names(NETWORK))
def test_a_policy_computes_the_same_bits_in_shared_memory_and_none_of_it_is_copied(
    network: str, case: Case, is_sparse: bool
) -> None:
    spec = spec_for(network, case)
    flat = initialise(spec, np.random.default_rng(0))
    flat = sparse(flat) if is_sparse else flat
    version = PolicyVersion(spec, flat, NUM_AGENTS)
    block = filled(freeze(spec, flat, NUM_AGENTS))
    shared = thaw(block)
    assert isinstance(shared, PolicyVersion), "a network or a scheme of ours cannot be shared"
    for array in arrays_in(shared):
        assert not array.flags.writeable
        assert not array.size or np.shares_memory(array, block)
    for here, there in zip(play(version, spec), play(shared, spec), strict=True):
        np.testing.assert_array_equal(here, there)
    carried = shared.begin(2) + np.float32(0.5)
    np.testing.assert_array_equal(shared.adopt(carried, version), carried)


class Stranger(network_of("gru")):
    """Somebody else's network, which has not agreed."""


class Guest(network_of("gru")):
    shared_arrays = True


class GuestsChild(Guest):
    pass


def test_a_class_from_elsewhere_is_shared_only_if_it_says_so_itself() -> None:
    tensors = PolicyVersion(SPEC, make_flat(), NUM_AGENTS)
    for cls in (Stranger, GuestsChild):
        network = object.__new__(cls)
        network.__dict__.update(vars(tensors.network))
        with pytest.raises(NotShareableError, match=cls.__name__):
            Frozen(network)
    guest = object.__new__(Guest)
    guest.__dict__.update(vars(tensors.network))
    assert type(thaw(block_of(guest))) is Guest


@pytest.mark.parametrize(
    "thing",
    [
        np.random.default_rng(0),
        lambda: 0,
        {1, 2},
        np.array(["text"]),
        np.array([object()]),
        np.datetime64(0, "s"),
        1 << 80,
        b"octets",
        open,
        PolicyVersion,
        dict.fromkeys,
    ],
    ids=str,
)
def test_what_has_no_place_in_a_block_is_refused(thing: object) -> None:
    with pytest.raises(NotShareableError):
        Frozen([thing])


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(NotShareableError):
        Frozen(endless)


def test_values_containers_and_arrays_come_back_as_they_were() -> None:
    cube = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    thing = {
        "plain": [None, True, -3, 2.5, "ä"],
        "scalar": np.float32(0.1),
        "slice": (slice(1, 5), slice(None, None, 2)),
        "nothing": np.zeros((0, 4), dtype=np.float32),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "strided": np.arange(12.0).reshape(3, 4)[:, 1:3],
        "turned": cube.transpose(1, 0, 2),
        "point": np.array(7, dtype=np.uint8),
    }
    found: Any = thaw(block_of(thing))
    assert found["plain"] == thing["plain"]
    assert found["slice"] == thing["slice"]
    assert type(found["scalar"]) is np.float32
    assert found["scalar"] == np.float32(0.1)
    for name in ("nothing", "transposed", "strided", "turned", "point"):
        expected: Any = thing[name]
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype
    # A product of another order of memory may add in another order.
    assert found["transposed"].flags.f_contiguous


def test_what_is_one_thing_stays_one_thing() -> None:
    shared, whole = np.ones(3), PolicyVersion(SPEC, make_flat(), NUM_AGENTS)
    found: Any = thaw(block_of((shared, shared, whole, whole)))
    first, second, a, b = found
    assert np.shares_memory(first, second)
    assert a is b
    assert a.recur.__self__ is a.network


def said(structure: object) -> Block:
    """A block that says this."""
    octets: bytes = msgpack.packb(structure)  # pyright: ignore  # no type stubs
    return np.frombuffer(len(octets).to_bytes(8, "little") + octets, dtype=np.uint8)


@dataclass
class Bystander:
    touched: bool = False


def test_a_block_makes_no_class_that_is_not_ours_and_calls_nothing() -> None:
    module = ModuleType("bystanders")
    module.Bystander = Bystander  # type: ignore[attr-defined]  # a module made here
    sys.modules["bystanders"] = module
    try:
        for structure in (
            [7, "bystanders", "Bystander"],
            [7, "os", "system"],
            [7, "agents.policy", "initialise"],
            [7, "agents.nowhere", "Sops"],
            [7, "builtins", "object"],
            [9, [7, "agents.head", "QHead"], "__class__"],
            [9, [7, "agents.head", "QHead"], "layout"],
            [8, 0],
            [2, 0, "<f4", [1 << 40], "C"],
            [2, -64, "<f4", [1], "C"],
            [2, 0, "<f4", [-1], "C"],
            [2, 0, "O", [0], "C"],
            [1, "<f4", b""],
            [99],
            [],
            "text",
        ):
            with pytest.raises(DamagedError):
                thaw(said(structure))
    finally:
        del sys.modules["bystanders"]


def test_a_damaged_block_is_refused_and_never_anything_worse() -> None:
    block = filled(freeze(SPEC, make_flat(), NUM_AGENTS))
    rng = np.random.default_rng(0)
    structure = int.from_bytes(block[:8].tobytes(), "little")
    refused = 0
    for _ in range(400):
        damaged = block.copy()
        places = rng.integers(8 + structure, size=rng.integers(1, 4))
        damaged[places] = rng.integers(256, size=places.size)
        try:
            thaw(damaged)
        except DamagedError:
            refused += 1
    assert refused > 100
    for size in (0, 7, 8, 9, 100, structure):
        with pytest.raises(DamagedError):
            thaw(block[:size])
