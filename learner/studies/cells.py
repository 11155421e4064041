"""One training of a study, and how far it is by what lies on disk.

    results/studies/cells/relay-8-sops-1f3a9c20/seed-1/     a cell: options and seed
        lock                              held while somebody works on it
        output.txt                        what its commands have printed
        failure.txt                       the line with which the last attempt ended, if it failed
        runs/<id>/                        of runtime.launch
        memory.json                       of the training, where it was looked at
        evaluation-at-64-idqn.json        of runtime.evaluate, one for each size and opponent

Nothing is remembered besides: a cell that was interrupted, or whose folder was copied elsewhere,
says itself what is missing. The folder's name says what the options come to, and not which study
asked for them, so studies share cells.
"""

import hashlib
import json
import os
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from agents.policy import write_atomically
from configs.bounded import parse_json, read_text
from configs.effects import effective, values
from configs.load import ConfigError, read_resolved
from configs.run_files import BEST_POLICY, METRICS, POLICY, SUMMARY
from configs.schema import RunConfig
from learner.checkpoint_file import CheckpointError, read_progress
from runtime.launch import CHECKPOINT
from runtime.record.json_lines import last_record, lives, read_records
from runtime.record.run_folder import take_lock

_OF_RUN = "evaluated_run"
"""Key in an evaluation: the name of the run's folder."""
_SIMULATED = "simulated"
_MEMORY = "memory.json"
_WITHOUT_SAY = (
    *("runtime.", "resume", "life", "learner.device", "learner.threads", "learner.ranks"),
    *("learner.precision", "learner.prefetch", "learner.checkpoint_period_s"),
)
"""Options on which no result depends: where and how it is computed."""


class State(Enum):
    MISSING = "missing"
    HALF_DONE = "half done"
    TRAINED = "trained"
    """Evaluations are missing."""
    DONE = "done"


class Evaluation(NamedTuple):
    """A final evaluation of a policy."""

    agents: int | None = None
    """None: as many as it was trained with."""
    opponent: str = ""
    best: bool = False
    """Of the policy that did best in a test during training, not of the last one."""

    @property
    def key(self) -> str:
        """Within names of files."""
        size = f"-at-{self.agents}" if self.agents else ""
        best = "-best" if self.best else ""
        return f"{size}{best}-{self.opponent}" if self.opponent else f"{size}{best}"


class Wanted(NamedTuple):
    """What a cell is to come to."""

    steps: int
    evaluations: tuple[Evaluation, ...]
    episodes: int = 100
    """Of each evaluation; one of fewer does not count."""
    simulate: bool = False
    """An evaluation in one process will do."""


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
    """Options with one seed."""

    folder: Path

    @property
    def seed(self) -> int:
        return int(self.folder.name.removeprefix("seed-"))

    def standing(self, wanted: Wanted) -> Standing:
        """Look at the disk."""
        run = self.run()
        if run is None:
            return Standing(State.MISSING, None, 0)
        env_steps = read_progress(run / CHECKPOINT).env_steps
        # Some of the last episodes may not count in the checkpoint: they were cut off. And a run
        # that was interrupted after its last step lacks the updates that were owed by then.
        if env_steps < wanted.steps and self.summary().get("exit_reason") != "finished":
            return Standing(State.HALF_DONE, run, env_steps)
        missing = any(self.lacks(each, wanted) for each in wanted.evaluations)
        return Standing(State.TRAINED if missing else State.DONE, run, env_steps)

    def lacks(self, evaluation: Evaluation, wanted: Wanted) -> bool:
        """Whether an evaluation is missing, or was of too few episodes."""
        figures = self.evaluation(evaluation)
        if figures.get(_SIMULATED) and not wanted.simulate:
            return True
        return figures.get("evaluation_episodes", 0) < wanted.episodes

    def policy(self, *, best: bool = False) -> Path:
        """The file of a cell that has been trained: the last one, or the best."""
        run = self.run()
        assert run is not None
        return run / (BEST_POLICY if best else POLICY)

    def summary(self) -> dict[str, Any]:
        """Of the run; empty if there is none."""
        run = self.run()
        return {} if run is None else _json(run / SUMMARY)

    def evaluation(self, evaluation: Evaluation) -> dict[str, Any]:
        """What runtime.evaluate has printed; empty if it has not, or of an earlier run here."""
        figures, run = _json(self.evaluation_path(evaluation)), self.run()
        is_ours = run is None or figures.get(_OF_RUN, run.name) == run.name
        return figures if is_ours else {}

    def keep_evaluation(self, evaluation: Evaluation, printed: bytes, *, simulated: bool) -> None:
        """Store what runtime.evaluate has printed of the run's policy."""
        run = self.run()
        assert run is not None
        figures = {_OF_RUN: run.name, _SIMULATED: simulated, **json.loads(printed)}
        content = json.dumps(figures, indent=2).encode()
        write_atomically(self.evaluation_path(evaluation), content)

    def evaluation_path(self, evaluation: Evaluation) -> Path:
        key = evaluation.key
        return self.folder / f"evaluation{'-' * bool(key and key[0] != '-')}{key}.json"

    def memory(self) -> dict[str, float]:
        """Largest figures of MemoryWatch over all sittings; empty if nobody looked."""
        return _json(self.folder / _MEMORY)

    def keep_memory(self, figures: Mapping[str, float]) -> None:
        """Store those of a sitting."""
        before = self.memory()
        largest = {name: max(size, before.get(name, size)) for name, size in figures.items()}
        write_atomically(self.folder / _MEMORY, json.dumps(largest, indent=2).encode())

    @property
    def output(self) -> Path:
        """File of what its commands have printed."""
        return self.folder / "output.txt"

    def last_line(self) -> str:
        """Of that file."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        return " ".join(lines[-1:]).removeprefix("error: ")

    @property
    def failure(self) -> str:
        """Why the last attempt ended; empty if it did not fail."""
        with suppress(FileNotFoundError):
            return (self.folder / "failure.txt").read_text(encoding="utf-8").strip()
        return ""

    def keep_failure(self, why: str) -> None:
        """Say why an attempt failed; an empty line says that it did not."""
        path = self.folder / "failure.txt"
        if why:
            write_atomically(path, f"{why}\n".encode())
        else:
            path.unlink(missing_ok=True)

    def seconds(self) -> float | None:
        """That the run has taken, in all its sittings."""
        run = self.run()
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
        run = self.run()
        if run is None:
            return
        begun = dict(what_counts(read_resolved(run)[0]))
        for name, value in what_counts(wanted):
            if begun[name] != value:
                raise ConfigError(
                    f"{run} was begun with other {name} ({begun[name]}, now {value}): ask for the "
                    "same again, or give another --out"
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

    def run(self) -> Path | None:
        """The newest that can be continued: one that died within its first second cannot."""
        for path in sorted(self.folder.glob(f"runs/*/{CHECKPOINT}"), reverse=True):
            try:
                read_progress(path)
            except CheckpointError:
                continue
            return path.parent
        return None


def what_counts(config: RunConfig) -> Iterable[tuple[str, Any]]:
    """Options on which a result depends, by name."""
    for name, value in values(config):
        if not any(
            name.startswith(each) if each[-1] == "." else name == each for each in _WITHOUT_SAY
        ):
            yield name, value


def folder_name(config: RunConfig) -> str:
    """environment-agents-scheme-digest, the same for all configurations that give the same result.

    The digest is of what differs from the schema, seed aside: an option that is new, and has its
    default, leaves the names of older cells alone.
    """
    usual: Mapping[str, Any] = dict(what_counts(RunConfig()))
    counting = what_counts(replace(effective(config), seed=RunConfig().seed))
    differs = sorted((name, value) for name, value in counting if value != usual[name])
    digest = hashlib.sha256(json.dumps(differs).encode()).hexdigest()[:8]
    stem = f"{config.env.name}-{config.num_agents}-{config.comm}"
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', stem)}-{digest}"


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged ({error}): remove it, and it will be made again"
        ) from error
