"""An agent whose policy lies in its host's memory acts as one that has its own, to the bit."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from agents.core import AgentCore
from agents.events import Command, SendBeacon, SendMessage, ToNode, ToWorld
from agents.frozen import DamagedError, Frozen
from agents.networks.gru import Gru
from agents.parameters import Outcome, ParameterStore
from agents.policy import PolicySpec, checksum
from agents.rules import AgentRules
from agents.segment import Segment, SegmentWriter
from agents.shared_parameters import HostParameters, freeze
from agents.sparse_parameters import Masked, advance, whole
from agents.version import PolicyVersion
from configs.arrays import FloatArray
from runtime.net import wire
from tests.agents_helpers import NUM_AGENTS, SPEC, dense, make_flat, make_rules, observation

RULES = make_rules(copies=2)


class Foreign(Gru):
    """Somebody else's network, which writes to what it has made and to what it was given."""

    def __init__(self, spec: PolicySpec, tensors: dict[str, FloatArray]) -> None:
        tensors["encoder.bias"][...] += 0.5
        super().__init__(spec, tensors)
        self._calls = np.zeros(1)

    def recur(
        self, observation_ED: FloatArray, hidden_EH: FloatArray, parts_EP: FloatArray
    ) -> FloatArray:
        self._calls += 1
        return super().recur(observation_ED, hidden_EH, parts_EP)


FOREIGN = replace(SPEC, network=f"{__name__}:Foreign")


@pytest.fixture
def writer() -> Iterator[SegmentWriter]:
    writer = SegmentWriter(freeze(SPEC, make_flat(), NUM_AGENTS).size)
    yield writer
    writer.close()


def share(writer: SegmentWriter, version: int, flat: FloatArray, spec: PolicySpec = SPEC):
    said = writer.publish(version, freeze(spec, flat, NUM_AGENTS))
    assert said is not None
    return said


def attached(writer: SegmentWriter, spec: PolicySpec = SPEC) -> HostParameters:
    return HostParameters(Segment(writer.handle), spec)


def agent(rules: AgentRules, parameters: ParameterStore | HostParameters) -> AgentCore:
    return AgentCore(0, rules, parameters, np.random.default_rng(11))


def octets(commands: list[Command]) -> list[bytes]:
    """All that an agent says."""
    said: list[bytes] = []
    for command in commands:
        match command:
            case ToWorld():
                said.append(wire.encode(command.packet))
            case SendMessage() | SendBeacon():
                said += [np.asarray(getattr(command, name)).tobytes() for name in ("rows",)]
            case _:
                raise AssertionError(f"{command} is not expected here")
    return said


@pytest.mark.parametrize("spec", [SPEC, FOREIGN], ids=["ours", "foreign"])
@pytest.mark.parametrize("density", [1.0, 0.2], ids=["dense", "sparse"])
def test_an_agent_acts_alike_with_a_policy_of_its_own_and_with_its_hosts(
    writer: SegmentWriter, spec: PolicySpec, density: float
) -> None:
    rules = replace(RULES, spec=spec)
    rng = np.random.default_rng(0)

    def flat_of(version: int) -> FloatArray:
        exists_P = rng.random(spec.size) < density
        return np.where(exists_P, make_flat(seed=version), np.float32(0.0))

    first = flat_of(1)
    share(writer, 1, first, spec)
    own = agent(rules, ParameterStore(first.copy(), 1))
    hosted = agent(rules, attached(writer, spec))
    for tick in range(1, 9):
        version, flat = tick + 1, flat_of(tick + 1)
        assert own.handle(dense(flat, version)) == []
        assert hosted.handle(share(writer, version, flat, spec)) == []
        now = observation(rules, tick, explore=True, epsilon=0.3)
        expected = octets(own.handle(now))
        assert octets(hosted.handle(now)) == expected
        assert expected
        assert own.policy_version == hosted.policy_version == version


def test_a_steady_agent_keeps_a_version_for_an_episode_while_others_come_and_go(
    writer: SegmentWriter,
) -> None:
    rules = replace(RULES, steady=True)
    flat = make_flat(seed=1)
    share(writer, 1, flat)
    own, hosted = agent(rules, ParameterStore(flat, 1)), agent(rules, attached(writer))
    for tick in range(1, 30):
        now = observation(rules, tick, explore=True)
        assert octets(hosted.handle(now)) == octets(own.handle(now))
        assert hosted.policy_version == 1
        hosted.handle(share(writer, tick + 1, make_flat(seed=tick + 1)))


def test_versions_come_in_order_and_an_old_one_changes_nothing(writer: SegmentWriter) -> None:
    share(writer, 5, make_flat(seed=5))
    ours = attached(writer)
    assert (ours.version, ours.shared_bytes) == (5, 0)
    said = share(writer, 6, make_flat(seed=6))
    assert ours.apply(said) is Outcome.APPLIED
    assert (ours.version, ours.shared_bytes) == (6, said.size)
    assert ours.apply(said) is Outcome.OLD
    assert ours.apply(dense(make_flat(), 4)) is Outcome.OLD


def test_an_agent_that_falls_behind_takes_the_newest(writer: SegmentWriter) -> None:
    share(writer, 1, make_flat(seed=1))
    ours = attached(writer)
    announced = [share(writer, version, make_flat(seed=version)) for version in range(2, 30)]
    assert ours.apply(announced[0]) is Outcome.APPLIED
    assert ours.version == 29, "its slot holds another version by now"
    assert {ours.apply(said) for said in announced[1:]} == {Outcome.OLD}


@pytest.mark.parametrize(
    "content",
    [
        freeze(replace(SPEC, hidden=9), make_flat(replace(SPEC, hidden=9)), NUM_AGENTS),
        freeze(replace(SPEC, network="mlp"), make_flat(replace(SPEC, network="mlp")), NUM_AGENTS),
        Frozen(make_flat()[1:]),
        Frozen(make_flat().astype(np.float64)),
        Frozen("text"),
    ],
    ids=["size", "network", "length", "dtype", "text"],
)
def test_what_is_no_version_of_this_policy_is_refused_and_asked_for(
    writer: SegmentWriter, content: Frozen
) -> None:
    roomy = SegmentWriter(1 << 20)
    try:
        share(roomy, 1, make_flat(seed=1))
        core = agent(RULES, attached(roomy))
        said = roomy.publish(2, content)
        assert said is not None
        (command,) = core.handle(said)
        assert command == ToNode(wire.SnapshotRequest(1))
        assert core.tally.snapshots_requested == 1
        core.handle(observation(RULES, 1))
        assert core.policy_version == 1
        # What comes over the socket is as good.
        assert core.handle(dense(make_flat(seed=2), 2)) == []
        core.handle(observation(RULES, 2))
        assert core.policy_version == 2
    finally:
        roomy.close()


def test_an_announcement_of_nothing_is_refused_and_asked_for(writer: SegmentWriter) -> None:
    said = share(writer, 1, make_flat())
    for wrong in (
        replace(said, version=2),
        replace(said, version=2, slot=7),
        replace(said, version=2, slot=200),
        replace(said, version=2, size=0),
        replace(said, version=2, crc32=0),
    ):
        core = agent(RULES, attached(writer))
        assert core.handle(wrong) == [ToNode(wire.SnapshotRequest(1))]


def test_an_agent_without_a_segment_asks_for_a_version_that_it_can_have() -> None:
    core = agent(RULES, ParameterStore(make_flat(), 1))
    assert core.handle(wire.SharedVersion(2, 0, 100, 0)) == [ToNode(wire.SnapshotRequest(1))]


def test_whole_versions_come_over_the_socket_as_well_and_deltas_are_for_nodes(
    writer: SegmentWriter,
) -> None:
    share(writer, 1, make_flat(seed=1))
    ours, before = attached(writer), Masked.of(make_flat(seed=2), None)
    assert ours.apply(whole(2, before)) is Outcome.APPLIED
    np.testing.assert_array_equal(
        ours.policy(SPEC, NUM_AGENTS).q_values.__self__._weight,  # type: ignore[attr-defined]
        PolicyVersion(SPEC, before.flat, NUM_AGENTS).q_values.__self__._weight,  # type: ignore[attr-defined]
    )
    after = Masked.of(make_flat(seed=3), None)
    assert ours.apply(advance(3, before, after)) is Outcome.GAP
    changed = np.arange(2, dtype=np.uint32)
    values = np.ones(2, dtype=np.float32)
    delta = wire.DeltaParameters(3, 2, checksum(before.flat), changed, values)
    assert ours.apply(delta) is Outcome.GAP
    assert ours.version == 2
    assert ours.apply(share(writer, 4, make_flat(seed=4))) is Outcome.APPLIED


def test_an_agent_does_not_begin_without_a_policy(writer: SegmentWriter) -> None:
    with pytest.raises(DamagedError, match="no policy version"):
        attached(writer)


def test_a_network_that_has_not_agreed_gets_parameters_of_its_own_to_write_to(
    writer: SegmentWriter,
) -> None:
    flat = make_flat(score_bias=0.5)
    assert flat.all(), "a policy with zeros is copied in any case"
    share(writer, 1, flat, FOREIGN)
    versions = [attached(writer, FOREIGN).policy(FOREIGN, NUM_AGENTS) for _ in range(2)]
    for version in versions:
        hidden_EH = version.begin(1)
        version.recur(np.ones((1, 5), np.float32), hidden_EH, version.parts(hidden_EH))
    biases = [vars(version.network)["_bias"] for version in versions]
    np.testing.assert_array_equal(biases[0], biases[1])
    assert not np.shares_memory(biases[0], biases[1])
