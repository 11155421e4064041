"""Sparse versions from the learner to an agent: Publisher -> wire -> ParameterStore."""

import tracemalloc
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from agents.parameters import Outcome, ParameterStore
from agents.policy import PolicySpec, checksum
from configs.arrays import BoolArray, FloatArray
from configs.schema import NetworkConfig, PublishDtype
from learner.publish import Publisher
from runtime.net import wire
from runtime.net.masks import pack_mask

SIZE = 500


class Training:
    """A vector that moves a little with every version and its mask sometimes, as under Adam and
    RigL: what is grown starts at zero."""

    def __init__(self, size: int = SIZE, density: float = 0.1, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self.mask: BoolArray = self._rng.random(size) < density
        self.flat: FloatArray = np.zeros(size, dtype=np.float32)
        self.flat[self.mask] = self._rng.normal(size=self.mask.sum())

    def update(self) -> None:
        steps = self._rng.normal(scale=1e-3, size=self.flat.size).astype(np.float32)
        self.flat = (self.flat + steps) * self.mask  # absent negative ones become -0.0

    def evolve(self, links: int = 5) -> None:
        mask = self.mask.copy()
        mask[self._rng.choice(np.flatnonzero(self.mask), links, replace=False)] = False
        mask[self._rng.choice(np.flatnonzero(~self.mask), links, replace=False)] = True
        self.flat = np.where(mask & self.mask, self.flat, np.float32(0.0))
        self.mask = mask


def over_the_wire(packet: wire.Packet) -> wire.Parameters:
    received = wire.decode(wire.encode(packet))
    assert isinstance(received, wire.Parameters)
    return received


def bits(flat: FloatArray) -> NDArray[np.uint32]:
    return flat.view(np.uint32)


def publisher_of(
    training: Training, version: int = 1, dtype: PublishDtype = "float32"
) -> Publisher:
    return Publisher(training.flat, "sparse", version, mask=training.mask, dtype=dtype)


def follower_of(publisher: Publisher) -> ParameterStore:
    """Somebody who begins with this version."""
    store = ParameterStore(np.zeros(publisher.flat.size, dtype=np.float32), 0)
    assert store.apply(over_the_wire(publisher.snapshot())) is Outcome.APPLIED
    return store


def versions(training: Training, publisher: Publisher, count: int) -> list[wire.Parameters]:
    packets: list[wire.Parameters] = []
    for _ in range(count):
        training.update()
        packets.append(over_the_wire(publisher.publish(training.flat, training.mask)))
    return packets


# --- the same bits at both ends -------------------------------------------------------------------


def test_agents_have_the_learners_masked_weights_to_the_bit_through_evolutions() -> None:
    training = Training()
    publisher = publisher_of(training)
    store = follower_of(publisher)
    kinds: set[type] = set()
    for version in range(2, 40):
        if version % 7 == 0:
            training.evolve()
        else:
            training.update()
        packet = over_the_wire(publisher.publish(training.flat, training.mask))
        kinds.add(type(packet))
        assert store.apply(packet) is Outcome.APPLIED
        assert store.version == version
        expected = np.where(training.mask, training.flat, np.float32(0.0))
        assert_array_equal(bits(store.flat), bits(expected))
    assert wire.SparseDelta in kinds


def test_float16_agents_have_the_learners_masked_weights_rounded_once() -> None:
    training = Training()
    publisher = publisher_of(training, dtype="float16")
    store = follower_of(publisher)
    for packet in versions(training, publisher, 30):  # rounding of roundings would drift apart
        assert store.apply(packet) is Outcome.APPLIED
    expected = np.where(training.mask, training.flat, 0.0).astype(np.float16).astype(np.float32)
    assert_array_equal(bits(store.flat), bits(expected))
    assert_array_equal(bits(publisher.flat), bits(expected))


def test_float16_weights_cross_in_two_octets_each() -> None:
    training = Training(5000)
    publisher = publisher_of(training, dtype="float16")
    whole = over_the_wire(publisher.snapshot())
    assert isinstance(whole, wire.SparseParameters)
    assert whole.values.dtype == np.float16
    (delta,) = versions(training, publisher, 1)
    assert isinstance(delta, wire.SparseDelta)
    assert delta.width == 2
    assert delta.difference.nbytes < whole.values.nbytes


def test_float16_weights_beyond_its_range_are_its_largest() -> None:
    training = Training()
    training.flat[np.flatnonzero(training.mask)[:2]] = 1e6, -1e6
    store = follower_of(publisher_of(training, dtype="float16"))
    assert (store.flat.min(), store.flat.max()) == (-65504.0, 65504.0)


@pytest.mark.parametrize("mode", ["dense", "delta"])
def test_dense_versions_are_rounded_as_well(mode: Any) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, SIZE)).astype(np.float32)
    after[5:] = before[5:]
    publisher = Publisher(before, mode, dtype="float16")
    store = follower_of(publisher)
    assert store.apply(over_the_wire(publisher.publish(after))) is Outcome.APPLIED
    assert_array_equal(bits(store.flat), bits(after.astype(np.float16).astype(np.float32)))
    whole = publisher.snapshot()
    assert len(wire.encode(whole)) < 2 * SIZE + 50


def test_an_absent_weight_is_positive_zero_whatever_the_learner_holds_there() -> None:
    training = Training()
    absent = np.flatnonzero(~training.mask)
    training.flat[absent[0]], training.flat[absent[1]] = -0.0, 7.0
    store = follower_of(publisher_of(training))
    assert not bits(store.flat)[absent].any()


def test_a_weight_that_exists_keeps_its_sign_of_zero() -> None:
    training = Training()
    publisher = publisher_of(training)
    store = follower_of(publisher)
    place = np.flatnonzero(training.mask)[0]
    training.flat[place] = -0.0
    assert store.apply(over_the_wire(publisher.publish(training.flat, training.mask)))
    assert np.signbit(store.flat[place])


def test_without_a_mask_what_is_zero_does_not_exist() -> None:
    training = Training()
    publisher = Publisher(training.flat, "sparse")
    store = follower_of(publisher)
    whole = publisher.snapshot()
    assert isinstance(whole, wire.SparseParameters)
    assert whole.values.size == np.count_nonzero(training.flat)
    training.evolve()
    training.update()
    assert store.apply(over_the_wire(publisher.publish(training.flat))) is Outcome.APPLIED
    assert_array_equal(store.flat, training.flat)


# --- what crosses ---------------------------------------------------------------------------------


def test_the_mask_crosses_when_the_topology_has_moved_and_else_not() -> None:
    training = Training(5000)
    publisher = publisher_of(training)
    (still,) = versions(training, publisher, 1)
    training.evolve()
    (moved,) = versions(training, publisher, 1)
    (again,) = versions(training, publisher, 1)
    sizes = [p.mask.size for p in (still, moved, again) if isinstance(p, wire.SparseDelta)]
    assert sizes == [0, pack_mask(training.mask).size, 0]


def test_a_weight_grown_at_zero_is_part_of_the_mask() -> None:
    training = Training()
    publisher = publisher_of(training)
    training.evolve()
    publisher.publish(training.flat, training.mask)
    store = follower_of(publisher)
    (packet,) = versions(training, publisher, 1)
    assert isinstance(packet, wire.SparseDelta)
    assert packet.mask.size == 0
    assert store.apply(packet) is Outcome.APPLIED
    assert_array_equal(store.flat, np.where(training.mask, training.flat, 0.0))


def test_a_delta_between_strangers_is_hardly_longer_than_the_whole() -> None:
    publisher, other = publisher_of(Training(5000)), Training(5000, seed=1)
    delta = publisher.publish(other.flat, other.mask)
    assert isinstance(delta, wire.SparseDelta)
    assert len(wire.encode(delta)) < 1.01 * len(wire.encode(publisher.snapshot()))


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0.14), ("float16", 0.09)])
def test_a_tenth_of_battles_weights_takes_a_seventh_of_the_dense_bytes(
    dtype: PublishDtype, most: float
) -> None:
    size = PolicySpec.of(NetworkConfig(), 98, 21).size
    training = Training(size)
    publisher = publisher_of(training, dtype=dtype)
    dense = len(wire.encode(Publisher(training.flat + 1, "dense").snapshot()))
    assert len(wire.encode(publisher.snapshot())) < most * dense
    (delta,) = versions(training, publisher, 1)
    assert len(wire.encode(delta)) < len(wire.encode(publisher.snapshot()))


# --- gaps, late joiners, relays, new lives --------------------------------------------------------


def test_a_lost_version_is_a_gap_until_a_snapshot_comes() -> None:
    training = Training()
    publisher = publisher_of(training)
    store = follower_of(publisher)
    _, after_the_lost_one = versions(training, publisher, 2)
    before = store.flat
    assert store.apply(after_the_lost_one) is Outcome.GAP
    assert store.flat is before
    assert store.apply(over_the_wire(publisher.snapshot())) is Outcome.APPLIED
    (packet,) = versions(training, publisher, 1)
    assert store.apply(packet) is Outcome.APPLIED
    assert_array_equal(store.flat, publisher.flat)


def test_who_has_the_base_but_came_to_it_dense_asks_for_a_snapshot() -> None:
    training = Training()
    publisher = publisher_of(training, version=4)
    began_with_it = ParameterStore(publisher.flat.copy(), 4)
    was_sparse = follower_of(publisher_of(training, version=3))
    dense = wire.DenseParameters(4, checksum(publisher.flat), publisher.flat)
    assert was_sparse.apply(dense) is Outcome.APPLIED
    training.evolve()
    (packet,) = versions(training, publisher, 1)
    for store in (began_with_it, was_sparse):
        assert store.apply(packet) is Outcome.GAP
        assert store.apply(over_the_wire(publisher.snapshot())) is Outcome.APPLIED
        assert_array_equal(store.flat, publisher.flat)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_node_passes_a_sparse_version_on_to_a_late_agent_as_sparse(dtype: PublishDtype) -> None:
    training = Training()
    publisher = publisher_of(training, dtype=dtype)
    node = follower_of(publisher)
    training.evolve()
    for packet in versions(training, publisher, 3):
        assert node.apply(packet) is Outcome.APPLIED
    agent = ParameterStore(np.zeros(SIZE, dtype=np.float32), 0)
    # To the octet what the learner would have answered.
    assert wire.encode(node.snapshot()) == wire.encode(publisher.snapshot())
    assert agent.apply(over_the_wire(node.snapshot())) is Outcome.APPLIED
    for packet in versions(training, publisher, 2):
        assert node.apply(packet) is agent.apply(packet) is Outcome.APPLIED
    assert_array_equal(bits(agent.flat), bits(publisher.flat))


def test_a_learner_that_starts_again_brings_everybody_to_its_own_weights() -> None:
    training, earlier = Training(), Training(seed=1)
    store = follower_of(publisher_of(earlier, version=9))
    publisher = publisher_of(training, version=4)
    assert store.apply(over_the_wire(publisher.publish(training.flat))) is Outcome.OLD
    assert store.apply(over_the_wire(publisher.continue_after(9))) is Outcome.APPLIED
    assert store.version == 10
    for packet in versions(training, publisher, 2):
        assert store.apply(packet) is Outcome.APPLIED
    assert_array_equal(store.flat, publisher.flat)


@pytest.mark.parametrize("before", [True, False], ids=["sparse to dense", "dense to sparse"])
def test_a_learner_may_start_again_in_another_mode(before: bool) -> None:
    training = Training()
    sparse, dense = publisher_of(training), Publisher(training.flat, "dense")
    first, second = (sparse, dense) if before else (dense, sparse)
    store = follower_of(first)
    assert store.apply(over_the_wire(second.continue_after(1))) is Outcome.APPLIED
    training.update()
    packet = over_the_wire(second.publish(training.flat, training.mask))
    assert store.apply(packet) is Outcome.APPLIED
    assert_array_equal(store.flat, second.flat)


# --- what does not fit ----------------------------------------------------------------------------


class Exchange:
    """A store at version 1, and honest packets that would bring it to version 2."""

    def __init__(self) -> None:
        training = Training()
        publisher = publisher_of(training)
        self.store = follower_of(publisher)
        training.evolve()
        (delta,) = versions(training, publisher, 1)
        whole = publisher.snapshot()
        assert isinstance(delta, wire.SparseDelta)
        assert isinstance(whole, wire.SparseParameters)
        self.delta, self.whole = delta, whole
        self.weights = int(np.count_nonzero(training.mask))

    def is_refused(self, packet: wire.Parameters) -> bool:
        """Decodes, is a gap, and has changed nothing; and the honest one is still welcome."""
        flat = self.store.flat.copy()
        outcome = self.store.apply(over_the_wire(packet))
        assert_array_equal(self.store.flat, flat)
        return outcome is Outcome.GAP and self.store.apply(self.delta) is Outcome.APPLIED


def deflated(octets: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.compress(octets, wbits=-15), dtype=np.uint8)


EVERYTHING = pack_mask(np.ones(SIZE, dtype=np.bool_))
BEYOND = pack_mask(np.ones(SIZE + 8, dtype=np.bool_))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": SIZE - 1},
        {"size": 2**32 - 1},
        {"mask": EVERYTHING},  # as many values as before
        {"mask": BEYOND},
        {"mask": np.empty(0, dtype=np.uint8)},
        {"values": np.zeros(3, dtype=np.float32)},
        {"values": np.zeros(0, dtype=np.float16)},
        {"crc32": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_whole_version_that_does_not_fit_is_a_gap(changes: dict[str, Any]) -> None:
    exchange = Exchange()
    assert exchange.is_refused(replace(exchange.whole, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"base_version": 0},
        {"base_version": 2},
        {"mask": EVERYTHING},
        {"mask": BEYOND},
        {"mask": np.empty(0, dtype=np.uint8)},  # that of the base, which is another
        {"width": 2},
        {"difference": np.empty(0, dtype=np.uint8)},
        {"difference": np.full(40, 7, dtype=np.uint8)},
        {"difference": deflated(bytes(3))},
        {"crc32": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_delta_that_does_not_fit_is_a_gap(changes: dict[str, Any]) -> None:
    exchange = Exchange()
    assert exchange.is_refused(replace(exchange.delta, **changes))


@pytest.mark.parametrize("width", [0, 1, 3, 8])
def test_a_delta_of_numbers_of_another_width_is_a_gap(width: int) -> None:
    exchange = Exchange()
    difference = deflated(bytes(width * exchange.weights))
    assert exchange.is_refused(replace(exchange.delta, width=width, difference=difference))


def test_a_delta_that_is_cut_off_is_a_gap() -> None:
    exchange = Exchange()
    assert exchange.is_refused(
        replace(exchange.delta, difference=exchange.delta.difference[:-1].copy())
    )


def test_a_delta_to_infinity_is_a_gap_though_its_checksum_agrees() -> None:
    exchange = Exchange()
    store = exchange.store
    whole = store.snapshot()
    assert isinstance(whole, wire.SparseParameters)
    endless = np.where(store.flat != 0.0, np.float32(np.inf), np.float32(0.0))
    old = whole.values.astype(np.float32).view(np.uint32)
    difference = (old ^ np.full_like(old, 0x7F800000)).view(np.uint8).reshape(-1, 4)
    assert exchange.is_refused(
        replace(
            exchange.delta,
            mask=np.empty(0, dtype=np.uint8),
            crc32=checksum(endless),
            difference=deflated(difference.T.tobytes()),
        )
    )


def test_a_small_packet_that_inflates_to_gigabytes_is_refused_before_it_does() -> None:
    exchange = Exchange()
    bomb = deflated(bytes(64 * wire.MIB))
    assert bomb.size < 100_000
    packet = replace(exchange.delta, difference=bomb)
    tracemalloc.start()
    try:
        assert exchange.store.apply(packet) is Outcome.GAP
        assert tracemalloc.get_traced_memory()[1] < wire.MIB
    finally:
        tracemalloc.stop()
