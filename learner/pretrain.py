"""Train what agents say to each other before there is a policy, on what a random policy meets.

python -m learner.pretrain --env gather --env.options layout=random,position=true --agents 15 \\
    --out results/nvif

--comm -> the scheme's pretrainer: options (a dataclass) and what takes them
       -> FOLDER/nvif.safetensors, which `python -m runtime.launch --pretrained` loads

The options are a file of their own: to read them takes no torch.
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from agents.found import scheme_of
from configs.errors import UserError
from configs.extensions import SCHEME, load_address
from configs.load import exit_with_error, parse_command_line, value_of
from runtime.terminal.places import require_folder

_USUAL = "nvif"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        pretrainer = pretrainer_of(value_of(argv, "--comm") or _USUAL)
        options = parse_command_line(pretrainer, argv, prog="python -m learner.pretrain")
        options.check()
        require_folder(Path(options.out), "--out")
    except (UserError, ValueError) as error:
        exit_with_error(error)
    train = cast("Callable[[Any], None]", load_address(SCHEME, pretrainer.trained_by))
    try:
        train(options)
    except (UserError, ValueError) as error:
        exit_with_error(error)
    return 0


def pretrainer_of(comm: str) -> Any:
    """The options by which a scheme is pre-trained.

    Raises:
        ValueError: there is no such scheme, or it has nothing that is pre-trained.
    """
    pretrainer = scheme_of(comm).pretrainer
    if not pretrainer:
        raise ValueError(f"--comm {comm} has nothing that is pre-trained: take nvif")
    return load_address(SCHEME, pretrainer)


if __name__ == "__main__":
    run_command(main)
