"""Say how large the dense networks are that have as many parameters as a sparse run's.

python -m learner.sparse.tiny --config configs/mast/battle-rigl.yaml

options -> learner/sparse/matching.py -> what to put into a preset
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import sys
from collections.abc import Sequence
from dataclasses import asdict

import yaml

from configs.errors import UserError
from configs.load import exit_with_error, load_run_config
from envs.registry import spec_of
from learner.experience.episode import Dimensions


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        config = load_run_config(argv, prog="python -m learner.sparse.tiny")
        env = spec_of(config.env, config.num_agents)
        dimensions = Dimensions.of(env)
        from learner.sparse.matching import (  # imports torch, which a help text needs not
            matches,
            tiny,
        )

        found = matches(config, dimensions)
    except (UserError, ValueError) as error:
        exit_with_error(error)
    for part, one in found.items():
        print(f"# {part}: {one.parameters} parameters for {one.wanted}")
    sections = {
        "network": found["policy"].sizes,
        "learner": {
            key: value
            for key, value in asdict(tiny(config, found).learner).items()
            if value != getattr(config.learner, key)
        },
    }
    print(yaml.safe_dump({k: v for k, v in sections.items() if v}, sort_keys=False), end="")
    return 0


if __name__ == "__main__":
    run_command(main)
