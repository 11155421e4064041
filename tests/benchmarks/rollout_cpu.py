"""CPU seconds of a rollout, as they are told of MAGPO's reference code.

    python -m tests.benchmarks.rollout_cpu --out rollout-cpu.json

CoordSum with 3 agents, 10 actions and 30 targets: 128 steps of each of 128 copies, 16,384 steps,
with the reference's epochs and minibatches for it, and for magpo its Sable. A training of three
rollouts less one of a single rollout: start and end do not count. Processor time, and not the
clock's: of launcher, world, agents and learner together.
"""

import json
import resource
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from agents.policy import write_atomically
from tests.benchmarks.machine import load_average, machine, source
from tests.benchmarks.trained import trained

COPIES, STEPS = 128, 128
ALGORITHMS = {
    "mappo": "epochs=8,minibatches=8,sees=state",
    "magpo": "epochs=10,minibatches=8,size=32,blocks=2,improve=2",
}
WAYS = {"processes": (), "serial": ("--serial",)}


@dataclass(frozen=True, kw_only=True)
class Options:
    turns: int = 3

    copies: int = COPIES

    steps: int = STEPS
    """Of each copy in a rollout."""

    out: str = ""
    """JSON file of all results."""


@dataclass(frozen=True, slots=True)
class Result:
    algorithm: str
    way: str
    turn: int
    cpu_s: float
    """Of one rollout."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all cases and print the table."""
    options = tyro.cli(Options, args=argv, prog="python -m tests.benchmarks.rollout_cpu")
    before, console = load_average(), Console()
    results: list[Result] = []
    for turn in range(options.turns):
        for algorithm in ALGORITHMS:
            for way in WAYS:
                one, three = (train(algorithm, way, n, options) for n in (1, 3))
                results.append(Result(algorithm, way, turn, (three - one) / 2))
                console.print(f"{algorithm}, {way}: {results[-1].cpu_s:.1f} CPU s a rollout")
    console.print(table_of(results))
    if options.out:
        report = {
            "options": asdict(options),
            "machine": machine(),
            "source": source(),
            "load_before": before,
            "results": [asdict(each) for each in results],
        }
        write_atomically(Path(options.out), json.dumps(report, indent=2).encode())
    return 0


def train(algorithm: str, way: str, rollouts: int, options: Options) -> float:
    """CPU seconds of a whole training."""
    words = (
        *("--env", "coord-sum", "--agents", "3", "--env.options", "actions=10,targets=30"),
        *("--env-copies", f"{options.copies}", "--algorithm", algorithm, "--comm", "none"),
        *("--algorithm.options", f"rollout_steps={options.steps},{ALGORITHMS[algorithm]}"),
        *("--steps", f"{rollouts * options.copies * options.steps}", "--network.hidden", "128"),
        *("--evaluation.episodes", "0", *WAYS[way]),
    )
    began_s = _of_children()
    summary = trained(*words)
    assert summary["env_steps"] == rollouts * options.copies * options.steps, summary["env_steps"]
    return _of_children() - began_s


def _of_children() -> float:
    """CPU seconds of all that have ended so far, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def table_of(results: Sequence[Result]) -> Table:
    """Medians over the turns, with the least and the most."""
    table = Table("algorithm", "way", "CPU s a rollout", "least", "most")
    for algorithm, way in dict.fromkeys((each.algorithm, each.way) for each in results):
        own = [each.cpu_s for each in results if (each.algorithm, each.way) == (algorithm, way)]
        median = statistics.median(own)
        table.add_row(algorithm, way, f"{median:.1f}", f"{min(own):.1f}", f"{max(own):.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
