"""Files that the learner leaves: checkpoint, policy file, pictures of its masks.

A checkpoint is written at the very start, then every `learner.checkpoint_period_s`, and at the end.
A disk that is full costs a checkpoint and not the run.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from agents.policy import CENTRALISED, FROZEN, PolicyFile, save_policy
from configs.algorithms.described import traits_of
from configs.load import dump_run_config
from configs.run_files import MASKS, POLICY
from configs.schema import RunConfig
from learner.checkpoint import save_checkpoint
from learner.learner import Learner
from learner.publish import Publisher
from learner.setup import LearnerSetup
from learner.sparse.snapshots import MaskSnapshots

logger = logging.getLogger(__name__)

_REASON_LETTERS = 200
"""Of a reason that goes over the wire; the log has all of it."""


class Saving:
    """Writes checkpoints, each whole or not at all."""

    def __init__(
        self,
        setup: LearnerSetup,
        learner: Learner,
        policy: Publisher,
        clock: Callable[[], float],
    ) -> None:
        """Save a learner and the policy that it has published.

        Args:
            clock: seconds, of any beginning.
        """
        self._setup = setup
        self._learner = learner
        self._policy = policy
        self._clock = clock
        self._config_text = dump_run_config(setup.config)
        self._masks = MaskSnapshots(setup.run_dir / MASKS)
        self._due_at = 0.0
        self._failures = 0
        self._error: OSError | None = None
        """Why the newest checkpoint that could not be written could not."""
        self._saved: tuple[int, int, int] | None = None
        """What had been reached when the last checkpoint was written."""

    def is_due(self, now_s: float) -> bool:
        return now_s >= self._due_at

    def save(self) -> bool:
        """Write checkpoint and policy file, each whole or not at all; whether both were written.

        What cannot be written now is tried again when the next checkpoint is due.
        """
        setup, learner, policy = self._setup, self._learner, self._policy
        self._due_at = self._clock() + setup.config.learner.checkpoint_period_s
        try:
            save_checkpoint(setup.checkpoint, learner, policy.version, self._config_text)
            save_policy(setup.run_dir / POLICY, published(setup.config, learner, policy))
        except OSError as error:
            self._failures += 1
            self._error = error
            logger.warning("no checkpoint could be written, the last one stays: %s", error)
            return False
        self._saved = self._reached
        return True

    def save_last(self) -> str:
        """Save at the end; why what is on disk is not the newest, or "" if it is."""
        if self.save() or self._saved == self._reached:
            return ""
        logger.error(
            "the run ends without its last checkpoint: %s and %s are older than %d updates",
            self._setup.checkpoint.name,
            POLICY,
            self._learner.progress.gradient_steps,
        )
        return f"the last checkpoint could not be written ({self._error})"[:_REASON_LETTERS]

    def keep_masks(self, *, is_over: bool = False) -> None:
        """Snapshots are pictures for later: one that cannot be written is not worth a run."""
        topology, steps = self._learner.topology, self._setup.config.steps
        if topology is None:
            return
        try:
            env_steps = self._learner.progress.env_steps
            self._masks.look(topology, env_steps, steps, is_over=is_over)
        except OSError as error:
            logger.warning("no snapshot of the masks could be written: %s", error)

    def figures(self) -> dict[str, float]:
        return {"checkpoint_failures": self._failures}

    @property
    def _reached(self) -> tuple[int, int, int]:
        """What changes whenever there is something new to save."""
        progress = self._learner.progress
        return progress.episodes, progress.gradient_steps, self._policy.version


def published(config: RunConfig, learner: Learner, policy: Publisher) -> PolicyFile:
    """The policy that agents have, not one that is a few unpublished steps ahead of it."""
    trained = trained_with(config, learner.progress.env_steps)
    return PolicyFile(learner.spec, policy.flat, policy.version, trained)


def trained_with(config: RunConfig, env_steps: int) -> dict[str, str]:
    """What a policy file says about the training that made it."""
    sizes = sorted((config.num_agents, *config.learner.also_agents))
    centralised = traits_of(config.learner).centralised
    return {
        **({CENTRALISED: "1"} if centralised else {}),
        **({FROZEN: Path(config.pretrained).name} if config.keeps_pretrained else {}),
        "env": config.env.name,
        "agents": " ".join(map(str, sizes)),
        "comm": config.comm,
        "gate_timing": config.gate.timing,
        "gate_mode": config.gate.mode,
        "gate_budget": str(config.gate.budget),
        "dead": config.agents.dead,
        "algorithm": config.learner.algorithm,
        "env_steps": str(env_steps),
        "seed": str(config.seed),
    }
