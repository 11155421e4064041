"""MAST's table 1 on our tasks: train what is missing, evaluate it, write tables and pictures.

    python -m runtime.protocol --task relay --out results/mast
    python -m runtime.protocol --task battle --methods dense rigl mast --seeds 0 1 2 --minutes 30
    python -m runtime.protocol --task relay --methods dense mast --ablations --steps 5000 --out ...

    methods × seeds -> cells -> runtime.launch -> runtime.evaluate -> table.csv, table.md, pictures

One cell after the other, each command as a process of its own. Ctrl-C, SIGTERM and the end of the
minutes let that process write its checkpoint; the next call goes on from there. Several calls at
once share the work: a cell that somebody has is passed over. `--list` only says how far all is.
Tables and pictures are of all that is complete in the folder, whoever has asked for it.
"""

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from configs.load import ConfigError, exit_with_error, load_run_config, parse_command_line
from configs.schema import EnvName, RunConfig
from runtime.cells import OPPONENTS, Cell, State
from runtime.methods import METHODS, Method, ablations, resolve
from runtime.protocol_plot import draw_curves, draw_sizes
from runtime.protocol_table import markdown, reached_of, rows_of, write_csv

_LEAVE_S = 90.0
"""Seconds that a child has for its checkpoint before it is killed."""
_LOOK_S = 0.5
_SAY_S = 60.0
"""Seconds between lines about a training."""
_NOTHING_STARTED = 2
"""Exit code of our commands for what would go wrong again in every other cell."""
_INTERRUPTED = 130
_OURS = ("seed", "steps", "env", "env.name", "config", "resume", "policy")
"""Options of runtime.launch that differ by cell, or are options of ours."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolOptions:
    """Work off the comparison of sparse methods, or go on with it."""

    task: EnvName
    """battle (20 agents) or relay (16)."""

    methods: tuple[str, ...] = METHODS
    """Rows of the table; NAME@SPARSITY trains one at another sparsity than the presets' 0.9."""

    ablations: bool = False
    """Tables 6 to 10 of the paper as well; a few thousand steps and one seed are a smoke test."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings."""

    steps: int = 0
    """Environment steps of a training; 0 takes the presets'."""

    episodes: int = 100
    """Greedy episodes of each evaluation, the same ones for all."""

    out: Path = Path("results/mast")
    """Folder of runs and results; a folder for each task within."""

    minutes: float = 0.0
    """Stop cleanly after so many minutes; 0 works everything off."""

    options: tuple[str, ...] = ()
    """Further options of runtime.launch for all trainings, a value each: device=cpu env-copies=8.
    Sizes of tiny stay those of its preset, whatever is said of sparsity."""

    list: bool = False
    """Say what is done, half done and missing, and begin nothing."""

    def __post_init__(self) -> None:
        if not self.seeds or not self.methods:
            raise ValueError("methods and seeds: name at least one")
        if min(self.seeds) < 0:
            raise ValueError(f"seeds must not be negative, got {min(self.seeds)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: each once, got {' '.join(map(str, self.seeds))}")
        if self.steps < 0 or self.minutes < 0.0:
            raise ValueError("steps and minutes must not be negative")
        if self.episodes < 1:
            raise ValueError(f"episodes must be at least 1, got {self.episodes}")
        if wrong := [word for word in self.options if "=" not in word.lstrip("=")]:
            raise ValueError(f"options: {', '.join(wrong)} is not of the form name=value")
        names = [word.partition("=")[0] for word in self.options]
        if own := [name for name in names if name in _OURS]:
            raise ValueError(f"options: {', '.join(own)} is what the protocol itself decides")

    @property
    def flags(self) -> tuple[str, ...]:
        """`options` as a command line has them."""
        pairs = (word.partition("=") for word in self.options)
        return tuple(flag for name, _, value in pairs for flag in (f"--{name}", value))

    @property
    def folder(self) -> Path:
        return self.out / self.task


class Job(NamedTuple):
    """A cell and what it is to become."""

    cell: Cell
    arguments: tuple[str, ...]
    """Of runtime.launch, for a beginning."""
    config: RunConfig


def plan(options: ProtocolOptions) -> list[Job]:
    """All cells, a seed of every method before the next seed, so that early results compare.

    Raises:
        ConfigError: an unknown method, options that runtime.launch would refuse, or a cell that was
            begun with others.
    """
    methods = [resolve(options.task, name, options.steps) for name in options.methods]
    if options.ablations:
        methods += ablations(options.task, options.steps)
    # MAST is a row of table 1 and of every ablation.
    by_name = {method.name: method for method in methods}
    jobs = [job for method in by_name.values() for job in _jobs(options, method, options.seeds)]
    for job in jobs:
        job.cell.require(job.config)
    return sorted(jobs, key=lambda job: options.seeds.index(job.cell.seed))


def _jobs(options: ProtocolOptions, method: Method, seeds: Iterable[int]) -> list[Job]:
    arguments = (*method.options, *options.flags)
    config = load_run_config(arguments)
    return [
        Job(
            Cell(method, seed, options.folder / method.name / f"seed-{seed}"),
            (*arguments, "--seed", f"{seed}"),
            replace(config, seed=seed),
        )
        for seed in seeds
    ]


class Stop:
    """Ctrl-C, SIGTERM or the end of the time, whichever comes first."""

    def __init__(self, minutes: float) -> None:
        self.signals = 0
        self._until_s = time.monotonic() + 60.0 * minutes if minutes else math.inf

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count)

    def _count(self, *_: object) -> None:
        self.signals += 1

    @property
    def is_due(self) -> bool:
        return self.signals > 0 or time.monotonic() >= self._until_s


class Worker:
    """Brings cells to their end, as far as it is allowed to."""

    def __init__(self, options: ProtocolOptions, stop: Stop) -> None:
        self._options = options
        self._stop = stop
        self._say_which = ""
        """The cell, for messages."""
        self.failures = 0

    def work_off(self, jobs: Sequence[Job]) -> None:
        """Train and evaluate whatever is missing.

        Raises:
            ConfigError: a training could not begin, and would not in the other cells either; or
                another call has meanwhile begun a cell with other settings.
        """
        for number, job in enumerate(jobs, 1):
            if self._stop.is_due:
                return
            with job.cell.locked() as lock:
                if lock is None:
                    _say(f"{job.cell.name}: somebody else is at it")
                    continue
                job.cell.require(job.config)  # somebody may have had it since it was planned
                self._say_which = f"[{number}/{len(jobs)}] {self._options.task}, {job.cell.name}"
                if self._train(job, lock):
                    self._evaluate(job, lock)

    def _train(self, job: Job, lock: int) -> bool:
        """Whether the training is complete."""
        cell, steps = job.cell, job.config.steps
        standing = cell.standing(self._options.task, steps, self._options.episodes)
        if standing.state in (State.TRAINED, State.DONE):
            return True
        if standing.run is None:
            runs = ("--runtime.runs-dir", f"{cell.folder / 'runs'}")
            arguments = (*job.arguments, *runs, "--metrics-port", "0")
            _say(f"{self._say_which}: begins, {steps} steps")
        else:
            # The devices of this call; all else is in the run's folder.
            own = (*self._options.flags, "--steps", f"{steps}")
            arguments = ("--resume", f"{standing.run}", *own)
            _say(f"{self._say_which}: goes on after {standing.env_steps} of {steps} steps")
        code = self._run_child(cell, "runtime.launch", arguments, lock, steps)
        if standing.run is None and code == _NOTHING_STARTED and not self._stop.is_due:
            raise ConfigError(cell.last_line().removeprefix("error: "))
        return self._has_gone_well(code, cell, "training")

    def _evaluate(self, job: Job, lock: int) -> None:
        cell, options = job.cell, self._options
        for opponent in OPPONENTS[options.task]:
            if cell.evaluation(opponent).get("evaluation_episodes", 0) >= options.episodes:
                continue
            if self._stop.is_due:
                return
            arguments = ("--policy", f"{cell.policy()}", "--env", options.task, "--json")
            arguments += ("--agents", f"{job.config.num_agents}")
            arguments += ("--episodes", f"{options.episodes}")
            if opponent:
                arguments += ("--opponent", opponent)
            scratch = cell.evaluation_path(opponent).with_suffix(".tmp")
            code = self._run_child(cell, "runtime.evaluate", arguments, lock, 0, scratch)
            if self._has_gone_well(code, cell, "evaluation"):
                cell.keep_evaluation(opponent, scratch.read_bytes())
                scratch.unlink()
                reached = reached_of(cell.evaluation(opponent), options.task)
                _say(f"{self._say_which}: {reached:.3f}{f' against {opponent}' * bool(opponent)}")

    def _has_gone_well(self, code: int, cell: Cell, what: str) -> bool:
        if code != 0 and not self._stop.is_due:
            self.failures += 1
            _say(f"{self._say_which}: {what} failed with exit code {code}: {cell.last_line()}")
            _say(f"see {cell.output}")
        return code == 0

    def _run_child(
        self,
        cell: Cell,
        module: str,
        arguments: Sequence[str],
        lock: int,
        steps: int,
        figures: Path | None = None,
    ) -> int:
        """Run one of our commands to its end, or until it is time to stop; its exit code.

        Args:
            lock: to be inherited: the cell is taken until the child is gone, too.
            steps: of the training that is reported on; 0 reports nothing.
            figures: file for what it prints; by default its output goes to output.txt.
        """
        with (
            cell.output.open("ab") as output,
            figures.open("wb") if figures else nullcontext(output) as printed,
        ):
            child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=output,
                pass_fds=(lock,),
                # A terminal's Ctrl-C is for us alone, who pass it on once.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
            say_s = time.monotonic() + _SAY_S
            while child.poll() is None and not self._stop.is_due:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_LOOK_S)
                if steps and time.monotonic() >= say_s:
                    say_s += _SAY_S
                    _say(f"{self._say_which}: {cell.progress()} of {steps} steps")
            return self.leave(child)

    def leave(self, child: "subprocess.Popen[bytes]") -> int:
        """Have it end if it has not; a second Ctrl-C does not wait for its checkpoint."""
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            until_s, signals = time.monotonic() + _LEAVE_S, self._stop.signals
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_LOOK_S)
                is_late = time.monotonic() >= until_s
                # Asked once more: a child that has just been waited for has no number any longer.
                if child.poll() is None and (is_late or self._stop.signals > max(signals, 1)):
                    os.killpg(child.pid, signal.SIGKILL)
        return child.wait()


def _end_with_parent() -> None:
    """Between fork and exec: should this process be killed, its child gets a Ctrl-C."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _say(line: str) -> None:
    print(line, flush=True)


# --- what comes of it -----------------------------------------------------------------------------


def standings(options: ProtocolOptions, jobs: Sequence[Job]) -> list[str]:
    """A line for each cell, and one for all."""
    lines: list[str] = []
    counts = dict.fromkeys(State, 0)
    for job in jobs:
        steps = job.config.steps
        standing = job.cell.standing(options.task, steps, options.episodes)
        counts[standing.state] += 1
        far = f", {standing.env_steps} of {steps} steps" * (standing.state is State.HALF_DONE)
        lines.append(f"{job.cell.name:<32} {standing.state.value}{far}")
    total = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    return [*lines, f"{options.task}: {total}"]


def complete_cells(options: ProtocolOptions) -> list[Cell]:
    """All that lie complete in the folder and have these settings, in the order of the tables."""
    folders: dict[str, list[int]] = {}
    for path in options.folder.glob("*/seed-*"):
        seed = path.name.removeprefix("seed-")
        if seed.isdecimal():
            folders.setdefault(path.parent.name, []).append(int(seed))
    by_name: dict[str, Method] = {}
    for name in folders:
        with suppress(ConfigError):  # a folder of somebody else's
            method = resolve(options.task, name, options.steps)
            if method.name == name:
                by_name[name] = method
    known = [*METHODS, *(method.name for method in ablations(options.task, options.steps))]
    base = {name: name.partition("@")[0] for name in by_name}
    complete: list[Cell] = []
    for name in sorted(by_name, key=lambda name: (known.index(base[name]), name)):
        for job in _jobs(options, by_name[name], sorted(folders[name])):
            try:
                job.cell.require(job.config)
                standing = job.cell.standing(options.task, job.config.steps, options.episodes)
            except ConfigError as error:
                _say(f"not in the table: {error}")
                continue
            if standing.state is State.DONE:
                complete.append(job.cell)
    return complete


def report(options: ProtocolOptions) -> None:
    """Write tables and pictures of whatever is complete."""
    complete = complete_cells(options)
    if not complete:
        _say("nothing is complete yet: no table")
        return
    rows = rows_of(complete, options.task)
    text = markdown(rows, ablations(options.task, options.steps), options.task)
    (options.folder / "table.md").write_text(text, encoding="utf-8")
    write_csv(rows, options.folder / "table.csv")
    draw_sizes(rows, options.task, options.folder / "sizes.png")
    draw_curves(complete, options.task, options.folder / "curves.png")
    _say(text)
    _say(f"in {options.folder}: table.md, table.csv, sizes.png, curves.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 if a command failed, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(ProtocolOptions, argv, prog="python -m runtime.protocol")
        jobs = plan(options)
    except ConfigError as error:
        exit_with_error(error)
    if options.list:
        print("\n".join(standings(options, jobs)))
        return 0
    stop = Stop(options.minutes)
    stop.install()
    worker = Worker(options, stop)
    try:
        worker.work_off(jobs)
    except ConfigError as error:
        exit_with_error(error)
    report(options)
    _say(standings(options, jobs)[-1])
    return _INTERRUPTED if stop.signals else int(worker.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
