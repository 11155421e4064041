"""What is to be run, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from agents.policy import PolicyFile, PolicySpec
from configs.arrays import FloatArray
from configs.schema import RunConfig
from envs import registry
from envs.base import EnvSpec
from runtime.deployment.bundle import Bundle
from runtime.net.failures import NO_FAILURES, Failures
from runtime.net.security import Keyring
from runtime.run.central import OpenCentre
from runtime.run.placer import Placer
from runtime.run.serial_learner import SerialLearner

Recorded = Literal["training", "all", "none"]
"""Episodes that agents and world record and send on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayedBefore:
    """Where an earlier run stood that this one continues."""

    env_steps: int = 0
    episodes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerPlace:
    """Where a learner process finds the others."""

    launcher_endpoint: str
    bind_endpoint: str
    incarnation: int
    resume: bool
    keyring: Keyring | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """What is to be run."""

    config: RunConfig
    env: EnvSpec
    spec: PolicySpec
    parameters: FloatArray
    version: int
    directory: Path
    """The run's folder, which exists."""
    trains: bool
    evaluation_episodes: int
    start_learner: Callable[[LearnerPlace], BaseProcess] | None = None
    """Starts the learner process; None for a run without one."""
    open_learner: Callable[[LearnerPlace], SerialLearner] | None = None
    """Opens a learner in this very process; None where that is not asked for."""
    open_centre: OpenCentre | None = None
    """Opens what computes all agents in one place; None: they compute themselves."""
    played_before: PlayedBefore = PlayedBefore()
    record: bool = False
    """Keep every evaluation episode (see `Run.recorder`)."""
    failures: Failures = NO_FAILURES
    """What is made to fail. A kill wants every episode in a copy of its own, so that all see it at
    the same step (env.copies = `evaluation_episodes`)."""
    head: Bundle | None = None
    """Keys and addresses of a run across hosts; None if everything is on this machine."""
    placer: Placer | None = None
    """What puts nodes on the other hosts; None if nobody has to be looked after."""

    @classmethod
    def of_evaluation(
        cls,
        config: RunConfig,
        policy: PolicyFile,
        episodes: int,
        directory: Path,
        *,
        record: bool = False,
        head: Bundle | None = None,
        failures: Failures = NO_FAILURES,
    ) -> "Plan":
        """A number of greedy episodes of a policy, without a learner.

        Raises:
            ValueError: the environment cannot be had, or not at this size.
        """
        return cls(
            config=config,
            env=registry.spec_of(config.env, config.num_agents),
            spec=policy.spec,
            parameters=policy.flat,
            version=policy.version,
            directory=directory,
            trains=False,
            evaluation_episodes=episodes,
            record=record,
            head=head,
            failures=failures,
        )

    @property
    def recorded(self) -> Recorded:
        """Episodes that go to the learner, or to the recorder."""
        if self.record:
            return "all"
        return "training" if self.trains else "none"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"


@dataclass(frozen=True, slots=True, eq=False)
class RunEnd:
    """How a run ended."""

    exit_code: int
    reason: str
    summary: dict[str, Any]
