"""What the learner reports about itself: the figures of its last update, and of all it holds."""

import logging
import time
from collections import deque

import numpy as np

from agents.found import scheme_of
from configs.schema import RunConfig
from learner.gate_watch import GateWatch
from learner.learner import Learner
from learner.sparse.accounting import account
from runtime.net import wire
from runtime.net.traffic import Traffic

logger = logging.getLogger(__name__)

_LAGS_REMEMBERED = 256
"""Trajectories over which the mean policy lag is taken."""


class Status:
    """The learner's figures, by name as in metrics.jsonl."""

    def __init__(self, learner: Learner, config: RunConfig) -> None:
        self._learner = learner
        self._account = account(learner, config)
        self._metrics: dict[str, float] = {}
        self._updates, self._updating_s = 0, 0.0
        """Of this life, and the seconds that they took."""
        self._answers, self._answering_s = 0, 0.0
        """Of a guide, in this life."""
        self._lags: deque[int] = deque(maxlen=_LAGS_REMEMBERED)
        learns_gates = scheme_of(config.comm).gate_mode(config.gate.mode) == "learned"
        self._gate_watch = GateWatch(config.gate, config.steps) if learns_gates else None

    def updated(self, metrics: dict[str, float], seconds: float, version: int) -> None:
        """An update is done: its metrics, and how long it took.

        Args:
            version: of the policy that was published last.
        """
        self._updates += 1
        self._updating_s += seconds
        mean_s = self._updating_s / self._updates
        self._metrics = {**metrics, "update_s": seconds, "update_s_mean": mean_s}
        if self._learner.data_version is not None:
            # Versions between the policy that has played a rollout and the one that it improves.
            self._metrics["rollout_lag"] = version - self._learner.data_version
        if self._gate_watch is not None:
            env_steps = self._learner.progress.env_steps
            line = self._gate_watch.look(metrics["open_share"], env_steps)
            if line is not None:
                logger.warning("%s", line)

    def guide(self, question: wire.GuideQuestion) -> wire.GuideAnswer:
        """What the learner's guide answers, with a look at the clock."""
        began_s = time.monotonic()
        answer = self._learner.guide(question)
        self._answers += 1
        self._answering_s += time.monotonic() - began_s
        return answer

    def lagged(self, versions: int) -> None:
        """A trajectory has come of a policy so many versions old."""
        self._lags.append(versions)

    def figures(self) -> dict[str, float]:
        learner, progress = self._learner, self._learner.progress
        figures: dict[str, float] = {
            "is_cuda": learner.device.type == "cuda",
            "updates": progress.gradient_steps,
            "updates_skipped": progress.skipped_steps,
            "backlog": learner.updates_owed,
            "env_steps": progress.env_steps,
            "episodes": progress.episodes,
            "temperature": learner.schedules.temperature,
            "replay_episodes": len(learner.replay),
            "replay_bytes": learner.replay.size_bytes,
            **self._metrics,
            **self._account,
            **({} if learner.topology is None else learner.topology.figures()),
        }
        if self._answers:
            figures["guide_s_mean"] = self._answering_s / self._answers
        if self._lags:
            figures["policy_lag_mean"] = sum(self._lags) / len(self._lags)
        return figures


def traffic_figures(traffic: Traffic) -> dict[str, float]:
    """Bytes of payload that have crossed between the learner and everybody else."""
    return {
        "trajectory_bytes": traffic["received_payload_trajectory"],
        "policy_bytes": traffic["sent_payload_parameters"],
        "guide_bytes": traffic["received_payload_guide"] + traffic["sent_payload_guide"],
    }


def reportable(figures: dict[str, float]) -> dict[str, float]:
    """Not a number has no place on the wire; a gap in the record says as much."""
    return {name: float(value) for name, value in figures.items() if np.isfinite(value)}
