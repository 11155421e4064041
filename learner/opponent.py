"""Train an opponent of an environment that has another team.

python -m learner.opponent --env battle --out opponent.safetensors --steps 300000

--env -> the family's trainer: options (a dataclass with `env` and `out`) and what takes them
      -> for Battle self-play (learner/opponents/selfplay.py): a policy and its curve

The options are a file of their own: to read them takes no torch.
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from configs.errors import UserError
from configs.extensions import ENVIRONMENT, load_address
from configs.load import exit_with_error, parse_command_line, value_of
from envs import registry
from runtime.terminal.places import require_file

_USUAL = "battle"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        trainer = _trainer_of(value_of(argv, "--env") or _USUAL)
        options = parse_command_line(trainer, argv, prog="python -m learner.opponent")
        require_file(Path(options.out), "--out")
    except (UserError, ValueError) as error:
        exit_with_error(error)
    train = cast("Callable[[Any], None]", load_address(ENVIRONMENT, trainer.trained_by))
    train(options)
    return 0


def _trainer_of(env: str) -> Any:
    """The options by which opponents of this environment are trained.

    Raises:
        ValueError: there is no such environment, or nobody trains its opponents.
    """
    trainer = registry.family_of(env).trainer
    if not trainer:
        raise ValueError(f"--env {env}: its family names no trainer of opponents")
    return load_address(ENVIRONMENT, trainer)


if __name__ == "__main__":
    run_command(main)
