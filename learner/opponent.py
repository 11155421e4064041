"""Train an opponent for Battle by self-play.

python -m learner.opponent --out opponent.safetensors --steps 300000

options -> learner/opponents/selfplay.py -> opponent.safetensors, opponent.jsonl (its curve)
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import sys
from collections.abc import Sequence
from pathlib import Path

from configs.load import ConfigError, exit_with_error, parse_command_line
from learner.opponents.options import OpponentOptions
from runtime.terminal.places import require_file


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(OpponentOptions, argv, prog="python -m learner.opponent")
        require_file(Path(options.out), "--out")
    except ConfigError as error:
        exit_with_error(error)
    from learner.opponents import selfplay as self_play

    self_play.train(options)
    return 0


if __name__ == "__main__":
    run_command(main)
