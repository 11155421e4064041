"""What is compared: MAST's table 1 and its ablations, as options of `runtime.launch`.

    name, task, steps -> Method -> --config configs/mast/TASK-BASE.yaml --learner.td-lambda 0.4 ...

    dense tiny static set rigl rlx2 mast     table 1, a preset each
    rigl@0.95                                the same at another sparsity (figure 8)
    mast-lambda-0.4                          mast with one thing changed (tables 6 to 10)

Presets say what a method is for their own number of steps. A delay of the λ-returns is a share of
the run (3/8 in MAST): with other steps it moves along. Schedules of the environment do not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from configs import load
from configs.load import ConfigError, load_run_config
from configs.schema import EnvName, RunConfig

METHODS = ("dense", "tiny", "static", "set", "rigl", "rlx2", "mast")
"""In the order of table 1."""
REFERENCE = "dense"
"""What all others are normalised to."""
ABLATED = "mast"

_PRESETS = Path(load.__file__).parent / "mast"


@dataclass(frozen=True, slots=True)
class Method:
    """A row of a table."""

    name: str
    base: str
    """One of METHODS."""
    options: tuple[str, ...]
    """Of runtime.launch: the preset, and what differs from it."""
    table: str = "1"
    """In the paper, or "-" for an ablation that it does not have."""
    label: str = ""
    """Of an ablation within its table."""


# --- ablations ------------------------------------------------------------------------------------

_Changes = Mapping[str, Any]
"""Values by their place in the configuration."""


def _delay(value: str, mast: RunConfig) -> _Changes:
    """T0 as a share of the run: 0.75M of the paper's 2M steps are 0.375."""
    return {"learner.td_lambda_start": round(float(value) * mast.steps)}


def _lambda(value: str, _: RunConfig) -> _Changes:
    return {"learner.td_lambda": float(value)}


def _operator(value: str, mast: RunConfig) -> _Changes:
    """α-ω of soft mellowmax, or max without it. The paper's 1-10 stands for the preset's, and other
    values are in proportion to it.
    """
    if value == "max":
        return {"learner.operator": "max"}
    scale = mast.learner.mellowmax_omega / 10.0
    alpha, omega = (scale * float(number) for number in value.split("-"))
    return {"learner.mellowmax_alpha": alpha, "learner.mellowmax_omega": omega}


def _buffers(value: str, _: RunConfig) -> _Changes:
    """Offline to online parts of a batch."""
    offline, online = map(int, value.split("-"))
    if online == 0:
        return {"learner.online_episodes": 0}
    return {"learner.online_share": online / (offline + online)}


def _interval(value: str, mast: RunConfig) -> _Changes:
    """The paper's Δm is 200: other values are in proportion to it."""
    return {"sparse.period": max(round(mast.sparse.period * int(value) / 200), 1)}


def _fraction(value: str, _: RunConfig) -> _Changes:
    return {"sparse.fraction": float(value)}


class _Ablation(NamedTuple):
    what: str
    values: tuple[str, ...]
    """As the paper writes them."""
    changes: Callable[[str, RunConfig], _Changes]
    """From a value and MAST's configuration."""
    caption: str


ABLATIONS = {
    "6": _Ablation(
        "t0",
        ("0", "0.225", "0.375", "0.5", "0.75", "1"),
        _delay,
        "T0 of hybrid TD(λ), as a share of the run",
    ),
    "7": _Ablation("lambda", ("0", "0.2", "0.4", "0.6", "0.8", "1"), _lambda, "λ"),
    "8": _Ablation(
        "operator",
        ("1-10", "5-5", "5-10", "10-5", "10-10", "max"),
        _operator,
        "α-ω of soft mellowmax, where 1-10 is the preset's; max is not in the paper's table",
    ),
    "9": _Ablation(
        "buffers",
        ("8-0", "6-2", "5-3", "3-5", "2-6", "0-8"),
        _buffers,
        "offline-online parts of a batch",
    ),
    "10": _Ablation(
        "interval",
        ("20", "100", "200", "1000", "2000"),
        _interval,
        "mask update interval, where 200 is the preset's",
    ),
    "-": _Ablation(
        "fraction",
        ("0.1", "0.3", "0.5", "0.7", "0.9"),
        _fraction,
        "initial mask update fraction ζ0",
    ),
}
"""By their tables."""


# --- from names to options ------------------------------------------------------------------------


def resolve(task: EnvName, name: str, steps: int = 0) -> Method:
    """The method of that name.

    Args:
        steps: of a run; 0 takes the preset's.

    Raises:
        ConfigError: unknown; the line names those that are known.
    """
    base, at, sparsity = name.partition("@")
    if base in METHODS:
        own = _sparsity(task, base, sparsity) if at else ()
        return Method(name, base, (*_preset_options(task, base, steps), *own))
    for method in ablations(task, steps):
        if method.name == name:
            return method
        if name == f"{ABLATED}-{ABLATIONS[method.table].what}-{method.label}":
            return resolve(task, ABLATED, steps)  # the preset's own value
    known = ", ".join(f"{ABLATED}-{a.what}-{{{','.join(a.values)}}}" for a in ABLATIONS.values())
    raise ConfigError(
        f"unknown method {name}: choose from {', '.join(METHODS)}, with @SPARSITY behind it for "
        f"another sparsity, or an ablation: {known}"
    )


def words(task: EnvName, name: str, steps: int = 0) -> tuple[str, ...]:
    """Options of the method of that name: what a study of configs/studies/ names as `methods`.

    Raises:
        ConfigError: unknown.
    """
    return resolve(task, name, steps).options


def ablations(task: EnvName, steps: int = 0) -> list[Method]:
    """Tables 6 to 10, row by row. What MAST has anyway is MAST, by its own name."""
    options = _preset_options(task, ABLATED, steps)
    preset = preset_of(task, ABLATED)
    start = {"learner.td_lambda_start": _moved_start(preset, steps)}
    mast = _changed(preset, {"steps": steps or preset.steps, **start})
    found: list[Method] = []
    for table, ablation in ABLATIONS.items():
        for value in ablation.values:
            changes = ablation.changes(value, mast)
            if _changed(mast, changes) == mast:
                found.append(Method(ABLATED, ABLATED, options, table, value))
                continue
            name = f"{ABLATED}-{ablation.what}-{value}"
            flags = (word for key, to in changes.items() for word in (_flag(key), f"{to}"))
            found.append(Method(name, ABLATED, (*options, *flags), table, value))
    return found


@cache
def preset_of(task: EnvName, base: str) -> RunConfig:
    """The configuration of one of METHODS."""
    return load_run_config(("--config", _path(task, base)))


def _path(task: EnvName, base: str) -> str:
    return f"{_PRESETS / f'{task}-{base}.yaml'}"


def _preset_options(task: EnvName, base: str, steps: int) -> tuple[str, ...]:
    preset = preset_of(task, base)
    options = ("--config", _path(task, base))
    if steps in (0, preset.steps):
        return options
    options += ("--steps", f"{steps}")
    if preset.learner.td_lambda_start:
        options += (_flag("learner.td_lambda_start"), f"{_moved_start(preset, steps)}")
    return options


def _moved_start(preset: RunConfig, steps: int) -> int:
    return round(preset.learner.td_lambda_start * (steps or preset.steps) / preset.steps)


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _changed(config: RunConfig, changes: _Changes) -> RunConfig:
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        if not section:
            config = replace(config, **{name: value})
            continue
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


def _sparsity(task: EnvName, base: str, sparsity: str) -> tuple[str, ...]:
    if base == REFERENCE:
        raise ConfigError(f"{REFERENCE}@{sparsity}: the dense method has no sparsity")
    options = ("--sparse.sparsity", sparsity)
    rigl = load_run_config(("--config", _path(task, "rigl"), *options))  # checks the number
    return _tiny_sizes(rigl) if base == "tiny" else options


def _tiny_sizes(sparse: RunConfig) -> tuple[str, ...]:
    """Options of a dense run with as many parameters."""
    # torch, for this one row only
    from envs.registry import spec_of
    from learner.experience.episode import Dimensions
    from learner.sparse.matching import matches

    env = spec_of(sparse.env, sparse.num_agents)
    dimensions = Dimensions.of(env)
    options: list[str] = []
    for part, found in matches(sparse, dimensions).items():
        section = "network" if part == "policy" else "learner"
        for key, size in found.sizes.items():
            options += [_flag(f"{section}.{key}"), f"{size}"]
    return tuple(options)
