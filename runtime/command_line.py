"""The command `murmuration`: every `python -m …` command of the project as a subcommand.

    murmuration launch --agents 100 --env battle  ->  python -m runtime.launch with the same options

Python puts the folder of the script before all others, not the current one, so a user's own
`envs/` or `agents/` does not hide ours.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from configs.version import version_line
from runtime.terminal.command import guard, run_command


@dataclass(frozen=True, slots=True)
class Subcommand:
    """A command and what its `--help` would say in one line."""

    module: str
    does: str


SUBCOMMANDS = {
    "launch": Subcommand("runtime.launch", "train: start a run here or across hosts"),
    "evaluate": Subcommand("runtime.evaluate", "play a trained policy and print its figures"),
    "render": Subcommand("runtime.render", "show an episode: a film, or a page that plays it"),
    "deploy": Subcommand(
        "runtime.deploy", "deploy a policy to separate hosts, or replace it there"
    ),
    "node": Subcommand("runtime.node", "be one host of a run: start the agents of a bundle"),
    "keys": Subcommand("runtime.keys", "make the keys of a run across hosts, or change one"),
    "plot": Subcommand("runtime.plot", "draw the evaluations of runs"),
    "gate-curve": Subcommand("runtime.gate_curve", "compare what gates cost and reach"),
    "mask-plot": Subcommand("runtime.mask_plot", "draw how a sparse network's links move"),
    "study": Subcommand("learner.studies.run", "train and evaluate what a paper compares"),
    "sweep": Subcommand("learner.studies.sweep", "train and compare options of your own"),
    "imp-heuristic": Subcommand("runtime.imp_heuristic", "evaluate the expert's rule in IMP"),
    "opponent": Subcommand("learner.opponent", "train the other team of an environment"),
    "pretrain": Subcommand("learner.pretrain", "train what agents say before there is a policy"),
    "tiny": Subcommand("learner.sparse.tiny", "say how large a dense network of a budget is"),
}


def console() -> NoReturn:
    """Entry point of the script."""
    guard()  # a subcommand takes long to import
    run_command(main)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand with the rest of the line; returns its exit code, 2 for an unknown one."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(version_line())
        return 0
    command = SUBCOMMANDS.get(words[0])
    if command is None:
        names = ", ".join(SUBCOMMANDS)
        print(f"error: unknown command {words[0]!r}, choose from {names}", file=sys.stderr)
        return 2
    run = cast("Callable[[Sequence[str]], int]", importlib.import_module(command.module).main)
    return run(words[1:])


def _usage() -> str:
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{width}}  {command.does}" for name, command in SUBCOMMANDS.items()]
    return "\n".join(
        [
            "usage: murmuration COMMAND [OPTIONS]",
            "",
            "A decentralised multi-process agent runtime for multi-agent reinforcement learning.",
            "",
            *lines,
            "",
            "murmuration COMMAND --help explains the options of a command;",
            "murmuration --version says which version this is.",
        ]
    )
