"""Runs from Python: start one, watch it, read what it leaves.

    Experiment(env="relay", agents=6) ── child process: python -m runtime.launch ──▶ run folder
           │                                                                            │
           └── progress, evaluations, summary, episodes, metrics ◀──────────────────────┘

The run has a process of its own, so signals, the forkserver and the caller's threads do not get in
each other's way; it ends when this process does.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from agents.policy import save_policy
from configs.load import dump_run_config, load_run_config
from configs.run_files import BEST_POLICY, EPISODES, METRICS, POLICY
from configs.schema import RunConfig
from envs import registry
from runtime.acting import Policy, load_policy
from runtime.net.errors import RuntimeFault
from runtime.record.json_lines import Record, current_lives, read_records

_LOOK_S = 0.1
_STOP_S = 60.0
"""Seconds that a run gets to end in good order."""


class ExperimentError(RuntimeFault):
    """A run or an evaluation did not start, or did not end well; says why in a line."""


class EvaluationPoint(NamedTuple):
    """A whole evaluation during a run."""

    env_steps: int
    """Training steps when it fell due."""
    return_mean: float
    win_rate: float | None
    """None where nobody can win."""


class Table(Mapping[str, NDArray[Any]]):
    """Columns of equal length by name. A number that a row lacks is nan, a text None."""

    def __init__(self, records: Sequence[Record]) -> None:
        names = dict.fromkeys(name for record in records for name in record)
        self._columns = {name: _column([record.get(name) for record in records]) for name in names}
        self.num_rows = len(records)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Number of columns."""
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Table of {self.num_rows} rows: {', '.join(self._columns)}"

    def to_pandas(self) -> Any:
        """A pandas.DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        import importlib

        pandas: Any = importlib.import_module("pandas")
        return pandas.DataFrame(self._columns)


def _column(values: list[Any]) -> NDArray[Any]:
    if all(isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.bool_)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.int64)
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.array(values, dtype=object)


class Experiment:
    """A training run that goes on beside this program.

    Options are those of `python -m runtime.launch`: as its words, as keywords, or as a RunConfig.

        Experiment("--env", "relay", "--agents", "6")
        Experiment(env="relay", agents=6, learner={"batch_size": 16})

    Iterating gives the rows of metrics.jsonl, as they come, until the run has ended.
    """

    def __init__(self, *arguments: str | RunConfig, **options: Any) -> None:
        """Start a run.

        Raises:
            ConfigError: an option that does not exist, or a value out of its range.
            ExperimentError: the run did not start, for example because a package is missing.
        """
        words: list[str] = []
        self._scratch = Path(tempfile.mkdtemp(prefix="experiment-"))
        weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        for argument in arguments:
            words += [argument] if isinstance(argument, str) else self._file_of(argument)
        self.arguments: tuple[str, ...] = (*words, *words_of(options))
        self.config: RunConfig = load_run_config(self.arguments, population=registry.population_of)
        """All options, resolved."""
        self._child = _Child(_LAUNCH, self.arguments, self._scratch)
        self.folder: Path = self._child.folder()
        """The run's folder."""

    def _file_of(self, config: RunConfig) -> list[str]:
        path = self._scratch / "config.yaml"
        path.write_text(dump_run_config(config), encoding="utf-8")
        return ["--env", config.env.name, "--config", str(path)]

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the run if it has not ended."""
        del kind, error, trace
        self.stop()

    # --- while it runs ----------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    @property
    def output(self) -> str:
        """What the run has printed."""
        return self._child.output

    def __iter__(self) -> Iterator[Record]:
        """Rows of metrics.jsonl from the beginning, about one a second, until the run has ended."""
        path, told = self.folder / METRICS, 0
        while True:
            is_last = not self.is_running
            rows = read_records(path)
            yield from rows[told:]
            told = max(told, len(rows))
            if is_last:
                return
            self._child.wait(_LOOK_S)

    def evaluations(self) -> Iterator[EvaluationPoint]:
        """Whole evaluations as they come, until the run has ended."""
        last: int | None = None
        for row in self:
            at = row.get("eval/env_steps")
            if at is not None and at != last:
                last = at
                yield EvaluationPoint(int(at), row["eval/return_mean"], row.get("eval/win_rate"))

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait for the end; the run's summary.

        Raises:
            TimeoutError: the run goes on.
            ExperimentError: it failed.
        """
        if not self._child.wait(timeout_s):
            raise TimeoutError(f"the run in {self.folder} has not ended after {timeout_s} s")
        if self._child.code not in (0, 130):
            raise ExperimentError(self._child.last_words())
        return self.summary

    def stop(self) -> None:
        """End the run in good order, as Ctrl-C does; nothing happens if it has ended."""
        self._child.stop()

    # --- what it leaves ---------------------------------------------------------------------------

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json; empty while the run goes on."""
        path = self.folder / "summary.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def episodes(self) -> Table:
        """Every finished episode, training and evaluation."""
        return _table(self.folder / EPISODES)

    @property
    def metrics(self) -> Table:
        """The run's metrics over time."""
        return _table(self.folder / METRICS)

    @property
    def policy(self) -> Policy:
        """The newest policy that is on disk.

        Raises:
            PolicyFileError: there is none yet.
        """
        return load_policy(self.folder / POLICY)

    @property
    def best_policy(self) -> Policy:
        """The policy of the best evaluation so far (docs/fields.md says which version).

        Raises:
            PolicyFileError: there is none yet.
        """
        return load_policy(self.folder / BEST_POLICY)


class Figures(Mapping[str, Any]):
    """What an evaluation has found, by name as `python -m runtime.evaluate --json` prints it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Figures({self._values})"

    @property
    def episodes(self) -> int:
        return int(self["evaluation_episodes"])

    @property
    def return_mean(self) -> float:
        """Mean over episodes of the undiscounted sum of mean rewards."""
        return float(self["return_mean"])

    @property
    def return_error(self) -> float | None:
        """Standard error of that mean; None for a single episode."""
        return self["return_error"]

    @property
    def win_rate(self) -> float | None:
        """None where nobody can win."""
        return self["win_rate"]

    @property
    def out_degree(self) -> float | None:
        """Edges that a living agent used in a step."""
        return self["out_degree_mean"]


def evaluate_policy(policy: str | Path | Policy | Experiment, **options: Any) -> Figures:
    """Play a policy with real processes and return the figures.

    Args:
        policy: a file, `shipped`, `untrained`, a loaded policy, or an experiment's newest.
        options: of `python -m runtime.evaluate`, such as env, agents, episodes, seed, simulate.

    Raises:
        ExperimentError: the evaluation did not start, or did not end well.
    """
    with tempfile.TemporaryDirectory(prefix="evaluation-") as scratch:
        if isinstance(policy, Experiment):
            policy = policy.folder / POLICY
        elif isinstance(policy, Policy):
            path = Path(scratch) / POLICY
            save_policy(path, policy.file)
            policy = path
        arguments = ["--policy", str(policy), *words_of(options), "--json"]
        child = _Child(_EVALUATE, arguments, Path(scratch))
        try:
            child.wait(None)
        finally:
            child.stop()
        if child.code != 0:
            raise ExperimentError(child.last_words())
        return Figures(json.loads(child.printed.strip().splitlines()[-1]))


def words_of(options: Mapping[str, Any], within: str = "") -> list[str]:
    """Options as the words of a command line.

        {"env_copies": 2, "learner": {"batch_size": 16}} -> --env-copies 2 --learner.batch-size 16

    A truth value is a flag: True gives `--serial`, False `--no-serial`.
    """
    words: list[str] = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, Mapping):
            words += words_of(cast("Mapping[str, Any]", value), f"{within}{name}.")
        elif isinstance(value, bool):
            words.append(f"--{within}{name}" if value else f"--{within}no-{name}")
        elif isinstance(value, list | tuple):
            words += [f"--{within}{name}", *(str(one) for one in cast("Sequence[Any]", value))]
        else:
            words += [f"--{within}{name}", str(value)]
    return words


def _table(path: Path) -> Table:
    """The records of all lives of a run, each step once."""
    return Table([record for life in current_lives(read_records(path)) for record in life])


# --- the child process ----------------------------------------------------------------------------

_LAUNCH, _EVALUATE = "launch", "evaluate"


class _Child:
    """A command in a process of its own, which ends when we do."""

    def __init__(self, command: str, arguments: Sequence[str], scratch: Path) -> None:
        life, self._life = os.pipe()
        self._folder, folder = os.pipe()
        self._printed, self._complained = scratch / "stdout", scratch / "stderr"
        program = "from runtime.experiment import child; child()"
        here = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))
        words = [sys.executable, "-P", "-c", program, command, str(life), str(folder), *arguments]
        with self._printed.open("wb") as printed, self._complained.open("wb") as complained:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=complained,
                # Ctrl-C in a terminal is for this program, which then decides about the run.
                start_new_session=True,
                pass_fds=(life, folder),
                env={**os.environ, "PYTHONPATH": here},
            )
        os.close(life)
        os.close(folder)

    def folder(self) -> Path:
        """The run's folder, once it has one.

        Raises:
            ExperimentError: the command has refused to start.
        """
        with os.fdopen(self._folder, "rb") as pipe:
            text = pipe.read()
        if not text:
            self.wait(None)
            raise ExperimentError(self.last_words())
        return Path(os.fsdecode(text))

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout_s: float | None) -> bool:
        """Whether it has ended, after at most so long."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        if self.is_running:
            self._process.send_signal(signal.SIGINT)
            if not self.wait(_STOP_S):
                self._process.kill()
                self.wait(None)
        if self._life >= 0:
            os.close(self._life)
            self._life = -1

    def __del__(self) -> None:
        if self.__dict__.get("_life", -1) >= 0:
            os.close(self._life)  # nobody can reach it any more: it ends
            self._life = -1

    @property
    def printed(self) -> str:
        return self._printed.read_text(encoding="utf-8", errors="replace")

    @property
    def output(self) -> str:
        return self.printed + self._complaints

    @property
    def _complaints(self) -> str:
        return self._complained.read_text(encoding="utf-8", errors="replace")

    def last_words(self) -> str:
        """The line that says why it ended."""
        lines = [line for line in self._complaints.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("error: ")] or lines
        if not said:
            return f"it ended with exit code {self.code}"
        return said[-1].removeprefix("error: ")


def child() -> None:
    """Entry point of the child process: the command, and an eye on the one that has started it."""
    from runtime.terminal.command import guard, run_command

    guard()
    command, life, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    arguments = sys.argv[4:]
    for descriptor in (life, folder):
        os.set_inheritable(descriptor, False)

    def end_with_parent() -> None:
        os.read(life, 1)  # nothing is ever written: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()

    def begun(path: Path) -> None:
        os.write(folder, os.fsencode(path.resolve()))
        os.close(folder)

    if command == _LAUNCH:
        from runtime import launch

        run_command(lambda: launch.main(arguments, begun=begun))
    from runtime import evaluate

    os.close(folder)
    run_command(lambda: evaluate.main(arguments))
