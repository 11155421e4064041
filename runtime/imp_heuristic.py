"""What the expert's rule reaches in an IMP system, or the search for the best rule.

python -m runtime.imp_heuristic --agents 6 --env.options kind=correlated,campaign_cost=true
python -m runtime.imp_heuristic --agents 50 --interval 8 --components 46

options -> System -> search (rounds) -> the best rule -> evaluation with fresh chances -> H
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from configs import options as extension_options
from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line
from configs.ranges import between, check_ranges
from configs.schema.limits import MAX_AGENTS, MAX_CYCLES, MAX_EPISODES, MAX_SEED
from envs.family import OPTIONS_FLAG
from envs.imp.heuristic import Found, Rule, evaluate, search
from envs.imp.options import ImpOptions
from envs.imp.systems import System, build


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Evaluate the expert's rule of an IMP system, by which policies are measured."""

    agents: Annotated[int, between(2, MAX_AGENTS, required=True)]
    """Components of the system, or two for each turbine."""

    options: Annotated[str, tyro.conf.arg(name="env.options")] = ""
    """The system, as for runtime.launch: kind=correlated,campaign_cost=true."""

    interval: Annotated[int, between(0, MAX_CYCLES)] = 0
    """Steps between inspections; 0 looks for the best rule."""

    components: Annotated[int, between(0, MAX_AGENTS)] = 0
    """Components that are inspected each time; 0 looks for the best rule."""

    episodes: Annotated[int, between(2, MAX_EPISODES)] = 4096
    """Episodes of the evaluation."""

    seed: Annotated[int, between(0, MAX_SEED - 1)] = 1
    """Chances of the search; the evaluation takes the next one."""

    json: bool = False
    """Print one line of JSON."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.interval == 0) != (self.components == 0):
            raise ValueError("give both --interval and --components, or neither for a search")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        command = parse_command_line(Command, argv, prog="python -m runtime.imp_heuristic")
        options = extension_options.read(ImpOptions, command.options, OPTIONS_FLAG)
        system = build(options, command.agents)
    except (UserError, ValueError) as error:
        exit_with_error(error)
    rule = Rule(command.interval, command.components) if command.interval else None
    if rule is None:
        rule = _best_rule(system, command.seed)
    found = evaluate(system, rule, command.episodes, command.seed + 1)
    if command.json:
        figures = {"return": found.mean, "error": found.error, "episodes": found.episodes}
        print(json.dumps({**asdict(rule), **figures}))
    else:
        print(f"{_line(found)}\nfor the normalised score: heuristic_return={found.mean:.5f}")
    return 0


def _best_rule(system: System, seed: int) -> Rule:
    """Search, with a line on stderr for each round."""
    best: Found | None = None
    for found in search(system, seed):
        best = found[0]
        print(f"{len(found)} rules: {_line(best)}", file=sys.stderr)
    assert best is not None
    return best.rule


def _line(found: Found) -> str:
    rule = found.rule
    return (
        f"return {found.mean:.2f} (standard error {found.error:.2f}, {found.episodes} episodes): "
        f"inspect {rule.components} every {rule.interval} steps"
    )


if __name__ == "__main__":
    run_command(main)
