"""What a study asks for: scenarios × arms × seeds at one of several scales, as a file says it.

    configs/studies/NAME.yaml -> Study: tasks, arms, scales, what is reported, the paper's numbers

docs/studies.md explains the format. Options are those of `runtime.launch` without their hyphens in
front: `learner.gamma: 0.99`. The more special one counts: preset <
study < scale < task < task at this scale < arm < arm at this scale.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import dacite

import configs
from configs.bounded import Unfit, parse_yaml, read_text
from configs.load import ConfigError

ScaleName = Literal["smoke", "small", "paper"]
SCALES: tuple[ScaleName, ...] = ("smoke", "small", "paper")

Options = dict[str, Any]
"""Of runtime.launch by name; a truth value is a flag."""

Numbers = dict[str, dict[str, dict[str, Any]]]
"""Figure -> task (task@SIZE after a transfer) -> arm -> a mean, or [mean, spread]."""

_SHARED = ("seeds", "steps", "episodes", "serial", "simulate", "policy")

FOLDER = Path(configs.__file__).parent / "studies"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A scenario."""

    env: str
    agents: int | None = None
    """None takes the preset's."""
    options: Options = field(default_factory=dict[str, Any])
    opponents: tuple[str, ...] = ()
    """Met in the final evaluations, one after the other; empty takes the environment's own."""
    transfer: tuple[int, ...] = ()
    """Sizes at which the policy is evaluated as well, without further training."""
    figure: str = ""
    """The headline, of which curves and AUC are; empty takes the environment's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A method that is compared."""

    options: Options = field(default_factory=dict[str, Any])
    note: str = ""
    """What a reader of the table has to know."""
    central: bool = False
    """Agents cannot run apart: trained in one process, evaluated by simulation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How much of it."""

    seeds: tuple[int, ...]
    steps: int | None = None
    """Of a training; None takes the preset's."""
    episodes: int = 100
    """Greedy episodes of each final evaluation; 0 does without evaluations."""
    serial: bool = False
    """Each training in one process: cheaper for a step on few cores, and it depends on its seed
    alone."""
    simulate: bool = False
    """Final evaluations in one process: no bytes are measured."""
    policy: Literal["last", "best"] = "last"
    """Which is evaluated in the end: the last one, or the one that did best in a test during
    training (the "absolute metric" of Gorsane et al., 2022)."""
    options: Options = field(default_factory=dict[str, Any])
    by_task: dict[str, Options] = field(default_factory=dict[str, Options])
    """Options of some tasks at this scale, `steps` among them."""
    by_arm: dict[str, Options] = field(default_factory=dict[str, Options])
    tasks: tuple[str, ...] = ()
    """Those of this scale; empty takes all."""
    arms: tuple[str, ...] = ()
    before: Options = field(default_factory=dict[str, Any])
    """Laid over the options of each step before the trainings."""
    analysis: Options = field(default_factory=dict[str, Any])
    """Laid over the options of each step of analysis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A function that makes something of the trained policies (learner/studies/analysis.py), or
    what they begin with (learner/studies/pretrained.py).
    """

    run: str
    """module:function"""
    options: Options = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    title: str
    scales: dict[ScaleName, Scale]
    name: str = ""
    """That of the file."""
    reproduces: str = ""
    differs: str = ""
    """What we do otherwise than the paper."""
    like: str = ""
    """A study whose scales stand under these: what a scale does not say itself (seeds, steps,
    episodes, serial, simulate, options) is as there."""
    options: Options = field(default_factory=dict[str, Any])
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    arms: dict[str, Arm] = field(default_factory=dict[str, Arm])
    methods: str = ""
    """module:function that knows arms by name; see learner/studies/methods.py."""
    report: tuple[str, ...] = ("return",)
    """Figures of the table, in this order."""
    spread: str = ""
    """What the paper's second numbers are."""
    paper: Numbers = field(default_factory=dict[str, dict[str, dict[str, Any]]])
    before: tuple[Step, ...] = ()
    """Before the trainings."""
    analysis: tuple[Step, ...] = ()
    memory: bool = False
    """Look at the memory of each training while it goes on (learner/studies/memory_watch.py)."""

    def __post_init__(self) -> None:
        if not self.scales:
            raise ValueError("scales: name at least one of smoke, small and paper")
        if self.tasks and not self.arms and not self.methods:
            raise ValueError("arms: tasks want at least one")
        for name, scale in self.scales.items():
            _require_known(f"scales.{name}.tasks", scale.tasks, self.tasks)
            _require_known(f"scales.{name}.by_task", scale.by_task, self.tasks)
            if not self.methods:
                _require_known(f"scales.{name}.arms", scale.arms, self.arms)
                _require_known(f"scales.{name}.by_arm", scale.by_arm, self.arms)
            if self.tasks and not scale.seeds:
                raise ValueError(f"scales.{name}.seeds: name at least one")
        for figure, tasks in self.paper.items():
            for task, arms in tasks.items():
                _require_known(f"paper.{figure}", (task.partition("@")[0],), self.tasks)
                if not self.methods:
                    _require_known(f"paper.{figure}.{task}", arms, self.arms)


def _require_known(place: str, names: Any, known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{place}: there is no {name} (known: {', '.join(known)})")


def names() -> list[str]:
    """Of all studies that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_study(name: str) -> Study:
    """The study of that name, or of that file.

    Raises:
        ConfigError: there is none, or it does not fit the format.
    """
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"there is no study {name}: choose from {', '.join(names())}, or give a .yaml file"
        )
    try:
        raw = parse_yaml(read_text(path))
        if not isinstance(raw, dict):
            raise Unfit("expected keys and values")
        content = {"name": path.stem, **cast("dict[str, Any]", raw)}
        content = {key: _filled(key, value) for key, value in content.items()}
        if content.get("like"):
            content["scales"] = _over_scales_of(content)
        return dacite.from_dict(Study, content, dacite.Config(strict=True, cast=[tuple]))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (dacite.DaciteError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _filled(key: str, value: Any) -> Any:
    """`sops:` with nothing behind it is an arm without options."""
    if key not in ("tasks", "arms") or not isinstance(value, dict):
        return value
    empty: Options = {}
    return {name: empty if one is None else one for name, one in cast("Options", value).items()}


def _over_scales_of(content: Mapping[str, Any]) -> Options:
    """The scales of a file, over those of the study that it is `like`.

    Raises:
        ConfigError: there is no such study.
        ValueError: that one is like another itself, or something is no keys and values.
    """
    other = read_study(str(content["like"]))
    if other.like:
        raise ValueError(f"like: {other.name} is itself like {other.like}: name that one")
    mine = _keys_and_values("scales", content.get("scales"))
    scales: Options = {}
    for name, scale in other.scales.items():
        own = _keys_and_values(f"scales.{name}", mine.get(name))
        options = _keys_and_values(f"scales.{name}.options", own.get("options"))
        under = {key: getattr(scale, key) for key in _SHARED}
        scales[name] = {**under, **own, "options": {**scale.options, **options}}
    return {**mine, **scales}


def _keys_and_values(place: str, value: Any) -> Options:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unfit(f"{place}: expected keys and values")
    return cast("Options", value)


def function_of(address: str) -> Callable[..., Any]:
    """What module:function names.

    Raises:
        ConfigError: there is no such thing.
    """
    module, _, name = address.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{address}: there is no such function ({error})") from error
