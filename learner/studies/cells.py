"""One training of the protocol, and how far it is by what lies on disk.

    results/mast/relay/rigl/seed-1/       a cell: method and seed
        lock                              held while somebody works on it
        output.txt                        what its commands have printed
        runs/<id>/                        of runtime.launch
        evaluation-scripted.json          of runtime.evaluate, one for each opponent

Nothing is remembered besides: a cell that was interrupted, or whose folder was copied elsewhere,
says itself what is missing.
"""

import dataclasses
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from agents.policy import write_atomically
from configs.bounded import parse_json, read_text
from configs.load import ConfigError, read_resolved
from configs.run_files import METRICS
from configs.schema import EnvName, RunConfig
from learner.checkpoint_file import CheckpointError, read_progress
from learner.studies.headline import opponents_of
from learner.studies.methods import Method
from runtime.launch import CHECKPOINT
from runtime.record.json_lines import last_record, lives, read_records
from runtime.record.run_folder import take_lock

_POLICY = "policy.safetensors"
_OF_RUN = "evaluated_run"
"""Key in an evaluation: the name of the run's folder."""


class State(Enum):
    MISSING = "missing"
    HALF_DONE = "half done"
    TRAINED = "trained"
    """Evaluations are missing."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a cell is."""

    state: State
    run: Path | None
    """Its folder, once there is a checkpoint to go on from."""
    env_steps: int
    """Of the checkpoint."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A method with one seed."""

    method: Method
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.method.name}, seed {self.seed}"

    def standing(self, task: EnvName, steps: int, episodes: int) -> Standing:
        """Look at the disk.

        Args:
            steps: of the whole run.
            episodes: of an evaluation; one of fewer does not count.
        """
        run = self._run()
        if run is None:
            return Standing(State.MISSING, None, 0)
        env_steps = read_progress(run / CHECKPOINT).env_steps
        # Some of the last episodes may not count in the checkpoint: they were cut off. And a run
        # that was interrupted after its last step lacks the updates that were owed by then.
        if env_steps < steps and self.summary().get("exit_reason") != "finished":
            return Standing(State.HALF_DONE, run, env_steps)
        met = [self.evaluation(opponent) for opponent in opponents_of(task)]
        missing = any(figures.get("evaluation_episodes", 0) < episodes for figures in met)
        return Standing(State.TRAINED if missing else State.DONE, run, env_steps)

    def policy(self) -> Path:
        """The file of a cell that has been trained."""
        run = self._run()
        assert run is not None
        return run / _POLICY

    def summary(self) -> dict[str, Any]:
        """Of the run; empty if there is none."""
        run = self._run()
        return {} if run is None else _json(run / "summary.json")

    def evaluation(self, opponent: str) -> dict[str, Any]:
        """What runtime.evaluate has printed; empty if it has not, or of an earlier run here."""
        figures, run = _json(self.evaluation_path(opponent)), self._run()
        is_ours = run is None or figures.get(_OF_RUN, run.name) == run.name
        return figures if is_ours else {}

    def keep_evaluation(self, opponent: str, printed: bytes) -> None:
        """Store what runtime.evaluate has printed of the run's policy."""
        run = self._run()
        assert run is not None
        figures = {_OF_RUN: run.name, **json.loads(printed)}
        content = json.dumps(figures, indent=2).encode()
        write_atomically(self.evaluation_path(opponent), content)

    @property
    def output(self) -> Path:
        """File of what its commands have printed."""
        return self.folder / "output.txt"

    def last_line(self) -> str:
        """Of that file."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        return " ".join(lines[-1:])

    def evaluation_path(self, opponent: str) -> Path:
        return self.folder / f"evaluation{'-' if opponent else ''}{opponent}.json"

    def seconds(self) -> float | None:
        """That the run has taken, in all its sittings."""
        run = self._run()
        path = None if run is None else run / METRICS
        if path is None or not path.exists():
            return None
        # Every sitting counts from 0.
        return sum(float(life[-1]["t_s"]) for life in lives(read_records(path)))

    def progress(self) -> int:
        """Environment steps by the newest line of the log, while it is being trained."""
        newest = sorted(self.folder.glob(f"runs/*/{METRICS}"))[-1:]
        return max(
            (int((last_record(path) or {}).get("env_steps", 0)) for path in newest), default=0
        )

    def require(self, wanted: RunConfig) -> None:
        """Check that what has been begun is what is wanted now.

        Raises:
            ConfigError: other steps, agents or settings, or nothing says which.
        """
        run = self._run()
        if run is None:
            return
        begun = _what_counts(read_resolved(run)[0])
        for section, value in _what_counts(wanted).items():
            if begun[section] != value:
                raise ConfigError(
                    f"{run} was begun with other {section} ({begun[section]}, now {value}): ask "
                    "for the same again, or give another --out"
                )

    @contextmanager
    def locked(self) -> Generator[int | None]:
        """Have the cell to oneself, as long as this process or who inherits the descriptor lives.

        Yields:
            a descriptor to be inherited; None: somebody else has it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = take_lock(self.folder / "lock")
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _run(self) -> Path | None:
        """The newest that can be continued: one that died within its first second cannot."""
        for path in sorted(self.folder.glob(f"runs/*/{CHECKPOINT}"), reverse=True):
            try:
                read_progress(path)
            except CheckpointError:
                continue
            return path.parent
        return None


def _what_counts(config: RunConfig) -> dict[str, Any]:
    """What a result depends on, by section. Device, threads and resumes do not count."""
    sections: dict[str, Any] = dataclasses.asdict(config)
    for place in ("runtime", "resume", "life"):
        del sections[place]
    for place in ("device", "threads", "ranks", "precision", "prefetch", "checkpoint_period_s"):
        del sections["learner"][place]
    return sections


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged ({error}): remove it, and it will be made again"
        ) from error
