"""What a run says of itself while it goes on: the view, the log files, lines of warning."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.run_files import BEST_POLICY, EPISODES, LOGS, METRICS, POLICY, SUMMARY
from runtime.net import wire
from runtime.record.run_log import RunLog
from runtime.run.conductor import Stage
from runtime.run.episode_watch import EpisodeWatch
from runtime.run.evaluations import Evaluation
from runtime.run.scoreboard import Scoreboard
from runtime.run.view import View

logger = logging.getLogger(__name__)

_VIEW_PERIOD_S = 0.5
_LOG_PERIOD_S = 1.0
_FILES = (SUMMARY, METRICS, EPISODES, POLICY, BEST_POLICY, LOGS)


class Reporting:
    """The scoreboard's figures, shown and written as time passes."""

    def __init__(
        self,
        board: Scoreboard,
        view: View,
        log: RunLog | None,
        directory: Path,
        dropped: Callable[[], int],
    ) -> None:
        """Report what the board says.

        Args:
            directory: the run's folder.
            dropped: packets that the launcher has dropped by now.
        """
        self._board = board
        self._view = view
        self._log = log
        self._directory = directory
        self._dropped = dropped
        self._episode_watch = EpisodeWatch()
        self._episodes_played = 0
        """Training episodes of this life."""
        self._shown_s = self._logged_s = self._counted_s = 0.0
        self._stage_s = {stage.name.lower(): 0.0 for stage in Stage}
        """Seconds of the run by stage; the last one is its end."""

    def start(self) -> None:
        self._view.start()

    def take_result(self, result: wire.EpisodeResult) -> Evaluation | None:
        """An episode has ended; returns the evaluation that it completes, if it does."""
        evaluation = self._board.take_result(result)
        self._episodes_played += not result.evaluation
        if self._log is not None:
            self._log.episode(result)
            if evaluation is not None:
                values = self._board.evaluation_metrics(evaluation)
                self._log.evaluation(evaluation.env_steps, values)
                self._log_row(self._log)  # two may end between the rows that time brings
        return evaluation

    def passed(self, stage: Stage, elapsed_s: float) -> None:
        """All time since the last call was this stage's."""
        self._stage_s[stage.name.lower()] += elapsed_s - self._counted_s
        self._counted_s = elapsed_s

    def show(self, stage: Stage, elapsed_s: float) -> None:
        """Bring view and log up to date, every so often."""
        self.passed(stage, elapsed_s)
        if elapsed_s - self._shown_s >= _VIEW_PERIOD_S:
            self._shown_s = elapsed_s
            phase = "training" if stage is Stage.RUNNING else stage.name.lower()
            self._view.update(self._board.snapshot(phase, elapsed_s))
        if self._log is not None and elapsed_s - self._logged_s >= _LOG_PERIOD_S:
            self._logged_s = elapsed_s
            self._log_row(self._log)
            if stage is Stage.RUNNING:
                self._watch_episodes()

    def finish(self, reason: str, wall_s: float, playing_s: float, device: str) -> dict[str, Any]:
        """The run is over; returns its summary."""
        self._board.dropped_by_launcher = self._dropped()
        self._stage_s[Stage.ENDED.name.lower()] += wall_s - self._counted_s
        stage_s = {name: round(seconds, 3) for name, seconds in self._stage_s.items()}
        summary = {**self._board.summary(reason, wall_s, playing_s, device), "stage_s": stage_s}
        if self._log is not None:
            self._log_row(self._log)
            self._log.summary(summary)
        paths = {name: self._directory / name for name in _FILES}
        files = {name: path for name, path in paths.items() if path.exists()}
        met_at = self._board.good_enough_at
        why = "" if met_at is None else f": good enough at {met_at:,} steps"
        self._view.finish(self._board.snapshot(reason + why, wall_s), files)
        return summary

    def _watch_episodes(self) -> None:
        learner = self._board.learner
        if learner:
            line = self._episode_watch.look(
                time.monotonic(),
                played=self._episodes_played,
                joined=int(learner.get("episodes", 0.0)),
                dropped=int(learner.get("episodes_dropped", 0.0)),
                owed=learner.get("backlog", 0.0),
            )
            if line is not None:
                logger.warning("%s", line)

    def _log_row(self, log: RunLog) -> None:
        if self._board.is_under_way:
            self._board.dropped_by_launcher = self._dropped()
            log.metrics(self._board.env_steps, self._board.metrics())
