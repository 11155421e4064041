"""The learner's process: the shell around `learner.learner`.

    agents, world ──▶ Hub ──▶ EpisodeJoiner ──▶ Learner ──▶ Publisher ──▶ Hub ──▶ nodes
          ▲                        ▼
          └── TrajectoryAck ◀── Journal        launcher ⇄ Channel: status, instructions

Between two updates it takes whatever has arrived. It writes a checkpoint at the very start, then
every `learner.checkpoint_period_s`, and when it is told to stop or gets SIGTERM, even within an
update. A disk that is full costs a checkpoint and not the run.

Nothing acknowledged is lost. An acknowledgement says one of three things: the episode is in the
journal; as many newer episodes have been joined as the journal holds, so that it would have left it
by now; or nothing can be made of the part, which is counted. Whatever is not acknowledged is sent
again (runtime/net/delivery.py), and what comes twice is acknowledged twice and used once.

A learner that continues fills its replay from the journal. Episodes that the checkpoint has counted
have had their updates, or are among those that it says are owed; the others, joined since, are
counted and owe theirs as if they had just arrived. So are the updates that were taken since the
checkpoint and died with their learner.

It reports before, after and within an update, before each part of the batch
(learner.AGENT_STEPS_PER_PART): a learner that says nothing for a minute hangs.
"""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import parent_process

import numpy as np
import setproctitle
import torch
import zmq

from agents.policy import PolicyFile, PolicySpec, save_policy
from configs.cpus import usable_cpus
from configs.load import dump_run_config
from configs.run_files import JOURNAL, MASKS, POLICY
from configs.schema import LearnerConfig
from learner.checkpoint import load_checkpoint, save_checkpoint
from learner.experience.episode import Episode, EpisodeJoiner, Part, senders_of
from learner.experience.journal import Journal
from learner.follower import begin_together, follow
from learner.gate_watch import GateWatch
from learner.learner import Learner
from learner.publish import Publisher
from learner.ranks import Ranks, launched
from learner.setup import LearnerSetup
from learner.sparse.accounting import account
from learner.sparse.snapshots import MaskSnapshots
from runtime.net import wire
from runtime.net.limits import begin_process
from runtime.net.logs import lines_lost, setup_logging
from runtime.net.security import Gatekeeper
from runtime.net.traffic import Traffic
from runtime.net.transport import (
    CONTROL,
    LAUNCHER,
    LEARNER,
    TRAJECTORIES,
    WORLD,
    Channel,
    Hub,
    agent_of,
    agent_routing_id,
    host_of,
)
from runtime.record.run_folder import learner_held

logger = logging.getLogger(__name__)

_STATUS_PERIOD_S = 0.25
_LAGS_REMEMBERED = 256
"""Trajectories over which the mean policy lag is taken."""
_LATECOMERS_S = 5.0
"""Seconds that a learner which was started again waits for what its predecessor had not
acknowledged, before it says that it has finished."""
_JOURNAL_RETRY_S = 5.0
"""Seconds between attempts to write episodes to a journal that has refused one."""
_MOST_SKIPPED = 1_000_000
"""Versions that nodes may say they have heard beyond ours: no earlier life has come so far,
and a node that lies must not use up the numbers."""
_REASON_LETTERS = 200
"""Of a reason that goes over the wire; the log has all of it."""
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
    begin_process(keyed=setup.keyring is not None)
    config = setup.config.learner
    torch.set_num_threads(num_threads(config))
    # Changes nothing on a CPU.
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    ranks: Ranks | None = None
    if launched():
        ranks = Ranks(resolve_device(config))
        if ranks.rank > 0:
            _follow(setup, ranks)
            _leave_agent(termination)
            return
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with learner_held(setup.run_dir):
            process = LearnerProcess(setup, context, termination, ranks)
            try:
                process.serve()
            except _Stopped as stop:
                logger.info("stopping: %s", stop)
                process.leave()
            finally:
                process.close()
        context.term()
    except Exception:  # the process edge: the launcher points to our log
        logger.exception("the learner cannot go on")
        context.destroy(linger=0)
        raise SystemExit(1) from None
    if ranks is not None:
        _leave_agent(termination)


def _leave_agent(termination: _Termination) -> None:
    """End as torchrun's agent expects. Who returns waits until the agent has heard; and once the
    agent has sent SIGTERM it does not listen any more.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if termination.asked:
        logging.shutdown()
        os._exit(0)  # SystemExit(0) would be taken for a return


def num_threads(config: LearnerConfig) -> int:
    """Torch threads of one rank. By default they have half of the cores that we may use: threads
    that wait for a core which an agent has are slower than no threads at all.
    """
    threads = config.threads or max(usable_cpus() // 2, 1)
    return max(threads // config.ranks, 1)


def resolve_device(config: LearnerConfig) -> torch.device:
    """Where to train; auto takes CUDA if there is one, and each rank a GPU of its own."""
    kind = config.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and launched():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        return device
    return torch.device(kind)


def _follow(setup: LearnerSetup, ranks: Ranks) -> None:
    """Be a rank behind the first, until that one ends: SIGTERM is its business."""
    setproctitle.setproctitle(f"murmuration: learner, rank {ranks.rank}")
    learner = _make_learner(setup)
    logger.info("rank %d of %d on %s", ranks.rank, ranks.size, learner.device)
    follow(learner, ranks)


def _make_learner(setup: LearnerSetup) -> Learner:
    config, dimensions = setup.config, setup.dimensions
    spec = PolicySpec.of(config.network, dimensions.observation_dim, dimensions.num_actions)
    device, workers = resolve_device(config.learner), torch.get_num_threads()
    return Learner(config, spec, dimensions, setup.initial, device, workers)


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
        trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8  # of malloc.h
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
        libc.mallopt(top_pad, 1 << 28)
        libc.mallopt(arena_max, 1)  # the arenas of further threads keep nothing


class LearnerProcess:
    """Moves packets between the sockets and the learner, and time and files to where they
    belong.
    """

    def __init__(
        self,
        setup: LearnerSetup,
        context: "zmq.Context[zmq.Socket[bytes]]",
        termination: _Termination,
        ranks: Ranks | None = None,
    ) -> None:
        config, dimensions = setup.config, setup.dimensions
        self._setup = setup
        self._config = config.learner
        self._termination = termination
        self._config_text = dump_run_config(config)
        self._learner = _make_learner(setup)
        self._spec = self._learner.spec
        self._ranks = ranks
        self._joiner = EpisodeJoiner(dimensions)
        self._unsaved: dict[int, tuple[int, Episode]] = {}
        """Ordinal and episode by number: joined, and not in the journal as they should be."""
        version = setup.initial_version
        if setup.resume:
            version = max(version, self._resume())
        kept = min(config.learner.journal_episodes, config.learner.replay_episodes)
        self._journal = Journal(setup.run_dir / JOURNAL, kept)
        if not setup.resume:
            self._journal.clear()
        if ranks is not None:
            begin_together(self._learner, ranks)
        self._publisher = Publisher(
            self._learner.parameters_flat(),
            config.learner.publish,
            version + 1,
            mask=self._learner.mask_flat(),
            dtype=config.learner.publish_dtype,
        )

        self._traffic = Traffic()
        keyring = setup.keyring
        self._gatekeeper: Gatekeeper | None = None
        if keyring is not None:
            self._gatekeeper = Gatekeeper(context)
            others = {name: key for name, key in keyring.public.items() if name != LEARNER}
            self._gatekeeper.admit(LEARNER, others)
        self._hub = Hub(
            context,
            setup.bind_endpoint,
            self._traffic,
            TRAJECTORIES,
            curve=None if keyring is None else keyring.server(LEARNER),
        )
        self._launcher = Channel(
            context,
            setup.launcher_endpoint,
            LEARNER.encode(),
            self._traffic,
            CONTROL,
            linger_ms=500,
            curve=None if keyring is None else keyring.client_of(LAUNCHER),
        )
        self._poller = zmq.Poller()
        self._poller.register(self._hub.socket, zmq.POLLIN)
        self._poller.register(self._launcher.socket, zmq.POLLIN)
        self._nodes: set[bytes] = set()
        """Routing ids of those who want parameters."""
        self._lags: deque[int] = deque(maxlen=_LAGS_REMEMBERED)
        self._metrics: dict[str, float] = {}
        self._account = account(self._learner, config)
        self._updates, self._updating_s = 0, 0.0
        """Of this life, and the seconds that they took."""
        self._gate_watch = GateWatch(config.gate, config.steps)
        self._mask_snapshots = MaskSnapshots(setup.run_dir / MASKS)
        self._versions_published = 0
        self._published_bytes = 0
        """Of all versions, each counted once whoever gets it."""
        self._versions_skipped = 0
        self._published_step = self._learner.progress.gradient_steps
        self._finishing = False
        self._begun_s = time.monotonic()
        self._status_at = 0.0
        self._checkpoint_at = 0.0
        self._checkpoint_failures = 0
        self._save_error: OSError | None = None
        """Why the newest checkpoint that could not be written could not."""
        self._saved: tuple[int, int, int] | None = None
        """What had been reached when the last checkpoint was written."""
        self._journal_failures = 0
        self._journal_at = 0.0
        """Clock reading from which the journal may be tried again."""
        logger.info(
            "%d parameters on %s, listening on %s",
            self._spec.size,
            self._learner.device,
            self.endpoint,
        )

    @property
    def endpoint(self) -> str:
        return self._hub.endpoint

    def _resume(self) -> int:
        """Go on from checkpoint and journal; returns the version that was published last.

        Raises:
            CheckpointError: there is none, or it does not fit.
        """
        setup, learner = self._setup, self._learner
        version = 0
        if setup.incarnation == 0 or setup.checkpoint.exists():
            version = load_checkpoint(setup.checkpoint, learner).version
            logger.info("resumed from %s at version %d", setup.checkpoint, version)
        else:  # our predecessor could not write a single one
            logger.error("there is no checkpoint %s: beginning anew", setup.checkpoint)
        counted = learner.progress.episodes
        # All that is there, also where this life keeps less or replays less: it was acknowledged.
        for ordinal, episode in Journal(setup.run_dir / JOURNAL, sys.maxsize).load(
            setup.dimensions
        ):
            self._joiner.close(episode.number)
            if ordinal <= counted:
                learner.replay.add(episode)
            else:
                learner.add(episode)
                learner.progress.episodes = ordinal
        logger.info(
            "%d episodes came back from the journal, %d updates are owed",
            len(learner.replay),
            learner.updates_owed,
        )
        wanted, found = self._config.learning_starts, len(learner.replay)
        if found < min(wanted, learner.progress.episodes):
            logger.warning(
                "learner.learning_starts asks for %d episodes and %d came back from the journal: "
                "no updates until %d more have been played; a learner.journal_episodes of %d keeps "
                "enough",
                wanted, found, wanted - found, wanted,
            )  # fmt: skip
        return version

    def serve(self) -> None:
        """Learn from whatever comes until told to stop.

        Raises:
            _Stopped: the end.
        """
        if self.save():
            self._journal.trim()  # what it keeps no longer is in the replay and counted
        self._keep_masks()
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
        elif self._finishing and self._hub.socket not in ready and self._has_heard_everybody:
            # Nothing owed and nothing on its way for a while: this is what training has come to.
            self._finish()
        now_s = time.monotonic()
        if now_s >= self._status_at:
            self._joiner.expire(now_s)
            self._acknowledge_released()
            self._write_journal(now_s)
            self._send_status(now_s)
        if now_s >= self._checkpoint_at:
            self.save()

    @property
    def _has_heard_everybody(self) -> bool:
        """Whether whoever was connected to an earlier learner has found this one."""
        return self._setup.incarnation == 0 or time.monotonic() > self._begun_s + _LATECOMERS_S

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
                case wire.Trajectory() if agent_of(peer) == packet.agent:
                    refused = self._joiner.dropped_packets.total()
                    self._take_part(packet)
                    if self._joiner.dropped_packets.total() == refused:
                        self._lags.append(max(self._publisher.version - packet.first_version, 0))
                case wire.EpisodeRecord() if peer == WORLD.encode():
                    self._take_part(packet)
                case wire.Trajectory() | wire.EpisodeRecord():
                    self._traffic.dropped("unknown_sender")
                case _:
                    self._traffic.dropped("kind")

    def _take_part(self, packet: wire.Trajectory | wire.EpisodeRecord) -> None:
        episode = self._joiner.add(packet)
        if episode is not None:
            self._learner.add(episode)
            self._unsaved[episode.number] = self._learner.progress.episodes, episode
            self._write_journal(time.monotonic())
        self._acknowledge_released()

    def _write_journal(self, now_s: float) -> None:
        """Make episodes safe in the order in which they were joined, and say so."""
        # Whatever as many newer ones have overtaken as the journal holds would have left it by now.
        while len(self._unsaved) > self._journal.capacity:
            _, episode = self._unsaved.pop(next(iter(self._unsaved)))
            self._acknowledge(senders_of(episode))
        while self._unsaved and now_s >= self._journal_at:
            number, (ordinal, episode) = next(iter(self._unsaved.items()))
            try:
                self._journal.append(ordinal, episode)
            except OSError as error:
                self._journal_failures += 1
                self._journal_at = now_s + _JOURNAL_RETRY_S
                logger.warning(
                    "%d episodes are not in the journal and not acknowledged: %s",
                    len(self._unsaved),
                    error,
                )
                return
            del self._unsaved[number]
            self._acknowledge(senders_of(episode))

    def _acknowledge_released(self) -> None:
        released = self._joiner.take_released()
        self._acknowledge([part for part in released if part.episode not in self._unsaved])

    def _acknowledge(self, parts: list[Part]) -> None:
        for part in parts:
            peer = WORLD.encode() if part.agent is None else agent_routing_id(part.agent)
            self._hub.send(peer, wire.TrajectoryAck(part.episode))

    def _subscribe(self, peer: bytes, have: int) -> None:
        if host_of(peer) is None:  # agents ask their node
            self._traffic.dropped("unknown_sender")
            return
        ahead = max(have - self._publisher.version, 0)
        if self._versions_skipped + ahead > _MOST_SKIPPED:
            self._traffic.dropped("future")
            return
        self._versions_skipped += ahead
        self._nodes.add(peer)
        if have >= self._publisher.version:
            # It heard that version from an earlier life of ours, which had come further.
            self._send_to_nodes(self._publisher.continue_after(have))
        else:
            self._hub.send(peer, self._publisher.snapshot())

    # --- what goes out ----------------------------------------------------------------------------

    def _update(self) -> None:
        began_s = time.monotonic()
        # With other ranks an update is finished first: they are in it as well.
        alone = self._ranks is None
        with self._termination.allowed() if alone else nullcontext():
            metrics = self._learner.compute_gradient(
                between_parts=lambda: self._send_status(time.monotonic())
            )
        self._learner.apply_gradient(metrics)
        update_s = time.monotonic() - began_s
        self._updates += 1
        self._updating_s += update_s
        mean_s = self._updating_s / self._updates
        self._metrics = {**metrics, "update_s": update_s, "update_s_mean": mean_s}
        self._watch_gate(metrics["open_share"])
        self._keep_masks()
        steps = self._learner.progress.gradient_steps
        if steps % self._config.publish_period == 0:
            self._publish()
        self._send_status(time.monotonic())

    def _watch_gate(self, open_share: float) -> None:
        config = self._setup.config
        if config.comm == "sops" and config.gate.mode == "learned":
            env_steps = self._learner.progress.env_steps
            line = self._gate_watch.look(open_share, env_steps)
            if line is not None:
                logger.warning("%s", line)

    def _keep_masks(self, *, is_over: bool = False) -> None:
        """Snapshots are pictures for later: one that cannot be written is not worth a run."""
        topology, steps = self._learner.topology, self._setup.config.steps
        if topology is None:
            return
        try:
            env_steps = self._learner.progress.env_steps
            self._mask_snapshots.look(topology, env_steps, steps, is_over=is_over)
        except OSError as error:
            logger.warning("no snapshot of the masks could be written: %s", error)

    def _publish(self) -> None:
        flat = self._learner.parameters_flat()
        self._published_step = self._learner.progress.gradient_steps
        self._send_to_nodes(self._publisher.publish(flat, self._learner.mask_flat()))

    def _send_to_nodes(self, packet: wire.Parameters) -> None:
        self._versions_published += 1
        self._published_bytes += len(wire.encode(packet))
        unreachable = self._traffic["dropped_unreachable"]
        for peer in list(self._nodes):
            self._hub.send(peer, packet)
            if self._traffic["dropped_unreachable"] > unreachable:
                unreachable = self._traffic["dropped_unreachable"]
                self._nodes.discard(peer)

    def _finish(self) -> None:
        if self._published_step < self._learner.progress.gradient_steps:
            self._publish()
        self._joiner.abandon()  # episodes that were cut off when training ended
        self._acknowledge_released()
        self._keep_masks(is_over=True)
        self.save()
        self._launcher.send(wire.Trained(self._publisher.version))
        self._finishing = False

    def _send_status(self, now_s: float) -> None:
        self._status_at = now_s + _STATUS_PERIOD_S
        learner, given_up = self._learner, self._joiner.dropped_episodes.total()
        self._launcher.send(wire.Status("learner", self._values()))
        self._launcher.send(
            wire.LearnerState(learner.updates_owed, learner.progress.episodes + given_up)
        )

    def _values(self) -> dict[str, float]:
        learner, traffic = self._learner, self._traffic
        progress = learner.progress
        values: dict[str, float] = {
            "is_cuda": learner.device.type == "cuda",
            "updates": progress.gradient_steps,
            "updates_skipped": progress.skipped_steps,
            "backlog": learner.updates_owed,
            "version": self._publisher.version,
            "env_steps": progress.env_steps,
            "episodes": progress.episodes,
            "temperature": learner.schedules.temperature,
            "replay_episodes": len(learner.replay),
            "replay_bytes": learner.replay.size_bytes,
            "trajectory_bytes": traffic["received_payload_trajectory"],
            "policy_bytes": traffic["sent_payload_parameters"],
            "policy_versions": self._versions_published,
            "episodes_dropped": self._joiner.dropped_episodes.total(),
            "episodes_pending": len(self._joiner),
            "episodes_unsaved": len(self._unsaved),
            "journal_episodes": len(self._journal),
            "journal_failures": self._journal_failures,
            "checkpoint_failures": self._checkpoint_failures,
            "dropped_packets": self._joiner.dropped_packets.total(),
            "dropped_frames": traffic.dropped_total,
            "log_lines_lost": lines_lost(),
            **self._metrics,
            **self._account,
            **({} if learner.topology is None else learner.topology.figures()),
        }
        if self._versions_published:
            values["version_bytes_mean"] = self._published_bytes / self._versions_published
        if self._lags:
            values["policy_lag_mean"] = sum(self._lags) / len(self._lags)
        # Not a number has no place on the wire; a gap in the record says as much.
        return {name: float(value) for name, value in values.items() if np.isfinite(value)}

    # --- files ------------------------------------------------------------------------------------

    def save(self) -> bool:
        """Write checkpoint and policy file, each whole or not at all; whether both were written.

        What cannot be written now is tried again when the next checkpoint is due.
        """
        self._checkpoint_at = time.monotonic() + self._config.checkpoint_period_s
        flat, version = self._publisher.flat, self._publisher.version
        checkpoint = self._setup.checkpoint
        try:
            save_checkpoint(checkpoint, self._learner, version, self._config_text)
            # The policy that agents have, not one that is a few unpublished steps ahead of it.
            policy = PolicyFile(self._spec, flat, version, self._trained())
            save_policy(self._setup.run_dir / POLICY, policy)
        except OSError as error:
            self._checkpoint_failures += 1
            self._save_error = error
            logger.warning("no checkpoint could be written, the last one stays: %s", error)
            return False
        self._saved = self._reached
        return True

    @property
    def _reached(self) -> tuple[int, int, int]:
        """What changes whenever there is something new to save."""
        progress = self._learner.progress
        return progress.episodes, progress.gradient_steps, self._publisher.version

    def leave(self) -> None:
        """Save for the last time, and tell the launcher if what is on disk is not the newest."""
        if not self.save() and self._saved != self._reached:
            logger.error(
                "the run ends without its last checkpoint: %s and %s are older than %d updates",
                self._setup.checkpoint.name,
                POLICY,
                self._learner.progress.gradient_steps,
            )
            reason = f"the last checkpoint could not be written ({self._save_error})"
            self._launcher.send(wire.Stop(reason[:_REASON_LETTERS]))
        self._send_status(time.monotonic())

    def _trained(self) -> dict[str, str]:
        config = self._setup.config
        return {
            "env": config.env.name,
            "agents": str(config.num_agents),
            "comm": config.comm,
            "gate_timing": config.gate.timing,
            "gate_mode": config.gate.mode,
            "gate_budget": str(config.gate.budget),
            "dead": config.agents.dead,
            "algorithm": config.learner.algorithm,
            "env_steps": str(self._learner.progress.env_steps),
            "seed": str(config.seed),
        }

    def close(self) -> None:
        for reason, count in self._joiner.dropped_episodes.items():
            logger.warning("%d episodes were dropped: %s", count, reason)
        if self._ranks is not None:
            self._ranks.dismiss()
            self._ranks.close()
        self._hub.close()
        self._launcher.close()
        if self._gatekeeper is not None:
            self._gatekeeper.close()
