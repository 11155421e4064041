"""The policy of the best evaluation, which need not be the last one: `policy-best.safetensors`.

    Evaluated (launcher) -> better than any before, or as good -> the newest version, to the file

An evaluation takes a while and the learner goes on meanwhile, so a run's evaluations are each
played by several versions. What is kept is the newest version at the moment when the learner hears
that the evaluation is over. Only the evaluation after the training is played by one version, the
last. A policy that is chosen by its own evaluation owes part of that figure to chance: to compare
policies, evaluate them anew.

The file is all that is remembered, so a learner that was started again knows what to beat.
"""

import logging
from dataclasses import replace

from agents.policy import PolicyFileError, load_policy, save_policy
from configs.run_files import BEST_POLICY
from learner.learner import Learner
from learner.publish import Publisher
from learner.saving import published
from learner.setup import LearnerSetup
from runtime.net import wire

logger = logging.getLogger(__name__)

_REACHED = "evaluation_reached"
"""Headline figure of the evaluation, in what a policy file says about its training."""
_DUE_AT = "evaluated_at"
"""Training steps at which it fell due."""


class BestPolicy:
    """Keeps the policy of the best evaluation of a run."""

    def __init__(self, setup: LearnerSetup, learner: Learner, policy: Publisher) -> None:
        """Keep what this publishes, and begin with the best of the run's earlier lives."""
        self._setup = setup
        self._learner = learner
        self._policy = policy
        self._path = setup.run_dir / BEST_POLICY
        self._reached = self._read()

    def evaluated(self, evaluation: wire.Evaluated) -> None:
        """An evaluation is over. Of two that are as good the later counts: it has more training
        behind it.
        """
        if evaluation.reached < self._reached:
            return
        file = published(self._setup.config, self._learner, self._policy)
        said = {_REACHED: repr(evaluation.reached), _DUE_AT: str(evaluation.env_steps)}
        try:
            save_policy(self._path, replace(file, trained={**file.trained, **said}))
        except OSError as error:
            logger.warning("the best policy so far could not be written: %s", error)
            return
        self._reached = evaluation.reached

    def _read(self) -> float:
        """What the file's policy has reached; minus infinity if there is none."""
        if not self._path.exists():
            return float("-inf")
        try:
            return float(load_policy(self._path).trained[_REACHED])
        except (PolicyFileError, KeyError, ValueError) as error:
            logger.warning(
                "%s says nothing of its evaluation, so the next replaces it: %s",
                self._path.name,
                error,
            )
            return float("-inf")
