"""What an algorithm says of itself, by the name that a run gives: traits and options of its own.

    learner.algorithm, learner.options -> configs/algorithms/NAME.py -> Described
                                       -> or a child process that may import torch ┘

Nothing here imports an algorithm: the launcher does without torch.
"""

import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from typing import Any

from configs import extensions
from configs.algorithms.base import OnPolicy, Replayed, Traits
from configs.extensions import ALGORITHM, ExtensionError, own_names
from configs.options import parse, read
from configs.schema import LearnerConfig, RunConfig

FLAG = "--algorithm.options"
_PATIENCE_S = 120.0
"""For a child that imports torch, on a machine with much else to do."""


_ASK = "import sys; from learner.describe import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True, slots=True)
class Described:
    """An algorithm with the options of a run."""

    traits: Traits
    options: Mapping[str, Any]
    """Its own, by name; all of them, with their defaults."""


def traits_of(config: LearnerConfig) -> Traits:
    """The traits of a run's algorithm.

    Raises:
        ValueError: as of `describe`.
    """
    return describe(config.algorithm, config.options).traits


@functools.cache
def describe(name: str, options: str) -> Described:
    """What goes by this name, with options as text.

    Raises:
        ExtensionError: there is no such algorithm, or it cannot be imported.
        OptionsError: it does not take these options.
    """
    address = extensions.address(ALGORITHM, name)
    module = f"configs.algorithms.{name.replace('-', '_')}"
    if name in own_names(ALGORITHM) and find_spec(module) is not None:
        own: Any = importlib.import_module(module)
        return described(own.TRAITS, getattr(own, "OPTIONS", None), options)
    return _asked(address, options)


def described(traits: Any, options: type | None, text: str) -> Described:
    """From what an algorithm's file says.

    Args:
        traits: `Traits`, or a function of the options that returns them.
        options: dataclass of its own options; None: it has none.
        text: the options of a run.

    Raises:
        OptionsError: it does not take these options.
    """
    given = own_options(options, text)
    found = traits if isinstance(traits, Traits) else traits(given)
    return Described(found, {} if options is None else asdict(given))


def own_options(options: type | None, text: str) -> Any:
    """An instance of an algorithm's own options; of one without a field if it has none.

    Raises:
        OptionsError: it does not take these options.
    """
    taken: type[Any] = options or _NoOptions
    return read(taken, text, FLAG)


def check(config: LearnerConfig) -> None:
    """Refuse options that do not go with the algorithm.

    Raises:
        ValueError: names both, and the way out.
    """
    traits = traits_of(config)
    if traits.chooses_online and config.operator != "mellowmax" and not config.double_q:
        raise ValueError(
            f"learner.algorithm {config.algorithm} values the actions that the online network "
            "chooses: give learner.double_q true, or learner.operator mellowmax"
        )
    if not traits.has_operator and config.operator != "max":
        raise ValueError(
            f"learner.algorithm {config.algorithm} values actions that are chosen: "
            f"learner.operator has no say, give max, got {config.operator}"
        )


def check_sampled(config: RunConfig) -> None:
    """Refuse evaluations that draw from a policy without probabilities.

    Raises:
        ValueError: names both, and the way out.
    """
    traits = traits_of(config.learner)
    if config.evaluation.sampled and traits.acting not in ("sample", "guided"):
        raise ValueError(
            "evaluation.sampled draws from a policy's probabilities, and algorithm "
            f"{config.learner.algorithm} learns none: leave it out"
        )


def check_rollout(config: RunConfig) -> None:
    """Refuse what a rollout cannot give: more minibatches than there are copies to share out, and
    gates that are drawn anew.

    Raises:
        ValueError: names both, and the way out.
    """
    experience, copies = traits_of(config.learner).experience, config.env.copies
    if not isinstance(experience, OnPolicy):
        return
    if config.gate.estimator != "straight-through":
        raise ValueError(
            f"learner.algorithm {config.learner.algorithm} hears what was heard in its rollouts, "
            f"and gate.estimator {config.gate.estimator} draws gates anew: give straight-through"
        )
    if experience.steps and experience.minibatches > copies:
        raise ValueError(
            f"a rollout of {copies} copies makes at most as many minibatches, got "
            f"{experience.minibatches}: give --env-copies or minibatches another number"
        )


def special_options() -> frozenset[str]:
    """Options of `learner` that not every algorithm reads."""
    found = [describe(name, "").traits.reads for name in own_names(ALGORITHM)]
    return frozenset(name for names in found for name in names)


def with_sizes(config: LearnerConfig, sizes: Mapping[str, Any]) -> LearnerConfig:
    """Other values of some options of `learner`, or of the algorithm's own."""
    known = {field.name for field in fields(LearnerConfig)}
    own = {name: value for name, value in sizes.items() if name not in known}
    if own:
        given = parse(config.options, FLAG) | own
        text = ",".join(f"{name}={json.dumps(value)}" for name, value in given.items())
        config = replace(config, options=text)
    return replace(config, **{name: value for name, value in sizes.items() if name in known})


@dataclass(frozen=True)
class _NoOptions:
    """Of an algorithm that has none."""


# --- algorithms from outside ----------------------------------------------------------------------


def to_json(found: Described) -> str:
    """One line; `from_json` is the inverse."""
    traits = {field.name: getattr(found.traits, field.name) for field in fields(Traits)}
    experience = found.traits.experience
    traits["experience"] = None if isinstance(experience, Replayed) else asdict(experience)
    traits["sizes"] = {part: list(names) for part, names in found.traits.sizes.items()}
    return json.dumps({"traits": traits, "options": dict(found.options)}, default=sorted)


def from_json(line: str) -> Described:
    """What `to_json` has written."""
    content: dict[str, Any] = json.loads(line)
    traits: dict[str, Any] = content["traits"]
    rollout = traits["experience"]
    sizes: dict[str, list[str]] = traits["sizes"]
    typed: dict[str, Any] = {
        "columns": frozenset(traits["columns"]),
        "actions": frozenset(traits["actions"]),
        "reads": tuple(traits["reads"]),
        "keeps": tuple(traits["keeps"]),
        "experience": Replayed() if rollout is None else OnPolicy(**rollout),
        "sizes": {part: tuple(names) for part, names in sizes.items()},
    }
    return Described(Traits(**traits | typed), content["options"])


def _asked(address: str, options: str) -> Described:
    """What a child process says, which imports the algorithm and with it torch."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _ASK, address, options],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ExtensionError(
            f"{ALGORITHM.option} {address} has not been imported within {_PATIENCE_S:g} s"
        ) from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        raise ExtensionError(said[-1].removeprefix("error: "))
    # What it prints while it is imported comes first.
    return from_json(done.stdout.strip().splitlines()[-1])
