"""The learner of a run in one process (`--serial`): that of a process, without sockets.

take(part) -> Intake -> Learner -> update() -> Subscribers -> parameters for the agents
"""

import time
from contextlib import ExitStack

from configs.run_files import JOURNAL
from learner.best_policy import BestPolicy
from learner.experience.episode import Part
from learner.hardware import prepare
from learner.intake import Intake
from learner.process import make_learner, resume
from learner.saving import Saving
from learner.setup import LearnerSetup
from learner.status import Status, reportable, traffic_figures
from learner.subscribers import Subscribers
from runtime.net import wire
from runtime.net.traffic import Traffic, TrafficClass
from runtime.record.run_folder import learner_held

_AGENTS = b"agents"


class SerialLearner:
    """Learns when it is told to, and hands back what it publishes."""

    def __init__(self, setup: LearnerSetup) -> None:
        """Begin, or go on from the checkpoint if the setup says so.

        Raises:
            CheckpointError: the checkpoint does not fit.
        """
        config = setup.config.learner
        prepare(config)
        self._setup = setup
        self._held = ExitStack()
        self._held.enter_context(learner_held(setup.run_dir))
        self._traffic = Traffic()
        self._learner = learner = make_learner(setup)
        version = setup.initial_version
        if setup.resume:
            version = max(version, resume(setup, learner))
        self._intake = Intake(
            learner,
            config,
            setup.dimensions,
            setup.run_dir / JOURNAL,
            self._acknowledge,
            resume=setup.resume,
        )
        self._published: list[wire.Parameters] = []
        self._subscribers = Subscribers(learner, config, version + 1, self._send)
        self._saving = Saving(setup, learner, self._subscribers.policy, time.monotonic)
        self._best = BestPolicy(setup, learner, self._subscribers.policy)
        self._status = Status(learner, setup.config)
        if self._saving.save():
            self._intake.trim()
        self._saving.keep_masks()

    @property
    def is_behind(self) -> bool:
        """Whether it owes an update."""
        return self._learner.updates_owed > 0

    @property
    def rollouts_owed(self) -> int:
        """Full rollouts that it has not worked off."""
        return self._learner.rollouts_owed

    @property
    def policy_version(self) -> int:
        """Newest that it has published."""
        return self._subscribers.policy.version

    @property
    def episodes_taken(self) -> int:
        """Episodes that it has taken in or given up."""
        return self._learner.progress.episodes + self._intake.given_up

    def take(self, packet: wire.Trajectory | wire.EpisodeRecord) -> None:
        """Take in a part of an episode, encoded and decoded as on its way over a socket."""
        frame = wire.encode(packet)
        self._traffic.received(TrafficClass.TRAJECTORY, len(frame))
        part = wire.decode(frame)
        assert isinstance(part, (wire.Trajectory, wire.EpisodeRecord))
        if self._intake.take(part, time.monotonic()) and isinstance(part, wire.Trajectory):
            self._status.lagged(max(self._subscribers.policy.version - part.first_version, 0))

    def first_version(self) -> list[wire.Parameters]:
        """What agents get before the first update."""
        self._subscribers.subscribe(_AGENTS, 0)
        return self._take_published()

    def guide(self, question: wire.GuideQuestion) -> wire.GuideAnswer:
        """What its guide does, encoded and decoded as on its way over a socket."""
        asked = wire.encode(question)
        self._traffic.received(TrafficClass.GUIDE, len(asked))
        packet = wire.decode(asked)
        assert isinstance(packet, wire.GuideQuestion)
        told = wire.encode(self._status.guide(packet))
        self._traffic.sent(TrafficClass.GUIDE, len(told))
        answer = wire.decode(told)
        assert isinstance(answer, wire.GuideAnswer)
        return answer

    def update(self) -> list[wire.Parameters]:
        """Take one update; what it publishes."""
        began_s = time.monotonic()
        metrics = self._learner.update()
        self._status.updated(metrics, time.monotonic() - began_s, self.policy_version)
        self._saving.keep_masks()
        if self._learner.publishes:
            self._subscribers.publish()
        return self._take_published()

    def evaluated(self, evaluation: wire.Evaluated) -> None:
        """An evaluation is over: keep the policy if none was better."""
        self._best.evaluated(evaluation)

    def finish(self) -> list[wire.Parameters]:
        """Training is over: publish the last version and save."""
        self._subscribers.publish_rest()
        self._intake.training_ends()
        self._saving.keep_masks(is_over=True)
        self._saving.save()
        return self._take_published()

    def turn(self) -> None:
        """Write what is due."""
        now_s = time.monotonic()
        self._intake.turn(now_s)
        if self._saving.is_due(now_s):
            self._saving.save()

    def figures(self) -> dict[str, float]:
        """As the learner's process reports them."""
        return reportable(
            {
                **self._status.figures(),
                **self._subscribers.figures(),
                **self._intake.figures(),
                **self._saving.figures(),
                **traffic_figures(self._traffic),
            }
        )

    def leave(self) -> str:
        """Save for the last time; why what is on disk is not the newest, or ""."""
        return self._saving.save_last()

    def close(self) -> None:
        self._intake.close()
        self._held.close()

    def _send(self, peer: bytes, packet: wire.Parameters) -> bool:
        del peer
        self._traffic.sent(TrafficClass.PARAMETERS, len(wire.encode(packet)))
        self._published.append(packet)
        return True

    def _take_published(self) -> list[wire.Parameters]:
        published, self._published = self._published, []
        return published

    def _acknowledge(self, part: Part) -> None:
        """Nobody waits for it here."""
