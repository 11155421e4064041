"""`--serial`: a whole training run in this very process, for a debugger.

    SerialRun (world, agents) ── trajectories, records ──▶ SerialLearner
           ▲                                                   │
           └───────────────── parameters ◀─────────────────────┘

The learner takes every update that it owes before the world goes on, so a run depends on its seed
alone. Processes give the same numbers to the bit wherever their own timing has no part in them: an
update that they publish reaches their agents a few steps later.
"""

import logging
import time
from functools import partial
from types import FrameType

from envs import registry
from runtime.net import wire
from runtime.record.run_log import RunLog
from runtime.run.central import CentralRun
from runtime.run.conductor import Stage
from runtime.run.placement import Placement
from runtime.run.plan import Plan, RunEnd
from runtime.run.reporting import Reporting
from runtime.run.scoreboard import Scoreboard
from runtime.run.serial import SerialRun
from runtime.run.serial_learner import SerialLearner
from runtime.run.view import View
from runtime.terminal import stop_signals
from runtime.world.process import rules_of

logger = logging.getLogger(__name__)

_STATUS_PERIOD_S = 0.5


class _Interrupted(Exception):
    """A signal asks for the end."""


class SerialTraining:
    """One training run, from the first step to the last."""

    def __init__(
        self,
        plan: Plan,
        view: View,
        log: RunLog | None,
    ) -> None:
        self._plan = plan
        self._places = Placement(plan, "")
        config = plan.config
        self.board = Scoreboard(
            config,
            plan.directory.name,
            trains=True,
            evaluation_episodes=plan.evaluation_episodes,
            resumed_at=plan.played_before.env_steps,
        )
        self._report = Reporting(self.board, view, log, plan.directory, lambda: 0)
        self._stage = Stage.STARTING
        self._signals = 0
        self._status_at = 0.0
        self._begun_s = time.monotonic()

    def execute(self) -> RunEnd:
        """Run to the end. What goes wrong within is raised as it is, for a debugger to see."""
        with stop_signals.handled_by(self._on_signal):
            self._report.start()
            learner = self._open_learner()
            try:
                run = self._open_run()
                playing_from_s = time.monotonic()
                try:
                    self._play(run, learner)
                    reason, code = wire.FINISHED, 0
                except _Interrupted:
                    reason, code = wire.INTERRUPTED, 130
                unsaved = learner.leave()
                if unsaved:
                    reason, code = f"{reason}, but {unsaved}", code or 1
                self._tell(run, learner)
                playing_s = time.monotonic() - playing_from_s
                device = "cuda" if learner.figures().get("is_cuda") else "cpu"
            finally:
                learner.close()
            summary = self._report.finish(reason, self._elapsed_s(), playing_s, device)
        return RunEnd(code, reason, summary)

    def _open_learner(self) -> SerialLearner:
        assert self._plan.open_learner is not None
        resume = bool(self._plan.config.resume)
        return self._plan.open_learner(self._places.learner("", "", incarnation=0, resume=resume))

    def _open_run(self) -> SerialRun:
        plan = self._plan
        config, places, before = plan.config, self._places, plan.played_before
        node, world = places.node("", "", ""), places.world("", "")
        copies = registry.make_copies(
            config.env, config.num_agents, config.seed, before.episodes, life=config.life
        )
        make = SerialRun
        if plan.open_centre is not None:
            make = partial(CentralRun, open_centre=plan.open_centre)
        return make(
            copies,
            node.rules,
            plan.parameters,
            rules_of(world),
            config.seed,
            life=config.life,
            version=plan.version,
            env_steps=before.env_steps,
            episodes=before.episodes,
        )

    def _play(self, run: SerialRun, learner: SerialLearner) -> None:
        """Train, then evaluate what has been learnt."""
        try:
            self.board.agents_up = len(run.agents)
            self._enter(Stage.RUNNING)
            run.ask = learner.guide
            self._publish(run, learner.first_version())
            self._tell_world(run, learner)
            while run.is_playing:
                run.tick()
                self._learn(run, learner)
                self._turn(run, learner)
            run.farewell()
            self._learn(run, learner)
            self._enter(Stage.FINISHING)
            self._publish(run, learner.finish())
            if self._plan.evaluation_episodes:
                self._enter(Stage.EVALUATING)
                run.world.evaluate(self._plan.evaluation_episodes)
                while run.is_playing:
                    run.tick()
                    self._turn(run, learner)
                run.farewell()
            self._take_results(run, learner)
            self._enter(Stage.ENDED)
        finally:
            run.copies.close()

    def _enter(self, stage: Stage) -> None:
        self._report.passed(self._stage, self._elapsed_s())
        self._stage = stage

    def _learn(self, run: SerialRun, learner: SerialLearner) -> None:
        """Hand over what was recorded, and have the learner catch up."""
        for packet in (*run.trajectories, *run.records):
            learner.take(packet)
        run.trajectories.clear()
        run.records.clear()
        self._tell_world(run, learner)
        # Where rollouts overlap, it works when the world cannot do without.
        while learner.is_behind and not (run.world.may_overlap and run.world.may_tick):
            self._publish(run, learner.update())
            self._check_signals()
            self._tell_world(run, learner)

    def _tell_world(self, run: SerialRun, learner: SerialLearner) -> None:
        run.world.learner.progress(
            updates_owed=0.0,
            episodes_taken=learner.episodes_taken,
            rollouts_owed=learner.rollouts_owed,
            policy_version=learner.policy_version,
        )

    def _publish(self, run: SerialRun, packets: list[wire.Parameters]) -> None:
        for packet in packets:
            run.parameters.apply(packet)

    def _turn(self, run: SerialRun, learner: SerialLearner) -> None:
        self._check_signals()
        self._take_results(run, learner)
        now_s = time.monotonic()
        if now_s >= self._status_at:
            self._status_at = now_s + _STATUS_PERIOD_S
            learner.turn()
            self._tell(run, learner)
            self._report.show(self._stage, self._elapsed_s())

    def _take_results(self, run: SerialRun, learner: SerialLearner) -> None:
        for result in run.results:
            evaluation = self._report.take_result(result)
            if evaluation is None:
                continue
            figure, good_enough = self.board.judged(evaluation)
            if figure is not None:
                learner.evaluated(figure)
            if good_enough:
                run.world.finish_training()
        run.results.clear()

    def _tell(self, run: SerialRun, learner: SerialLearner) -> None:
        """Bring the scoreboard up to date."""
        world = run.world.figures()
        for name in ("sent_payload_observation", "sent_payload_trajectory"):
            world[name] = float(run.world_traffic[name])
        self.board.take_status(wire.Status("world", world))
        self.board.take_status(wire.Status("node", run.figures()))
        self.board.take_status(wire.Status("learner", learner.figures()))

    def _check_signals(self) -> None:
        if self._signals:
            raise _Interrupted

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal ends the run between two steps, the second one on the spot."""
        del number, frame
        self._signals += 1
        if self._signals > 1:
            raise KeyboardInterrupt

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._begun_s
