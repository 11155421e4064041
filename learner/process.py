"""The learner's process: the shell around `learner.learner`.

    agents, world ──▶ Hub ──▶ Intake ──▶ Learner ──▶ Subscribers ──▶ Hub ──▶ nodes
                                            ▼
                                Saving: checkpoints      launcher ⇄ Channel: status, instructions

Between two updates it takes whatever has arrived (learner/intake.py). It writes a checkpoint at the
very start, every so often, and when it is told to stop or gets SIGTERM, even within an update
(learner/saving.py). Updates that were taken since the last checkpoint and died with their learner
are owed again.

It reports before, after and within an update, before each part of the batch
(learner.AGENT_STEPS_PER_PART): a learner that says nothing for a minute hangs.
"""

import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import nullcontext

import setproctitle
import torch
import zmq

from agents.policy import PolicySpec
from configs.run_files import JOURNAL
from envs.registry import bounds_of, observation_shape_of
from learner.best_policy import BestPolicy
from learner.checkpoint import load_checkpoint
from learner.experience.episode import Part
from learner.follower import begin_together, follow
from learner.hardware import prepare, resolve_device
from learner.intake import Intake
from learner.learner import Learner
from learner.ranks import Ranks, launched
from learner.saving import Saving
from learner.setup import LearnerSetup
from learner.status import Status, reportable, traffic_figures
from learner.subscribers import Subscribers
from learner.termination import Stopped, Termination, leave_agent, leave_with_parent
from runtime.net import wire
from runtime.net.limits import begin_process
from runtime.net.logs import lines_lost, setup_logging
from runtime.net.moves import keys_after
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
_LATECOMERS_S = 5.0
"""Seconds that a learner which was started again waits for what its predecessor had not
acknowledged, before it says that it has finished."""
_STRAGGLERS_S = 15.0
"""Seconds that a learner which is to finish waits at most for the missing parts of episodes that
have ended: longer than it takes an agent to send a lost part again."""


def main(setup: LearnerSetup) -> None:
    """Run the learner until it is told to stop. Entry point of the process."""
    setproctitle.setproctitle("murmuration: learner")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us as the launcher's Stop
    termination = Termination()
    signal.signal(signal.SIGTERM, termination.handle)
    leave_with_parent()
    setup_logging("learner", 0, setup.logs)
    begin_process(keyed=setup.keyring is not None)
    config = setup.config.learner
    prepare(config)
    ranks: Ranks | None = None
    if launched():
        ranks = Ranks(resolve_device(config))
        if ranks.rank > 0:
            _follow(setup, ranks)
            leave_agent(termination)
            return
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with learner_held(setup.run_dir):
            process = LearnerProcess(setup, context, termination, ranks)
            try:
                process.serve()
            except Stopped as stop:
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
        leave_agent(termination)


def _follow(setup: LearnerSetup, ranks: Ranks) -> None:
    """Be a rank behind the first, until that one ends: SIGTERM is its business."""
    setproctitle.setproctitle(f"murmuration: learner, rank {ranks.rank}")
    learner = make_learner(setup)
    logger.info("rank %d of %d on %s", ranks.rank, ranks.size, learner.device)
    follow(learner, ranks)


def make_learner(setup: LearnerSetup) -> Learner:
    """A fresh learner, as the setup describes it."""
    config, dimensions = setup.config, setup.dimensions
    spec = PolicySpec.of(
        config.network,
        dimensions.observation_dim,
        dimensions.num_actions,
        comm=config.comm,
        comm_options=config.comm_options,
        observation_shape=observation_shape_of(config),
        bounds=bounds_of(config) if dimensions.action_dim else None,
    )
    device, workers = resolve_device(config.learner), torch.get_num_threads()
    return Learner(config, spec, dimensions, setup.initial, device, workers)


def resume(setup: LearnerSetup, learner: Learner) -> int:
    """Have the learner go on from its checkpoint; returns the version that was published last.

    Raises:
        CheckpointError: there is none, or it does not fit.
    """
    if setup.incarnation == 0 or setup.checkpoint.exists():
        version = load_checkpoint(setup.checkpoint, learner).version
        logger.info("resumed from %s at version %d", setup.checkpoint, version)
        return version
    # Our predecessor could not write a single one.
    logger.error("there is no checkpoint %s: beginning anew", setup.checkpoint)
    return 0


class LearnerProcess:
    """Moves packets between the sockets and the learner."""

    def __init__(
        self,
        setup: LearnerSetup,
        context: "zmq.Context[zmq.Socket[bytes]]",
        termination: Termination,
        ranks: Ranks | None = None,
    ) -> None:
        self._setup = setup
        self._termination = termination
        self._ranks = ranks
        self._learner = learner = make_learner(setup)
        version = setup.initial_version
        if setup.resume:
            version = max(version, resume(setup, learner))
        self._intake = Intake(
            learner,
            setup.config.learner,
            setup.dimensions,
            setup.run_dir / JOURNAL,
            self._acknowledge,
            resume=setup.resume,
        )
        if ranks is not None:
            begin_together(learner, ranks)
        self._subscribers = Subscribers(
            learner, setup.config.learner, version + 1, self._send_parameters
        )
        self._saving = Saving(setup, learner, self._subscribers.policy, time.monotonic)
        self._best = BestPolicy(setup, learner, self._subscribers.policy)
        self._status = Status(learner, setup.config)

        self._traffic = Traffic()
        keyring = setup.keyring
        self._gatekeeper: Gatekeeper | None = None
        if keyring is not None:
            self._gatekeeper = Gatekeeper(context, is_patient=keyring.is_renewed)
            self._admit(keyring.public)
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
        self._finishing_since_s: float | None = None
        """Clock reading at which training was over; None: it is not, or everybody knows."""
        self._heard_s = 0.0
        """Clock reading at which something came from agents, nodes or the world."""
        self._begun_s = time.monotonic()
        self._status_at = 0.0
        logger.info(
            "%d parameters on %s, listening on %s",
            learner.spec.size,
            learner.device,
            self._hub.endpoint,
        )

    def serve(self) -> None:
        """Learn from whatever comes until told to stop.

        Raises:
            Stopped: the end.
        """
        if self._saving.save():
            self._intake.trim()
        self._saving.keep_masks()
        incarnation, endpoint = self._setup.incarnation, self._hub.endpoint
        hello = wire.Hello("learner", 0, incarnation, os.getpid(), endpoint)
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
            self._heard_s = time.monotonic()
            self._take_packets()
        if self._learner.updates_owed > 0:
            self._update()
        elif self._finishing_since_s is not None and self._has_heard_everybody(
            self._finishing_since_s, time.monotonic()
        ):
            self._finish()
        now_s = time.monotonic()
        if now_s >= self._status_at:
            self._intake.turn(now_s)
            self._send_status(now_s)
        if self._saving.is_due(now_s):
            self._saving.save()

    def _has_heard_everybody(self, since_s: float, now_s: float) -> bool:
        """Whether nothing more is to be expected of a training that has been over since then."""
        if self._setup.incarnation > 0 and now_s <= self._begun_s + _LATECOMERS_S:
            return False  # who was connected to an earlier learner has yet to find this one
        if now_s < max(since_s, self._heard_s) + _STATUS_PERIOD_S:
            return False
        # The word that training is over takes another way than the last trajectories, and an agent
        # on a busy machine may be slower than that.
        return not self._intake.awaits_parts or now_s >= since_s + _STRAGGLERS_S

    # --- what comes in ----------------------------------------------------------------------------

    def _take_control(self) -> None:
        accepted = (wire.Instruction, wire.Evaluated, wire.Moves, wire.Stop)
        for packet in self._launcher.drain(*accepted):
            match packet:
                case wire.Stop():
                    raise Stopped(packet.reason)
                case wire.Instruction(name="finish"):
                    self._finishing_since_s = time.monotonic()
                case wire.Evaluated():
                    self._best.evaluated(packet)
                case wire.Moves():
                    self._take_moves(packet)
                case _:
                    self._traffic.dropped("kind")

    def _admit(self, public: Mapping[str, str]) -> None:
        """From now on let everybody in by these keys."""
        assert self._gatekeeper is not None
        others = {name: key for name, key in public.items() if name != LEARNER}
        self._gatekeeper.admit(LEARNER, others)

    def _take_moves(self, packet: wire.Moves) -> None:
        """Agents live on other hosts and have new keys."""
        try:
            public = keys_after(packet, self._setup.keyring, self._setup.config.num_agents)
        except ValueError:
            self._traffic.dropped("range")
        else:
            self._admit(public)

    def _take_packets(self) -> None:
        accepted = (wire.Trajectory, wire.EpisodeRecord, wire.SnapshotRequest, wire.GuideQuestion)
        for peer, packet in self._hub.drain(*accepted):
            match packet:
                case wire.SnapshotRequest():
                    self._subscribe(peer, packet.have)
                case wire.Trajectory() if agent_of(peer) == packet.agent:
                    if self._intake.take(packet, time.monotonic()):
                        version = self._subscribers.policy.version
                        self._status.lagged(max(version - packet.first_version, 0))
                case wire.EpisodeRecord() if peer == WORLD.encode():
                    self._intake.take(packet, time.monotonic())
                case wire.GuideQuestion() if peer == WORLD.encode():
                    self._hub.send(peer, self._status.guide(packet))
                case wire.Trajectory() | wire.EpisodeRecord() | wire.GuideQuestion():
                    self._traffic.dropped("unknown_sender")
                case _:
                    self._traffic.dropped("kind")

    def _subscribe(self, peer: bytes, have: int) -> None:
        if host_of(peer) is None:  # agents ask their node
            self._traffic.dropped("unknown_sender")
        elif not self._subscribers.subscribe(peer, have):
            self._traffic.dropped("future")

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
        version = self._subscribers.policy.version
        self._status.updated(metrics, time.monotonic() - began_s, version)
        self._saving.keep_masks()
        if self._learner.publishes:
            self._subscribers.publish()
        self._send_status(time.monotonic())

    def _finish(self) -> None:
        self._subscribers.publish_rest()
        self._intake.training_ends()
        self._saving.keep_masks(is_over=True)
        self._saving.save()
        self._launcher.send(wire.Trained(self._subscribers.policy.version))
        self._finishing_since_s = None

    def _acknowledge(self, part: Part) -> None:
        peer = WORLD.encode() if part.agent is None else agent_routing_id(part.agent)
        self._hub.send(peer, wire.TrajectoryAck(part.episode))

    def _send_parameters(self, peer: bytes, packet: wire.Parameters) -> bool:
        unreachable = self._traffic["dropped_unreachable"]
        self._hub.send(peer, packet)
        return self._traffic["dropped_unreachable"] == unreachable

    def _send_status(self, now_s: float) -> None:
        self._status_at = now_s + _STATUS_PERIOD_S
        learner, traffic = self._learner, self._traffic
        values = {
            **self._status.figures(),
            **self._subscribers.figures(),
            **self._intake.figures(),
            **self._saving.figures(),
            **traffic_figures(traffic),
            "dropped_frames": traffic.dropped_total,
            "log_lines_lost": lines_lost(),
        }
        self._launcher.send(wire.Status("learner", reportable(values)))
        taken = learner.progress.episodes + self._intake.given_up
        self._launcher.send(
            wire.LearnerState(
                updates_owed=learner.updates_owed,
                episodes_taken=taken,
                rollouts_owed=learner.rollouts_owed,
                policy_version=self._subscribers.policy.version,
            )
        )

    # --- the end ----------------------------------------------------------------------------------

    def leave(self) -> None:
        """Save for the last time, and tell the launcher if what is on disk is not the newest."""
        reason = self._saving.save_last()
        if reason:
            self._launcher.send(wire.Stop(reason))
        self._send_status(time.monotonic())

    def close(self) -> None:
        self._intake.close()
        if self._ranks is not None:
            self._ranks.dismiss()
            self._ranks.close()
        self._hub.close()
        self._launcher.close()
        if self._gatekeeper is not None:
            self._gatekeeper.close()
