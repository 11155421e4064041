"""The multi-agent particle environments in which agents work together (Lowe et al., 2017).

    --env mpe --env.options task=simple_spread -> mpe2.simple_spread_v3 -> FromParallel

A thin layer over `--env pettingzoo:mpe2.MODULE` (envs/pettingzoo.py): tasks by name, and `--agents`
sets how many there are. That one also takes the package's other arguments, and its other tasks, in
which agents work against each other.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Literal

from configs.ranges import between, check_ranges, within
from configs.schema.limits import MAX_CYCLES
from envs.base import Env, EnvSpec
from envs.family import OPTIONS_FLAG, EnvFamily
from envs.installed import check_installed
from envs.pettingzoo import Arguments, CallableFamily

Task = Literal[
    "simple_spread",
    "simple_line",
    "simple_formation",
    "simple_reference",
    "simple_speaker_listener",
]

_MODULES: dict[Task, str] = {
    "simple_spread": "simple_spread_v3",
    "simple_line": "simple_line_v1",
    "simple_formation": "simple_formation_v1",
    "simple_reference": "simple_reference_v3",
    "simple_speaker_listener": "simple_speaker_listener_v4",
}
_PAIRS: tuple[Task, ...] = ("simple_reference", "simple_speaker_listener")
"""Tasks for two."""
_LOCAL: tuple[Task, ...] = ("simple_spread", "simple_reference")
"""Tasks with rewards of agents' own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MpeOptions:
    task: Task = "simple_spread"
    """simple_spread, simple_line and simple_formation take any number of agents,
    simple_reference and simple_speaker_listener two."""
    continuous: bool = False
    """Whether actions are real numbers in [0, 1] and not one of a few."""
    local_ratio: Annotated[float, within(0.0, 1.0)] = 0.5
    """simple_spread and simple_reference: share of an agent's own reward in what it gets."""
    max_cycles: Annotated[int, between(1, MAX_CYCLES)] = 25
    """Steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        check_ranges(self, OPTIONS_FLAG)


class MpeFamily(EnvFamily[MpeOptions]):
    """Cooperative tasks of MPE."""

    Options = MpeOptions

    def population(self, options: MpeOptions) -> int | None:
        return 2 if options.task in _PAIRS else None

    def spec(self, options: MpeOptions, num_agents: int) -> EnvSpec:
        env = self.make(options, num_agents)
        env.close()
        return env.spec

    def make(self, options: MpeOptions, num_agents: int) -> Env:
        return self._make(options, num_agents)

    def make_visible(self, options: MpeOptions, num_agents: int) -> Env:
        return self._make(options, num_agents, render_mode="rgb_array")

    def _make(self, options: MpeOptions, num_agents: int, **more: str) -> Env:
        check_installed(self.name, "mpe2", "mpe")
        if options.task in _PAIRS and num_agents != 2:
            raise ValueError(f"mpe with task={options.task} has 2 agents, not {num_agents}")
        keywords = {
            "continuous_actions": options.continuous,
            "max_cycles": options.max_cycles,
            **({"local_ratio": options.local_ratio} if options.task in _LOCAL else {}),
            **({} if options.task in _PAIRS else {"N": num_agents}),
            **more,
        }
        module = import_module(f"mpe2.{_MODULES[options.task]}")
        family = CallableFamily(self.name, module.parallel_env)
        return family.make(Arguments(keywords=keywords, max_cycles=options.max_cycles), num_agents)


ENVIRONMENT = MpeFamily
