"""Whose graphs are looked at: policies of a study's cells, or files that exist already.

Finished: cells with the sizes of their transfer, option `policies` -> Subject
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dacite

from agents.policy import PolicyFile
from configs.errors import UserError
from configs.schema import RunConfig
from runtime.evaluate import EvaluateOptions, resolve

if TYPE_CHECKING:
    from learner.studies.analysis import Finished


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A policy and the populations it is looked at in."""

    task: str
    """Scenario it was trained on."""
    arm: str
    policy: str
    """File, or `shipped`."""
    env: str
    agents: int
    """As it was trained."""
    sizes: tuple[int, ...] = ()
    """Other populations it plays in."""
    seed: int = 0
    """Of its training."""
    env_options: str = ""
    opponent: str = ""
    """Empty takes the environment's usual one."""

    def resolve(self, agents: int, episodes: int) -> tuple[RunConfig, PolicyFile]:
        """Configuration of greedy episodes, and the policy that plays them.

        Raises:
            UserError, ValueError: the policy cannot be read, or not play there.
        """
        options = EvaluateOptions(
            policy=self.policy,
            env=self.env,
            env_options=self.env_options,
            agents=agents,
            episodes=episodes,
            opponent=self.opponent,
            simulate=True,
        )
        return resolve(options)


def subjects_of(study: "Finished") -> list[Subject]:
    """Of the cells that are done, and those that the option `policies` names.

    Raises:
        UserError: an entry of `policies` is not understood, or there is nobody.
    """
    found = [
        Subject(
            task=cell.task,
            arm=cell.arm,
            policy=f"{cell.policy}",
            env=cell.env,
            agents=cell.agents,
            sizes=cell.transfer,
            seed=cell.seed,
            env_options=cell.config.env.options,
            opponent=str(study.options.get("opponent", "")),
        )
        for cell in study.cells
    ]
    for entry in study.options.get("policies", ()):
        found.append(_subject(entry))
    if not found:
        raise UserError(f"{study.name}: no policy to look at: train one, or name policies")
    return found


def _subject(entry: Mapping[str, Any]) -> Subject:
    try:
        subject = dacite.from_dict(Subject, dict(entry), dacite.Config(strict=True, cast=[tuple]))
    except dacite.DaciteError as error:
        raise UserError(f"policies: {error}") from error
    if subject.policy != "shipped" and not Path(subject.policy).is_file():
        raise UserError(f"policies: there is no file {subject.policy}")
    return subject
