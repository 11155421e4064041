"""The learner's process: the shell around `learner.learner`.

    agents, world ──▶ Hub ──▶ EpisodeJoiner ──▶ Learner ──▶ Publisher ──▶ Hub ──▶ nodes
                     launcher ⇄ Channel: status, instructions

Between two updates it takes whatever has arrived. It writes a checkpoint at the very start, then
every `learner.checkpoint_period_s`, and when it is told to stop or gets SIGTERM, even within an
update.
"""

import ctypes
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import parent_process

import numpy as np
import setproctitle
import torch
import zmq

from agents.policy import PolicyFile, PolicySpec, save_policy
from configs.load import dump_run_config
from configs.schema import LearnerConfig
from learner.checkpoint import load_checkpoint, save_checkpoint
from learner.episode import EpisodeJoiner
from learner.learner import Learner
from learner.publish import Publisher
from learner.setup import LearnerSetup
from runtime import wire
from runtime.logs import setup_logging
from runtime.traffic import Traffic
from runtime.transport import CONTROL, TRAJECTORIES, Channel, Hub

logger = logging.getLogger(__name__)

POLICY_FILE = "policy.safetensors"
"""Name of the newest policy within a run's folder."""

_STATUS_PERIOD_S = 0.25
_LAGS_REMEMBERED = 256
"""Trajectories over which the mean policy lag is taken."""
_PARENT_GONE_GRACE_S = 10.0
"""Seconds to save what there is once the launcher is gone."""


class _Stopped(Exception):
    """Told to stop, by the launcher or by SIGTERM; or the launcher is gone."""


@dataclass(slots=True)
class _Termination:
    """SIGTERM, turned into an exception where nothing is left half done."""

    asked: bool = False
    _interruptible: bool = False

    def handle(self, *_: object) -> None:
        self.asked = True
        if self._interruptible:
            self._interruptible = False
            raise _Stopped("SIGTERM")

    @contextmanager
    def allowed(self) -> Generator[None]:
        """Within, SIGTERM ends things at once; outside, at the next `check`."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def check(self) -> None:
        if self.asked:
            raise _Stopped("SIGTERM")


def main(setup: LearnerSetup) -> None:
    """Run the learner until it is told to stop. Entry point of the process."""
    setproctitle.setproctitle("murmuration: learner")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us as the launcher's Stop
    termination = _Termination()
    signal.signal(signal.SIGTERM, termination.handle)
    _leave_with_parent()
    _keep_memory()
    setup_logging("learner", 0, setup.logs)
    config = setup.config.learner
    # Half of the cores by default: threads that wait for a core which an agent has are slower than
    # no threads at all.
    torch.set_num_threads(config.threads or max((os.cpu_count() or 1) // 2, 1))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        process = LearnerProcess(setup, context, termination)
        try:
            process.serve()
        except _Stopped as stop:
            logger.info("stopping: %s", stop)
            process.save()
        finally:
            process.close()
        context.term()
    except Exception:  # the process edge: the launcher points to our log
        logger.exception("the learner cannot go on")
        context.destroy(linger=0)
        raise SystemExit(1) from None


def resolve_device(config: LearnerConfig) -> torch.device:
    """Where to train; auto takes CUDA if there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _leave_with_parent() -> None:
    """When the launcher dies, save like on SIGTERM; whatever hangs then does not hang for long."""
    parent = parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PARENT_GONE_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _keep_memory() -> None:
    """Have glibc keep freed memory instead of giving it back to the kernel after each update.

    Every update asks for the same gigabytes again, and first touching a page costs more than the
    arithmetic on it (notes: 10.5 s with, 5.8 s without, for Battle with 100 agents).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc only
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names and numbers of malloc.h
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
        libc.mallopt(top_pad, 1 << 28)


class LearnerProcess:
    """Moves packets between the sockets and the learner, and time and files to where they
    belong.
    """

    def __init__(
        self,
        setup: LearnerSetup,
        context: "zmq.Context[zmq.Socket[bytes]]",
        termination: _Termination,
    ) -> None:
        config, dimensions = setup.config, setup.dimensions
        self._setup = setup
        self._config = config.learner
        self._termination = termination
        self._config_text = dump_run_config(config)
        self._spec = PolicySpec.of(
            config.network, dimensions.observation_dim, dimensions.num_actions
        )
        device = resolve_device(config.learner)
        self._learner = Learner(config, self._spec, dimensions, setup.initial, device)
        version = setup.initial_version
        if setup.resume:
            version = max(version, load_checkpoint(setup.checkpoint, self._learner).version)
            logger.info("resumed from %s at version %d", setup.checkpoint, version)
        flat = self._learner.parameters_flat()
        self._publisher = Publisher(flat, config.learner.publish, version + 1)
        self._joiner = EpisodeJoiner(dimensions)

        self._traffic = Traffic()
        self._hub = Hub(context, setup.bind_endpoint, self._traffic, TRAJECTORIES)
        self._launcher = Channel(
            context, setup.launcher_endpoint, b"learner", self._traffic, CONTROL, linger_ms=500
        )
        self._poller = zmq.Poller()
        self._poller.register(self._hub.socket, zmq.POLLIN)
        self._poller.register(self._launcher.socket, zmq.POLLIN)
        self._nodes: set[bytes] = set()
        """Routing ids of those who want parameters."""
        self._lags: deque[int] = deque(maxlen=_LAGS_REMEMBERED)
        self._metrics: dict[str, float] = {}
        self._versions_published = 0
        self._published_step = self._learner.progress.gradient_steps
        self._finishing = False
        self._status_at = 0.0
        self._checkpoint_at = 0.0
        logger.info("%d parameters on %s, listening on %s", self._spec.size, device, self.endpoint)

    @property
    def endpoint(self) -> str:
        return self._hub.endpoint

    def serve(self) -> None:
        """Learn from whatever comes until told to stop.

        Raises:
            _Stopped: the end.
        """
        self.save()
        hello = wire.Hello("learner", 0, self._setup.incarnation, os.getpid(), self.endpoint)
        while not self._launcher.send(hello):
            time.sleep(0.02)
            self._termination.check()
        while True:
            self._turn()

    def _turn(self) -> None:
        self._termination.check()
        owes = self._learner.updates_owed > 0
        timeout_ms = 0 if owes else int(1000 * _STATUS_PERIOD_S)
        ready = {socket for socket, _ in self._poller.poll(timeout_ms)}
        if self._launcher.socket in ready:
            self._take_control()
        if self._hub.socket in ready:
            self._take_packets()
        if self._learner.updates_owed > 0:
            self._update()
        elif self._finishing and self._hub.socket not in ready:
            # Nothing owed and nothing on its way for a while: this is what training has come to.
            self._finish()
        now_s = time.monotonic()
        if now_s >= self._status_at:
            self._send_status(now_s)
        if now_s >= self._checkpoint_at:
            self.save()

    # --- what comes in ----------------------------------------------------------------------------

    def _take_control(self) -> None:
        for packet in self._launcher.drain(wire.Instruction, wire.Stop):
            match packet:
                case wire.Stop():
                    raise _Stopped(packet.reason)
                case wire.Instruction(name="finish"):
                    self._finishing = True
                case _:
                    self._traffic.dropped("kind")

    def _take_packets(self) -> None:
        accepted = (wire.Trajectory, wire.EpisodeRecord, wire.SnapshotRequest)
        for peer, packet in self._hub.drain(*accepted):
            match packet:
                case wire.SnapshotRequest():
                    self._subscribe(peer, packet.have)
                case wire.Trajectory() | wire.EpisodeRecord():
                    if isinstance(packet, wire.Trajectory):
                        self._lags.append(max(self._publisher.version - packet.first_version, 0))
                    episode = self._joiner.add(packet)
                    if episode is not None:
                        self._learner.add(episode)
                case _:
                    self._traffic.dropped("kind")

    def _subscribe(self, peer: bytes, have: int) -> None:
        self._nodes.add(peer)
        if have >= self._publisher.version:
            # It heard that version from an earlier life of ours, which had come further.
            self._send_to_nodes(self._publisher.continue_after(have))
        else:
            self._hub.send(peer, self._publisher.snapshot())

    # --- what goes out ----------------------------------------------------------------------------

    def _update(self) -> None:
        began_s = time.monotonic()
        with self._termination.allowed():
            metrics = self._learner.compute_gradient()
        self._learner.apply_gradient(metrics)
        self._metrics = {**metrics, "update_s": time.monotonic() - began_s}
        steps = self._learner.progress.gradient_steps
        if steps % self._config.publish_period == 0:
            self._publish()
        self._send_status(time.monotonic())

    def _publish(self) -> None:
        flat = self._learner.parameters_flat()
        self._published_step = self._learner.progress.gradient_steps
        self._send_to_nodes(self._publisher.publish(flat))

    def _send_to_nodes(self, packet: wire.DenseParameters | wire.DeltaParameters) -> None:
        self._versions_published += 1
        unreachable = self._traffic["dropped_unreachable"]
        for peer in list(self._nodes):
            self._hub.send(peer, packet)
            if self._traffic["dropped_unreachable"] > unreachable:
                unreachable = self._traffic["dropped_unreachable"]
                self._nodes.discard(peer)

    def _finish(self) -> None:
        if self._published_step < self._learner.progress.gradient_steps:
            self._publish()
        self.save()
        self._launcher.send(wire.Status("learner_finished", self._values()))
        self._finishing = False

    def _send_status(self, now_s: float) -> None:
        self._status_at = now_s + _STATUS_PERIOD_S
        self._launcher.send(wire.Status("learner", self._values()))

    def _values(self) -> dict[str, float]:
        learner, traffic = self._learner, self._traffic
        progress = learner.progress
        values: dict[str, float] = {
            "updates": progress.gradient_steps,
            "updates_skipped": progress.skipped_steps,
            "backlog": learner.updates_owed,
            "version": self._publisher.version,
            "env_steps": progress.env_steps,
            "episodes": progress.episodes,
            "temperature": learner.temperature,
            "replay_episodes": len(learner.replay),
            "replay_bytes": learner.replay.size_bytes,
            "trajectory_bytes": traffic["received_payload_trajectory"],
            "policy_bytes": traffic["sent_payload_parameters"],
            "policy_versions": self._versions_published,
            "episodes_dropped": self._joiner.dropped_episodes.total(),
            "episodes_pending": len(self._joiner),
            "dropped_packets": self._joiner.dropped_packets.total(),
            "dropped_frames": traffic.dropped_total,
            **self._metrics,
        }
        if self._lags:
            values["policy_lag_mean"] = sum(self._lags) / len(self._lags)
        # Not a number has no place on the wire; a gap in the record says as much.
        return {name: float(value) for name, value in values.items() if np.isfinite(value)}

    # --- files ------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write checkpoint and policy file, each whole or not at all."""
        self._checkpoint_at = time.monotonic() + self._config.checkpoint_period_s
        newest = self._publisher.snapshot()
        save_checkpoint(self._setup.checkpoint, self._learner, newest.version, self._config_text)
        # The policy that agents have, not one that is a few unpublished steps ahead of it.
        policy = PolicyFile(self._spec, newest.values, newest.version, self._trained())
        save_policy(self._setup.run_dir / POLICY_FILE, policy)

    def _trained(self) -> dict[str, str]:
        config = self._setup.config
        return {
            "env": config.env.name,
            "agents": str(config.num_agents),
            "comm": config.comm,
            "gate_timing": config.gate.timing,
            "gate_mode": config.gate.mode,
            "dead": config.agents.dead,
            "algorithm": config.learner.algorithm,
            "env_steps": str(self._learner.progress.env_steps),
            "seed": str(config.seed),
        }

    def close(self) -> None:
        for reason, count in self._joiner.dropped_episodes.items():
            logger.warning("%d episodes were dropped: %s", count, reason)
        self._hub.close()
        self._launcher.close()
