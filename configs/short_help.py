"""What `--help` says of a command with many options: those that matter, in a line each.

`--help-all` has every option with its range, as tyro writes it. Defaults come from the options
themselves, and a test holds the names here against the full help.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from configs import extensions
from configs.extensions import Kind

_WIDTH = 79
_LEFT = 31
"""Columns of an option and its value."""


class Line(NamedTuple):
    """One option."""

    flag: str
    value: str
    """What it takes: N, FILE, or nothing."""
    does: str
    path: str = ""
    """Where its default stands in the options; empty shows none."""
    names: Kind | None = None
    """What the option takes by name: all names follow."""


def short_help(prog: str, about: str, lines: Sequence[Line], options: Any) -> str:
    """The text.

    Args:
        about: what the command does.
        options: an instance with the defaults, or the class where some options have none.
    """
    rows = [_row(line, options) for line in lines]
    return "\n".join(
        [
            f"usage: {prog} [OPTIONS]",
            "",
            about,
            "",
            *rows,
            "",
            "For a name from elsewhere: package.module:attribute (docs/extending.md).",
            f"{prog} --help-all explains every option, with its range.",
        ]
    )


def _row(line: Line, options: Any) -> str:
    left = f"  {line.flag} {line.value}".rstrip()
    default = ""
    if line.path:
        value = options
        for name in line.path.split("."):
            # A class with slots has no defaults as attributes.
            own: dict[str, Any] = {entry.name: entry.default for entry in fields(value)}
            value = own[name] if isinstance(value, type) else getattr(value, name)
        default = f" ({value})" if value not in (None, "") else ""
    does = line.does
    if line.names is not None:
        does += f": {', '.join(extensions.names(line.names))}"
    right = textwrap.wrap(f"{does}{default}", _WIDTH - _LEFT - 1, break_on_hyphens=False)
    return f"\n{'':{_LEFT + 1}}".join((f"{left:{_LEFT}} {right[0]}", *right[1:]))


LAUNCH = (
    Line("--env", "NAME", "environment", "env.name", extensions.ENVIRONMENT),
    Line("--env.options", "a=1,b=2", "what the environment takes"),
    Line("--agents", "N", "number of agents, a process each", "num_agents"),
    Line("--steps", "N", "environment steps, over all copies", "steps"),
    Line("--env-copies", "N", "copies that every agent plays at once", "env.copies"),
    Line("--seed", "N", "root seed", "seed"),
    Line("--config", "FILE", "YAML file with options"),
    Line("--policy", "FILE|shipped", "policy to begin with"),
    Line("--resume", "DIR", "folder of an earlier run to go on with"),
    Line("--opponent", "NAMES", "random, scripted, idqn, FILE", "env.opponent"),
    Line("--comm", "NAME", "scheme of messages", "comm", extensions.SCHEME),
    Line("--gate.mode", "MODE", "learned, open or closed", "gate.mode"),
    Line("--gate.budget", "N", "edges open at once; 0: no limit", "gate.budget"),
    Line("--gate.price", "X", "price of an open edge in a step", "gate.price"),
    Line("--network", "NAME", "encoder and memory", "network.name", extensions.NETWORK),
    Line("--algorithm", "NAME", "algorithm", "learner.algorithm", extensions.ALGORITHM),
    Line("--device", "auto|cpu|cuda", "where the learner trains", "learner.device"),
    Line("--learner.batch-size", "N", "episodes in an update", "learner.batch_size"),
    Line("--learner.learning-rate", "X", "Adam's step size", "learner.learning_rate"),
    Line("--evaluation.episodes", "N", "episodes of an evaluation", "evaluation.episodes"),
    Line("--evaluation.interval-steps", "N", "steps between two", "evaluation.interval_steps"),
    Line("--evaluation.stop-at", "X", "end training when one reaches this"),
    Line("--hosts", "FILE", "hosts of a run across machines"),
    Line("--placer", "hosts|ray", "nodes are started by hand, or by Ray", "runtime.placer"),
    Line("--serial", "", "everything in one process, for a debugger"),
    Line("--metrics-port", "N", "port of /metrics; 0: none", "runtime.metrics_port"),
    Line("--runtime.runs-dir", "DIR", "where runs get their folders", "runtime.runs_dir"),
)
"""Of runtime.launch."""

EVALUATE = (
    Line("--policy", "FILE", "policy, or shipped, or untrained"),
    Line("--env", "NAME", "environment", "env", extensions.ENVIRONMENT),
    Line("--env.options", "a=1,b=2", "what the environment takes"),
    Line("--agents", "N", "number of agents, a process each", "agents"),
    Line("--episodes", "N", "episodes to play", "episodes"),
    Line("--env-copies", "N", "copies at once; 0: up to 16", "env_copies"),
    Line("--opponent", "NAMES", "random, scripted, idqn, FILE", "opponent"),
    Line("--seed", "N", "root seed of the episodes", "seed"),
    Line("--gate.mode", "MODE", "learned, open or closed; as trained"),
    Line("--gate.budget", "N", "edges open at once; as trained"),
    Line("--kill-fraction", "X", "share of agents to kill", "kill_fraction"),
    Line("--kill-at", "N", "step at which they are killed", "kill_at"),
    Line("--drop-edges", "X", "probability of losing a packet", "drop_edges"),
    Line("--hosts", "FILE", "hosts of an evaluation across machines"),
    Line("--simulate", "", "one process instead of real ones"),
    Line("--record", "DIR", "keep every step of every episode"),
    Line("--json", "", "print one JSON object"),
)
"""Of runtime.evaluate."""
