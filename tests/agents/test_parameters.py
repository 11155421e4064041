import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.parameters import Outcome, ParameterStore
from agents.policy import checksum
from configs.arrays import FloatArray
from runtime.net import wire
from tests.agents_helpers import dense

OLD = np.arange(6, dtype=np.float32)
NEW = np.array([0, 1, 20, 3, 4, 50], dtype=np.float32)


def store() -> ParameterStore:
    return ParameterStore(OLD.copy(), 7)


def delta(
    version: int = 8,
    base: int = 7,
    *,
    indices: tuple[int, ...] = (2, 5),
    values: tuple[float, ...] = (20.0, 50.0),
    result: FloatArray = NEW,
) -> wire.DeltaParameters:
    return wire.DeltaParameters(
        version,
        base,
        checksum(result),
        np.array(indices, dtype=np.uint32),
        np.array(values, dtype=np.float32),
    )


def test_a_newer_dense_version_replaces_everything() -> None:
    ours = store()
    assert ours.apply(dense(NEW, 12)) is Outcome.APPLIED
    assert ours.version == 12
    assert_array_equal(ours.flat, NEW)


def test_a_delta_changes_its_entries_and_leaves_the_others() -> None:
    ours = store()
    assert ours.apply(delta()) is Outcome.APPLIED
    assert ours.version == 8
    assert_array_equal(ours.flat, NEW)


def test_a_delta_of_nothing_is_a_version_all_the_same() -> None:
    ours = store()
    assert ours.apply(delta(indices=(), values=(), result=OLD)) is Outcome.APPLIED
    assert ours.version == 8
    assert_array_equal(ours.flat, OLD)


@pytest.mark.parametrize("version", [0, 6, 7])
def test_a_version_that_is_not_newer_is_old(version: int) -> None:
    for packet in (dense(NEW, version), delta(version, base=7)):
        ours = store()
        assert ours.apply(packet) is Outcome.OLD
        assert ours.version == 7
        assert_array_equal(ours.flat, OLD)


GAPS: dict[str, wire.DenseParameters | wire.DeltaParameters] = {
    "delta to an older base": delta(9, base=6),
    "delta to a newer base": delta(9, base=8),
    "index just beyond the end": delta(indices=(2, 6)),
    "more indices than values": delta(indices=(2, 5, 0)),
    "more values than indices": delta(values=(20.0, 50.0, 0.0)),
    "one value for two indices": delta(values=(20.0,)),
    "delta whose result was another": delta(result=OLD),
    "dense of another length": dense(NEW[:-1], 8),
    "dense with a wrong checksum": wire.DenseParameters(8, checksum(OLD), NEW),
}


@pytest.mark.parametrize("kind", GAPS)
def test_what_does_not_fit_is_a_gap_and_changes_nothing(kind: str) -> None:
    ours = store()
    assert ours.apply(GAPS[kind]) is Outcome.GAP
    assert ours.version == 7
    assert_array_equal(ours.flat, OLD)


@pytest.mark.parametrize("packet", [dense(NEW, 8), delta()], ids=["dense", "delta"])
def test_a_step_in_progress_keeps_the_array_it_began_with(
    packet: wire.DenseParameters | wire.DeltaParameters,
) -> None:
    ours = store()
    in_use = ours.flat
    assert ours.apply(packet) is Outcome.APPLIED
    assert_array_equal(in_use, OLD)


def test_parameters_are_no_view_of_the_frame_they_came_in() -> None:
    ours = store()
    packet = wire.decode(wire.encode(dense(NEW, 8)))
    assert isinstance(packet, wire.DenseParameters)
    ours.apply(packet)
    assert not np.shares_memory(ours.flat, packet.values)


def test_a_snapshot_brings_another_store_up_to_date() -> None:
    ours, theirs = store(), ParameterStore(np.zeros(6, dtype=np.float32), 2)
    ours.apply(delta())
    snapshot = wire.decode(wire.encode(ours.snapshot()))
    assert isinstance(snapshot, wire.DenseParameters)
    assert theirs.apply(snapshot) is Outcome.APPLIED
    assert theirs.version == 8
    assert_array_equal(theirs.flat, NEW)


def test_an_older_version_is_taken_when_it_is_expected() -> None:
    ours = store()
    older = dense(NEW, 3)
    assert ours.apply(older) is Outcome.OLD
    ours.expect(3)
    assert ours.apply(older) is Outcome.APPLIED
    assert ours.version == 3
    assert_array_equal(ours.flat, NEW)
    ours.expect(9)
    assert ours.version == 3, "a newer one needs no leave"
