"""How long people wait for a policy that is good.

    python -m tests.benchmarks.time_to_result battle-20 --seeds 0 1 2 --out battle-20.json
    python -m tests.benchmarks.time_to_result relay-16 -- --learner.batch-size 16

    runtime.launch --evaluation.stop-at -> metrics.jsonl, summary.json, /proc -> where time went

A real run with the preset as everybody gets it, which ends itself when an evaluation reaches the
threshold. Evaluations are greedy, against the one opponent that is asked for, and of a fixed number
of episodes. The clock starts with the command: imports, start and the evaluations themselves count.
What follows `--` goes to `runtime.launch`.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from agents.policy import write_atomically
from configs.run_files import METRICS, RESOLVED
from runtime.record.json_lines import Record, read_records
from tests.benchmarks.machine import load_average, machine, source
from tests.benchmarks.process_cost import CpuTime, cpu_time
from tests.process.runs import Launched, processes_of

_LOOK_S = 1.0
"""Seconds between two looks at what the processes have used: what they use after the last one is
missing, and a look costs about 10 ms."""

TaskName = Literal["battle-20", "relay-16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be learned, and when it is."""

    options: tuple[str, ...]
    figure: str
    """Of an evaluation, by its name in metrics.jsonl."""
    threshold: float
    minutes: float
    """After which nobody waits any longer."""


TASKS: Mapping[str, Task] = {
    "battle-20": Task(
        options=(
            *("--env", "battle", "--agents", "20", "--steps", "160000"),
            *("--evaluation-opponent", "scripted"),
            *("--evaluation.episodes", "50", "--evaluation.interval-steps", "8000"),
        ),
        figure="eval/win_rate",
        threshold=0.8,
        minutes=30.0,
    ),
    "relay-16": Task(
        options=(
            *("--env", "relay", "--agents", "16", "--steps", "50000"),
            *("--evaluation.episodes", "50", "--evaluation.interval-steps", "1000"),
        ),
        figure="eval/return_mean",
        threshold=0.95,
        minutes=5.0,
    ),
}
"""`steps` of the run decide about schedules that fall until its end, and are those of the docs."""


@dataclass(frozen=True, kw_only=True)
class Options:
    task: Annotated[TaskName, tyro.conf.Positional]

    seeds: tuple[int, ...] = (0, 1, 2)

    threshold: float | None = None
    """None: 0.8 of the battles won, 0.95 of relay's agents right."""

    minutes_limit: float | None = None
    """For each seed; None: 30 for Battle, 5 for relay."""

    out: str = ""
    """JSON file of all results; written after each seed."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation as it came."""

    env_steps: int
    """Training steps when it fell due."""
    at_s: float
    """Seconds from the command until it was complete."""
    figure: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One seed. Seconds are of the clock unless they are called cpu."""

    seed: int
    reached_s: float | None
    """From the command to the end of the evaluation that reached the threshold; None: none did."""
    reached_steps: int | None
    """Training steps when that evaluation fell due."""
    wall_s: float
    """From the command until it returned, the last evaluation included."""
    last_figure: float | None
    """Of the last evaluation, which plays the policy that is kept."""
    env_steps: int
    updates: int
    update_s: float | None
    """Mean."""
    spent_s: Mapping[str, float]
    """The world's time, in parts that add up to `wall_s`."""
    learner_s: Mapping[str, float]
    """The learner's time while training went on."""
    cpu_s: Mapping[str, float]
    """By role, up to the last look."""
    evaluations: tuple[Evaluated, ...]
    exit_reason: str


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all seeds and print the table; 0 if all have reached the threshold, else 1."""
    argv = list(sys.argv[1:] if argv is None else argv)
    at = argv.index("--") if "--" in argv else len(argv)
    program = "python -m tests.benchmarks.time_to_result"
    options = tyro.cli(Options, args=argv[:at], prog=program)
    more, console = tuple(argv[at + 1 :]), Console()
    task = TASKS[options.task]
    threshold = task.threshold if options.threshold is None else options.threshold
    minutes = task.minutes if options.minutes_limit is None else options.minutes_limit
    report: dict[str, Any] = {
        "task": options.task,
        "threshold": threshold,
        "options": [*task.options, *more],
        "machine": machine(),
        "source": source(),
        "load_before": load_average(),
    }
    results: list[Result] = []
    for seed in options.seeds:
        result = measure(task, seed, threshold, minutes, more)
        results.append(result)
        console.print(_line(result, minutes), highlight=False)
        if options.out:
            rows = [asdict(each) for each in results]
            text = json.dumps({**report, "results": rows, "load_after": load_average()}, indent=2)
            write_atomically(Path(options.out), text.encode())
    console.print(table_of(results))
    return int(any(result.reached_s is None for result in results))


def measure(
    task: Task, seed: int, threshold: float, minutes: float, more: Sequence[str] = ()
) -> Result:
    """Train until an evaluation reaches the threshold.

    Raises:
        RuntimeError: the run has failed; with the end of its output.
    """
    words = (*task.options, "--seed", str(seed), "--evaluation.stop-at", str(threshold), *more)
    cpu: dict[str, CpuTime] = {}
    with tempfile.TemporaryDirectory(prefix="result-") as scratch:
        folder = Path(scratch)
        began, began_s = time.time(), time.monotonic()
        with Launched(folder, *words) as run:
            while run.process.poll() is None and time.monotonic() - began_s < 60.0 * minutes:
                cpu |= _used(run.process.pid)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.process.wait(_LOOK_S)
            if run.process.poll() is None:
                run.process.terminate()
                run.process.wait(60.0)
            wall_s = time.monotonic() - began_s
            # SIGTERM ends a run in good order, with the code of an interrupt.
            if run.process.returncode not in (0, 130):
                raise RuntimeError(run.output.read_text()[-1500:])
            summary = run.summary()
        (kept,) = folder.glob(f"runs/*/{RESOLVED}")
        # A row's time begins with the log, which is opened when this file has been written.
        log_opened_s = kept.stat().st_mtime - began
        rows = read_records(kept.parent / METRICS)
    evaluations = _evaluations(rows, task.figure, log_opened_s)
    reached = next((each for each in evaluations if each.figure >= threshold), None)
    stage_s: Mapping[str, float] = summary["stage_s"]
    updates = int(summary["learner_updates"])
    updating_s = updates * float(summary["learner_update_s_mean"] or 0.0)
    return Result(
        seed=seed,
        reached_s=None if reached is None else reached.at_s,
        reached_steps=None if reached is None else reached.env_steps,
        wall_s=wall_s,
        last_figure=evaluations[-1].figure if evaluations else None,
        env_steps=int(summary["env_steps"]),
        updates=updates,
        update_s=summary["learner_update_s_mean"],
        spent_s=_spent(rows, summary, wall_s),
        learner_s={
            "updates": updating_s,
            "rest": max(stage_s["running"] + stage_s["finishing"] - updating_s, 0.0),
        },
        cpu_s={role: used.total_s for role, used in cpu.items()},
        evaluations=tuple(evaluations),
        exit_reason=str(summary["exit_reason"]),
    )


def _used(launcher: int) -> dict[str, CpuTime]:
    """What the processes that live have used since they began, by role."""
    used = {"launcher": cpu_time(launcher)}
    for title, pid in processes_of(launcher).items():
        role = title.split()[0].rstrip(",")
        used[role] = used.get(role, CpuTime()) + cpu_time(pid)
    return {role: spent for role, spent in used.items() if spent.total_s > 0.0}


def _evaluations(rows: Sequence[Record], figure: str, log_opened_s: float) -> list[Evaluated]:
    """Each evaluation by the first row that has it, which is written when it is complete."""
    found: dict[int, Evaluated] = {}
    for row in rows:
        due, reached = row.get("eval/env_steps"), row.get(figure)
        if due is not None and reached is not None and int(due) not in found:
            at_s = round(log_opened_s + row["t_s"], 3)
            found[int(due)] = Evaluated(int(due), at_s, float(reached))
    return list(found.values())


def _spent(rows: Sequence[Record], summary: Mapping[str, Any], wall_s: float) -> dict[str, float]:
    """The wall's time by what the world did with it."""
    stage_s: Mapping[str, float] = summary["stage_s"]
    waiting_s = float(summary["learner_wait_s"] or 0.0)
    playing_s = max(stage_s["running"] - waiting_s, 0.0)
    # Of the steps of that stage: later ones belong to the last evaluation.
    trained = (row for row in rows if row.get("env/steps") == summary["env_steps"])
    nothing: Record = {}
    last = next(trained, nothing)
    played = float(last.get("env/steps_played") or 0.0)
    share = 1.0 - summary["env_steps"] / played if played else 0.0
    known = {
        "acting in training": (1.0 - share) * playing_s,
        "acting in evaluations": share * playing_s,
        "waiting for the learner": waiting_s,
        "updates owed at the end": stage_s["finishing"] + stage_s["settling"],
        "last evaluation": stage_s["evaluating"],
        "stop": stage_s["ended"],
    }
    # Imports and checks come before the run counts its time, and are a part of the start.
    return {"start": max(wall_s - sum(known.values()), 0.0), **known}


def table_of(results: Sequence[Result]) -> Table:
    """A column for each seed and one for the median; — where the threshold was not reached."""
    table = Table()
    table.add_column("")
    for result in results:
        table.add_column(f"seed {result.seed}", justify="right")
    table.add_column("median", justify="right")
    lines: dict[str, list[float | None]] = {
        "reached after, s": [each.reached_s for each in results],
        "training steps then": [each.reached_steps for each in results],
        "whole command, s": [each.wall_s for each in results],
        "last evaluation": [each.last_figure for each in results],
        "learner updates": [each.updates for each in results],
        "an update, ms": [None if r.update_s is None else 1e3 * r.update_s for r in results],
    }
    for title, of in (
        ("{}, s", [each.spent_s for each in results]),
        ("learner: {}, s", [each.learner_s for each in results]),
        ("cpu: {}, s", [each.cpu_s for each in results]),
    ):
        for name in dict.fromkeys(name for values in of for name in values):
            lines[title.format(name)] = [values.get(name) for values in of]
    for name, values in lines.items():
        # A seed that did not get there is slower than all that did.
        ordered = [float("inf") if value is None else value for value in values]
        middle = statistics.median(ordered) if ordered else float("inf")
        table.add_row(name, *(_number(value) for value in (*values, middle)))
    return table


def _line(result: Result, minutes: float) -> str:
    if result.reached_s is None:
        figures = ", ".join(f"{each.figure:.2f}" for each in result.evaluations)
        return f"seed {result.seed}: not reached in {minutes:g} minutes ({figures})"
    return f"seed {result.seed}: {result.reached_s:.1f} s, {result.reached_steps:,} training steps"


def _number(value: float | None) -> str:
    if value is None or value == float("inf"):
        return "—"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
