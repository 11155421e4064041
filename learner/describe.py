"""Say what an algorithm from outside is, to a launcher that must not import torch.

package.module:TheClass, "a=1,b=2"
    -> one line of JSON (configs/algorithms/described.py), or one line on stderr and exit code 2
"""

from collections.abc import Sequence

from configs.algorithms.described import described, to_json
from configs.load import exit_with_error
from learner.algorithms import load_algorithm


def main(argv: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    address, options = argv
    try:
        algorithm = load_algorithm(address)
        print(to_json(described(algorithm.traits, algorithm.Options, options)))
    except ValueError as error:
        exit_with_error(error)
    return 0
