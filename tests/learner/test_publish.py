import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.parameters import Outcome, ParameterStore
from agents.policy import checksum
from configs.arrays import FloatArray
from learner.publish import Publisher
from runtime.net import wire


def vector(seed: int, size: int = 100) -> FloatArray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def changed(flat: FloatArray, count: int) -> FloatArray:
    result = flat.copy()
    result[:count] += 1.0
    return result


def over_the_wire(packet: wire.Packet) -> wire.DenseParameters | wire.DeltaParameters:
    received = wire.decode(wire.encode(packet))
    assert isinstance(received, (wire.DenseParameters, wire.DeltaParameters))
    return received


def test_versions_grow_by_one_and_carry_their_checksum() -> None:
    publisher = Publisher(vector(0), "dense", version=5)
    assert publisher.snapshot().version == 5
    packet = publisher.publish(vector(1))
    assert isinstance(packet, wire.DenseParameters)
    assert (packet.version, publisher.version) == (6, 6)
    assert packet.crc32 == checksum(vector(1))


def test_a_delta_holds_what_has_changed_and_brings_a_receiver_up_to_date() -> None:
    before = vector(0)
    after = changed(before, 7)
    publisher = Publisher(before, "delta", version=3)
    store = ParameterStore(before, 3)
    packet = over_the_wire(publisher.publish(after))
    assert isinstance(packet, wire.DeltaParameters)
    assert_array_equal(packet.indices, np.arange(7))
    assert store.apply(packet) is Outcome.APPLIED
    assert_array_equal(store.flat, after)


def test_a_delta_on_the_wrong_base_is_noticed() -> None:
    publisher = Publisher(vector(0), "delta", version=3)
    packet = over_the_wire(publisher.publish(changed(vector(0), 7)))
    older, other = ParameterStore(vector(0), 2), ParameterStore(vector(9), 3)
    assert older.apply(packet) is Outcome.GAP  # by its number
    assert other.apply(packet) is Outcome.GAP  # by its checksum
    assert_array_equal(other.flat, vector(9))
    assert other.apply(over_the_wire(publisher.snapshot())) is Outcome.APPLIED


def test_a_sign_of_zero_is_a_change() -> None:
    before = np.zeros(10, dtype=np.float32)
    after = before.copy()
    after[3] = -0.0
    store = ParameterStore(before, 1)
    packet = over_the_wire(Publisher(before, "delta").publish(after))
    assert store.apply(packet) is Outcome.APPLIED
    assert np.signbit(store.flat[3])


@pytest.mark.parametrize(
    ("count", "kind"), [(49, wire.DeltaParameters), (50, wire.DenseParameters)]
)
def test_a_delta_that_would_not_be_smaller_is_sent_whole(count: int, kind: type) -> None:
    packet = Publisher(vector(0), "delta").publish(changed(vector(0), count))
    assert isinstance(packet, kind)


def test_what_was_published_does_not_change_with_the_learners_vector() -> None:
    flat = vector(0)
    publisher = Publisher(flat, "dense")
    flat[:] = 0.0
    assert publisher.snapshot().values.any()


def test_a_restarted_learner_goes_on_above_what_agents_have() -> None:
    publisher = Publisher(vector(0), "delta", version=4)
    packet = publisher.continue_after(9)
    assert isinstance(packet, wire.DenseParameters)
    assert packet.version == 10
    assert publisher.continue_after(2).version == 11  # never backwards
    assert publisher.publish(changed(vector(0), 1)).version == 12
