"""Algorithms by name, one file each; learner/algorithms/base.py says what one is."""

from typing import Any

from configs import extensions
from configs.algorithms.described import own_options
from configs.extensions import ALGORITHM, ExtensionError
from configs.schema import LearnerConfig
from learner.algorithms.base import Algorithm


def find_algorithm(name: str) -> type[Algorithm]:
    """The class that goes by a name (configs/extensions.py).

    Raises:
        ExtensionError: nothing goes by it, or what does is no algorithm.
    """
    return load_algorithm(extensions.address(ALGORITHM, name))


def load_algorithm(address: str) -> type[Algorithm]:
    """The class at `module:attribute`.

    Raises:
        ExtensionError: it cannot be imported, or is no algorithm.
    """
    found: Any = extensions.load_address(ALGORITHM, address)
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise ExtensionError(
            f"{ALGORITHM.option} {address} is no algorithm: give a class that inherits from "
            "learner.algorithms.base.Algorithm"
        )
    return found


def options_of(config: LearnerConfig) -> Any:
    """A run's options of its algorithm, as that one's own dataclass.

    Raises:
        OptionsError: it does not take these options.
    """
    return own_options(find_algorithm(config.algorithm).Options, config.options)
