"""The learner's process as launcher, node, world and agents see it: real sockets, real signals."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import pytest
import zmq
from numpy.testing import assert_array_equal

from agents.parameters import Outcome, ParameterStore
from agents.policy import checksum, load_policy
from configs.schema import LearnerConfig
from learner.checkpoint_file import read_progress
from learner.setup import LearnerSetup, main
from runtime import wire
from runtime.processes import ONE_THREAD, start_process
from runtime.traffic import Traffic
from runtime.transport import CONTROL, TRAJECTORIES, Channel, Hub
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
        self.hellos: list[wire.Hello] = []
        self.store = ParameterStore(make_flat(make_spec()), 0)
        self.versions: list[int] = []
        endpoint = f"ipc://{folder}/learner"
        self.node = Channel(self.context, endpoint, b"node", self.traffic, CONTROL)
        self.world = Channel(self.context, endpoint, b"world", self.traffic, TRAJECTORIES)
        self.agents = [
            Channel(self.context, endpoint, b"a" + bytes((i, 0)), self.traffic, TRAJECTORIES)
            for i in range(DIMENSIONS.num_agents)
        ]

    def setup(self, *, resume: bool = False, incarnation: int = 0) -> LearnerSetup:
        config = LearnerConfig(
            device="cpu",
            threads=1,
            batch_size=4,
            learning_starts=4,
            replay_episodes=20,
            publish_period=1,
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
        for _, packet in self.launcher.drain(wire.Hello, wire.Status):
            if isinstance(packet, wire.Hello):
                self.hellos.append(packet)
            elif isinstance(packet, wire.Status):
                self.statuses.append(packet)
        for packet in self.node.drain(wire.DenseParameters, wire.DeltaParameters):
            assert isinstance(packet, (wire.DenseParameters, wire.DeltaParameters))
            if self.store.apply(packet) is Outcome.APPLIED:
                assert checksum(self.store.flat) == packet.crc32
                self.versions.append(packet.version)

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

    def subscribe(self) -> None:
        """What a node does when it hears of a new learner."""
        self.wait_for(lambda: self.node.send(wire.SnapshotRequest(self.store.version)))

    def play(self, number: int) -> None:
        """One episode's packets, from everybody who has seen it."""
        trajectories, record = make_packets(number)
        self.wait_for(lambda: self.world.send(record))
        for trajectory in trajectories:
            channel = self.agents[trajectory.agent]
            self.wait_for(lambda c=channel, t=trajectory: c.send(t))

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
        around.tell(wire.Instruction("finish", 0))
        finished = around.wait_for(
            lambda: next((s for s in around.statuses if s.role == "learner_finished"), None)
        ).values
        assert finished["updates"] == 37  # one for each episode from the fourth on
        assert finished["episodes"] == 40
        assert finished["replay_episodes"] == 20
        assert finished["dropped_frames"] == 2
        assert finished["episodes_dropped"] == 0
        assert finished["policy_lag_mean"] >= 0.0
        assert finished["trajectory_bytes"] > 0
        assert finished["backlog"] == 0
        around.wait_for(lambda: around.store.version == finished["version"])
        assert around.versions == sorted(set(around.versions))

        around.tell(wire.Stop("done"))
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    policy = load_policy(around.folder / "policy.safetensors")
    assert_array_equal(policy.flat, around.store.flat)
    assert policy.version == around.store.version
    assert policy.trained["gate_timing"] == "causal"
    assert policy.trained["env_steps"] == str(39 * 5)
    assert read_progress(around.folder / "checkpoint.safetensors").updates == 37


def test_a_killed_learner_resumes_above_the_version_that_nodes_have(around: Surroundings) -> None:
    with running(around.setup()) as process:
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
    with running(around.setup(resume=True, incarnation=1)) as process:
        around.wait_for(lambda: len(around.hellos) == 2)
        assert around.hellos[1].incarnation == 1
        around.subscribe()
        around.wait_for(lambda: around.store.version > had)
        around.tell(wire.Stop("done"))
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    assert read_progress(around.folder / "checkpoint.safetensors").version > had


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
