"""The learner's process as launcher, node, world and agents see it: real sockets, real signals."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import torch
import zmq
from numpy.testing import assert_array_equal

from agents.parameters import Outcome, ParameterStore
from agents.policy import checksum, load_policy
from configs.schema import LearnerConfig
from learner.checkpoint_file import read_progress
from learner.entry import main
from learner.setup import LearnerSetup
from runtime.net import wire
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, TRAJECTORIES, Channel, Hub, agent_routing_id
from runtime.terminal.processes import ONE_THREAD, start_process
from tests.learner_helpers import DIMENSIONS, make_config, make_flat, make_packets, make_spec

pytestmark = pytest.mark.process

DEADLINE_S = 40.0
T = TypeVar("T")


class Surroundings:
    """Everybody the learner talks to, in one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.traffic = Traffic()
        self.launcher = Hub(self.context, f"ipc://{folder}/launcher", self.traffic, CONTROL)
        self.statuses: list[wire.Status] = []
        self.trained: list[wire.Trained] = []
        self.hellos: list[wire.Hello] = []
        self.acknowledged: Counter[tuple[str, int]] = Counter()
        """Acknowledgements by whom they went to and their episode."""
        self.store = ParameterStore(make_flat(make_spec()), 0)
        self.versions: list[int] = []
        endpoint = f"ipc://{folder}/learner"
        self.node = Channel(self.context, endpoint, b"node-local", self.traffic, CONTROL)
        self.world = Channel(self.context, endpoint, b"world", self.traffic, TRAJECTORIES)
        self.agents = [
            Channel(self.context, endpoint, agent_routing_id(i), self.traffic, TRAJECTORIES)
            for i in range(DIMENSIONS.num_agents)
        ]

    def setup(
        self,
        *,
        resume: bool = False,
        incarnation: int = 0,
        device: Literal["auto", "cpu", "cuda"] = "cpu",
        **changes: Any,
    ) -> LearnerSetup:
        settings: dict[str, Any] = {"learning_starts": 4, "replay_episodes": 20}
        config = LearnerConfig(
            device=device, threads=1, batch_size=4, publish_period=1, **settings | changes
        )
        return LearnerSetup(
            config=make_config(learner=config),
            dimensions=DIMENSIONS,
            initial=make_flat(make_spec()),
            initial_version=0,
            incarnation=incarnation,
            launcher_endpoint=f"ipc://{self.folder}/launcher",
            bind_endpoint=f"ipc://{self.folder}/learner",
            checkpoint=self.folder / "checkpoint.safetensors",
            resume=resume,
            run_dir=self.folder,
            logs=self.folder / "logs",
        )

    def pump(self) -> None:
        """Take what has arrived."""
        for _, packet in self.launcher.drain(
            wire.Hello, wire.Status, wire.LearnerState, wire.Trained
        ):
            match packet:
                case wire.Hello():
                    self.hellos.append(packet)
                case wire.Status():
                    self.statuses.append(packet)
                case wire.Trained():
                    self.trained.append(packet)
                case wire.LearnerState() if not self.statuses:
                    pass
                case wire.LearnerState():
                    status = self.statuses[-1].values
                    assert packet.updates_owed == status["backlog"]
                    assert packet.episodes_taken == status["episodes"] + status["episodes_dropped"]
                case _:
                    raise AssertionError(packet)
        for packet in self.node.drain(*wire.PARAMETERS):
            assert isinstance(packet, wire.Parameters)
            if self.store.apply(packet) is Outcome.APPLIED:
                assert checksum(self.store.flat) == packet.crc32
                self.versions.append(packet.version)
        senders = {"world": self.world, **{f"agent-{i}": a for i, a in enumerate(self.agents)}}
        for name, channel in senders.items():
            for packet in channel.drain(wire.TrajectoryAck):
                assert isinstance(packet, wire.TrajectoryAck)
                self.acknowledged[name, packet.episode] += 1

    def wait_for(self, what: Callable[[], T | None]) -> T:
        """Pump until `what` returns something true."""
        give_up_at = time.monotonic() + DEADLINE_S
        while time.monotonic() < give_up_at:
            self.pump()
            found = what()
            if found:
                return found
            self.launcher.socket.poll(20)
        raise AssertionError(f"nothing within {DEADLINE_S} s, last status {self.statuses[-1:]}")

    def finished(self) -> Mapping[str, float]:
        """What the learner reports after it has done all that it owes."""
        (trained,) = self.wait_for(lambda: self.trained)
        self.statuses.clear()
        values = self.wait_for(lambda: self.statuses)[0].values
        assert values["version"] == trained.version
        return values

    def subscribe(self) -> None:
        """What a node does when it hears of a new learner."""
        self.wait_for(lambda: self.node.send(wire.SnapshotRequest(self.store.version)))

    def play(self, number: int) -> None:
        """One episode's packets, from everybody who has seen it."""
        self.send_parts(number, range(len(self.agents)))
        self.send_record(number)

    def send_record(self, number: int, *, complete: bool = True) -> None:
        _, record = make_packets(number, complete=complete)
        self.wait_for(lambda: self.world.send(record))

    def send_parts(self, number: int, agents: Iterable[int]) -> None:
        trajectories, _ = make_packets(number)
        for agent in agents:
            channel, trajectory = self.agents[agent], trajectories[agent]
            self.wait_for(lambda c=channel, t=trajectory: c.send(t))

    def wait_for_acknowledgements(self, numbers: Iterable[int], times: int = 1) -> None:
        """Until everybody has heard so often that these episodes are safe."""
        everybody = ["world", *(f"agent-{i}" for i in range(len(self.agents)))]
        wanted = {(name, number): times for name in everybody for number in numbers}
        self.wait_for(lambda: all(self.acknowledged[key] >= n for key, n in wanted.items()))

    def journal(self) -> list[int]:
        """Numbers of the episodes on disk, the oldest first."""
        names = sorted(path.name for path in (self.folder / "journal").glob("*.episode"))
        return [int(name.split("-")[1].split(".")[0]) for name in names]

    def latest(self, name: str) -> float:
        return self.statuses[-1].values.get(name, -1.0) if self.statuses else -1.0

    def tell(self, packet: wire.Packet) -> None:
        assert self.launcher.send(b"learner", packet)

    def close(self) -> None:
        for end in (self.launcher, self.node, self.world, *self.agents):
            end.close()
        self.context.term()


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    surroundings = Surroundings(tmp_path)
    yield surroundings
    surroundings.close()


@contextmanager
def running(setup: LearnerSetup) -> Generator[BaseProcess]:
    context = multiprocessing.get_context("spawn")
    process = start_process(context, main, setup, "learner", ONE_THREAD)
    try:
        yield process
    finally:
        process.kill()
        process.join(10)


def test_a_learner_learns_survives_garbage_finishes_and_stops(around: Surroundings) -> None:
    with running(around.setup()) as process:
        hello = around.wait_for(lambda: around.hellos[0] if around.hellos else None)
        assert (hello.role, hello.pid, hello.incarnation) == ("learner", process.pid, 0)
        assert hello.endpoint == f"ipc://{around.folder}/learner"
        assert read_progress(around.folder / "checkpoint.safetensors").updates == 0
        around.subscribe()
        around.wait_for(lambda: around.versions == [1])

        around.agents[0].send_frame(b"\xc1garbage", None)
        around.world.socket.send_multipart([b"two", b"frames"])
        for number in range(40):
            around.play(number)
        around.send_parts(40, range(4))  # training has ended in the middle of an episode
        around.tell(wire.Instruction("finish"))
        finished = around.finished()
        assert finished["updates"] == 37  # one for each episode from the fourth on
        assert finished["episodes"] == 40
        assert finished["replay_episodes"] == 20
        # On a busy machine also what the learner said and nobody here took in time.
        assert finished["dropped_frames"] >= 2
        assert (finished["episodes_dropped"], finished["episodes_pending"]) == (0, 0)
        assert finished["policy_lag_mean"] >= 0.0
        assert finished["version_bytes_mean"] == pytest.approx(4 * around.store.flat.size, abs=40)
        assert finished["trajectory_bytes"] > 0
        assert finished["backlog"] == 0
        around.wait_for(lambda: around.store.version == finished["version"])
        assert around.versions == sorted(set(around.versions))

        around.tell(wire.Stop("done"))
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    assert "were dropped" not in (around.folder / "logs" / "learner-0.log").read_text()
    policy = load_policy(around.folder / "policy.safetensors")
    assert_array_equal(policy.flat, around.store.flat)
    assert policy.version == around.store.version
    assert policy.trained["gate_timing"] == "causal"
    assert policy.trained["env_steps"] == str(39 * 5)
    assert read_progress(around.folder / "checkpoint.safetensors").updates == 37


def test_a_learner_that_is_to_finish_waits_for_agents_that_are_slower_than_the_word(
    around: Surroundings,
) -> None:
    """On a busy machine an agent has yet to ship its last episode when training is over."""
    with running(around.setup()):
        around.wait_for(lambda: around.hellos)
        for number in range(4):
            around.play(number)
        around.send_record(4)
        around.tell(wire.Instruction("finish"))
        for agents in (range(2), range(2, DIMENSIONS.num_agents)):
            seen = len(around.statuses) + 3  # longer than a learner goes without a word
            around.wait_for(lambda seen=seen: len(around.statuses) >= seen)
            assert not around.trained
            around.send_parts(4, agents)
        finished = around.finished()
        assert (finished["episodes"], finished["updates"]) == (5, 2)
        assert finished["episodes_dropped"] == 0


@pytest.mark.slow
def test_it_does_not_wait_for_ever(around: Surroundings) -> None:
    with running(around.setup()):
        around.wait_for(lambda: around.hellos)
        for number in range(4):
            around.play(number)
        around.send_record(4)  # the agents that saw it have died
        around.tell(wire.Instruction("finish"))
        finished = around.finished()
        assert (finished["episodes"], finished["episodes_dropped"]) == (4, 1)


@pytest.mark.parametrize("publish", [pytest.param("dense", marks=pytest.mark.slow), "sparse"])
def test_a_killed_learner_resumes_above_the_version_that_nodes_have(
    around: Surroundings, publish: str
) -> None:
    with running(around.setup(publish=publish)) as process:
        around.wait_for(lambda: around.hellos)
        around.subscribe()
        for number in range(10):
            around.play(number)
        around.wait_for(lambda: around.store.version >= 5)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
    # The only checkpoint is that of the start: it knows nothing of the versions published since.
    had = around.store.version
    assert read_progress(around.folder / "checkpoint.safetensors").version < had
    with running(around.setup(resume=True, incarnation=1, publish=publish)) as process:
        around.wait_for(lambda: len(around.hellos) == 2)
        assert around.hellos[1].incarnation == 1
        around.subscribe()
        around.wait_for(lambda: around.store.version > had)
        around.tell(wire.Stop("done"))
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    assert read_progress(around.folder / "checkpoint.safetensors").version > had


@pytest.mark.parametrize(
    ("device", "is_cuda"),
    [
        ("cpu", 0.0),
        ("auto", float(torch.cuda.is_available())),
        pytest.param(
            "cuda",
            1.0,
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
            ],
        ),
    ],
)
def test_a_learner_says_where_it_trains(
    around: Surroundings, device: Literal["auto", "cpu", "cuda"], is_cuda: float
) -> None:
    with running(around.setup(device=device)):
        status = around.wait_for(lambda: around.statuses[0] if around.statuses else None)
        assert status.values["is_cuda"] == is_cuda


def kill(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)


def test_a_killed_learner_gets_back_every_episode_it_has_acknowledged(around: Surroundings) -> None:
    with running(around.setup()) as process:
        around.wait_for(lambda: around.hellos)
        for number in range(10):
            around.play(number)
        around.wait_for_acknowledgements(range(10))
        around.send_parts(10, range(4))  # two agents and the world have not spoken yet
        around.wait_for(lambda: around.latest("episodes_pending") == 1)
        kill(process)
    assert not any(number == 10 for _, number in around.acknowledged)
    assert around.journal() == list(range(10))
    torn = around.folder / "journal" / "0000000011-0000000010.episode"
    torn.write_bytes(b"MURMJRN1 and no more: killed while it was writing")

    around.statuses.clear()
    with running(around.setup(resume=True, incarnation=1)) as process:
        status = around.wait_for(lambda: around.statuses[0] if around.statuses else None).values
        assert status["replay_episodes"] == status["episodes"] == 10
        assert status["updates"] == 0, "the only checkpoint is that of the start"
        assert status["backlog"] == 7, "one update for each episode from the fourth on"
        assert not torn.exists()

        around.play(9)  # acknowledged already, and sent again because nobody can be sure of it
        around.wait_for_acknowledgements([9], times=2)
        around.play(10)
        around.wait_for_acknowledgements([10])
        around.tell(wire.Instruction("finish"))
        finished = around.finished()
        assert finished["replay_episodes"] == finished["episodes"] == 11
        assert finished["updates"] == 8
        assert finished["dropped_packets"] == 7, "what came twice"
        assert around.journal() == list(range(11))


def test_updates_are_neither_owed_twice_nor_forgotten(around: Surroundings) -> None:
    with running(around.setup(checkpoint_period_s=0.05)) as process:
        around.wait_for(lambda: around.hellos)
        for number in range(8):
            around.play(number)
        around.wait_for_acknowledgements(range(8))
        path = around.folder / "checkpoint.safetensors"
        around.wait_for(lambda: read_progress(path).updates == 5)
        kill(process)
    around.statuses.clear()
    with running(around.setup(resume=True, incarnation=1)):
        status = around.wait_for(lambda: around.statuses[0] if around.statuses else None).values
        assert (status["episodes"], status["updates"], status["backlog"]) == (8, 5, 0)
        assert status["replay_episodes"] == 8


def test_a_run_that_is_resumed_begins_with_its_journal_and_a_new_one_without(
    around: Surroundings,
) -> None:
    with running(around.setup()) as process:
        around.wait_for(lambda: around.hellos)
        for number in range(6):
            around.play(number)
        around.wait_for_acknowledgements(range(6))
        around.tell(wire.Stop("done"))
        process.join(DEADLINE_S)
    for resume, expected in ((True, 6), (False, 0)):
        around.statuses.clear()
        with running(around.setup(resume=resume)):
            status = around.wait_for(lambda: around.statuses[0] if around.statuses else None)
            assert status.values["replay_episodes"] == expected
            assert len(around.journal()) == expected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"journal_episodes": 0}, marks=pytest.mark.slow),
        pytest.param({"journal_episodes": 2}, marks=pytest.mark.slow),
        {"replay_episodes": 4},
    ],
)
def test_a_life_that_keeps_less_still_gets_what_was_acknowledged(
    around: Surroundings, change: dict[str, Any]
) -> None:
    with running(around.setup(learning_starts=2)) as process:
        around.wait_for(lambda: around.hellos)
        for number in range(6):
            around.play(number)
        around.wait_for_acknowledgements(range(6))
        kill(process)  # the only checkpoint is that of the start: no episode is counted yet
    around.statuses.clear()
    with running(around.setup(resume=True, learning_starts=2, **change)):
        status = around.wait_for(lambda: around.statuses[0] if around.statuses else None).values
        assert status["replay_episodes"] == change.get("replay_episodes", 6)
        assert (status["episodes"], status["backlog"]) == (6, 5)
        assert len(around.journal()) == min(change.values()), "once a checkpoint counts the others"


@pytest.mark.slow
def test_a_journal_that_holds_less_than_learning_starts_is_said(around: Surroundings) -> None:
    with running(around.setup(journal_episodes=2)) as process:
        around.wait_for(lambda: around.hellos)
        for number in range(6):
            around.play(number)
        around.wait_for_acknowledgements(range(6))
        kill(process)
    log = around.folder / "logs" / "learner-0.log"
    assert "no updates until" not in log.read_text()
    around.statuses.clear()
    with running(around.setup(resume=True, journal_episodes=2)):
        status = around.wait_for(lambda: around.statuses[0] if around.statuses else None).values
        assert (status["replay_episodes"], status["backlog"]) == (2, 0)
        assert (
            "learner.learning_starts asks for 4 episodes and 2 came back from the journal: no "
            "updates until 2 more have been played"
        ) in log.read_text()


@pytest.mark.slow
def test_the_journal_keeps_the_newest_and_acknowledges_all(around: Surroundings) -> None:
    with running(around.setup(journal_episodes=3)) as process:
        around.wait_for(lambda: around.hellos)
        for number in range(8):
            around.play(number)
        around.wait_for_acknowledgements(range(8))
        kill(process)
    assert around.journal() == [5, 6, 7]
    around.statuses.clear()
    with running(around.setup(resume=True, incarnation=1, journal_episodes=3)):
        status = around.wait_for(lambda: around.statuses[0] if around.statuses else None)
        assert status.values["replay_episodes"] == 3


def test_without_a_journal_acknowledgements_promise_memory_only(around: Surroundings) -> None:
    with running(around.setup(journal_episodes=0)):
        around.wait_for(lambda: around.hellos)
        around.play(0)
        around.wait_for_acknowledgements([0])
        assert around.journal() == []


@pytest.mark.slow
def test_what_the_journal_refuses_is_learnt_from_and_not_acknowledged(
    around: Surroundings,
) -> None:
    in_the_way = around.folder / "journal"
    in_the_way.write_text("no folder can be made here, whoever asks")
    with running(around.setup()) as process:
        around.wait_for(lambda: around.hellos)
        for number in range(5):
            around.play(number)
        around.wait_for(lambda: around.latest("updates") == 2)
        around.play(2)  # sent again, as it would be, and joined already
        around.wait_for(lambda: around.latest("dropped_packets") == 7)
        assert around.latest("journal_failures") >= 1
        assert around.latest("episodes_unsaved") == around.latest("episodes") == 5
        assert not around.acknowledged
        kill(process)
    around.statuses.clear()
    with running(around.setup(resume=True, incarnation=1)):
        status = around.wait_for(lambda: around.statuses[0] if around.statuses else None)
        assert status.values["replay_episodes"] == 0
        for number in range(5):
            around.play(number)
        around.wait_for(lambda: around.latest("journal_failures") >= 1)
        assert not around.acknowledged
        in_the_way.unlink()
        around.wait_for_acknowledgements(range(5))
        assert around.journal() == list(range(5))


def test_parts_of_which_nothing_can_be_made_are_acknowledged_and_counted(
    around: Surroundings,
) -> None:
    with running(around.setup()):
        around.wait_for(lambda: around.hellos)
        around.send_parts(0, range(3))
        around.wait_for(lambda: around.latest("episodes_pending") == 1)
        assert not around.acknowledged
        around.send_record(0, complete=False)
        around.send_parts(0, range(3, 6))
        around.wait_for_acknowledgements([0])
        around.wait_for(lambda: around.latest("episodes_dropped") == 1)
        assert around.latest("episodes") == 0
        assert around.journal() == []


def test_nobody_speaks_for_another(around: Surroundings) -> None:
    with running(around.setup()):
        around.wait_for(lambda: around.hellos)
        trajectories, record = make_packets(0)
        around.wait_for(lambda: around.agents[1].send(trajectories[0]))
        around.wait_for(lambda: around.agents[1].send(record))
        around.wait_for(lambda: around.world.send(trajectories[1]))
        around.wait_for(lambda: around.latest("dropped_frames") == 3)
        assert around.latest("episodes_pending") == 0
        assert not around.acknowledged


def test_what_was_cut_off_by_the_end_of_training_is_acknowledged(around: Surroundings) -> None:
    with running(around.setup()):
        around.wait_for(lambda: around.hellos)
        around.send_parts(0, range(6))
        around.wait_for(lambda: around.latest("episodes_pending") == 1)
        around.tell(wire.Instruction("finish"))
        around.wait_for(lambda: all(around.acknowledged[f"agent-{i}", 0] for i in range(6)))
        finished = around.finished()
        assert finished["episodes_dropped"] == 0, "it is no loss"


def test_a_learner_reports_within_an_update(around: Surroundings) -> None:
    """One status for each part of a batch: at least one before, and one after the update."""
    with running(around.setup()):
        around.wait_for(lambda: around.hellos)
        for number in range(4):
            around.play(number)
        around.wait_for(lambda: around.latest("updates") == 1)
        before = [s.values["backlog"] for s in around.statuses if s.values["episodes"] == 4]
        assert before[0] == 1.0, "said before the update, not only after it"
        assert before[-1] == 0.0


def test_sigterm_saves_and_leaves(around: Surroundings) -> None:
    with running(around.setup()) as process:
        around.wait_for(lambda: around.hellos)
        for number in range(8):
            around.play(number)
        around.wait_for(lambda: around.latest("updates") >= 1)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)  # the launcher's affair, not ours
        os.kill(process.pid, signal.SIGTERM)
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    assert read_progress(around.folder / "checkpoint.safetensors").updates >= 1


def test_a_learner_that_cannot_start_says_why_in_its_log(around: Surroundings) -> None:
    with running(around.setup(resume=True)) as process:
        process.join(DEADLINE_S)
        assert process.exitcode == 1
    assert "checkpoint" in (around.folder / "logs" / "learner-0.log").read_text()
