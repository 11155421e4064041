"""Gather: agents around a field of food, on MAgent2.

--env gather -> GatherFamily -> Gather (gather.py)
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from configs.ranges import between, check_ranges
from configs.schema.limits import MAX_CYCLES
from envs.base import EnvSpec
from envs.family import EnvFamily
from envs.gather.gather import Gather, gather_spec
from envs.gather.layout import Layout, Scattered, lay_out, scatter
from envs.installed import check_installed


@dataclass(frozen=True, kw_only=True, slots=True)
class GatherOptions:
    max_cycles: Annotated[int, between(1, MAX_CYCLES)] = 100
    """Steps after which an episode is truncated; NVIF's tables have 100, MAgent2 has 500."""
    position: bool = False
    """Observations end with the agent's own x and y."""
    layout: Literal["normal", "random", "clustered"] = "normal"
    """normal: agents around a field of food, always the same; random: anywhere, with less food;
    clustered: the same, but that an episode's food lies together."""

    def __post_init__(self) -> None:
        check_ranges(self)


class GatherFamily(EnvFamily[GatherOptions]):
    """Gather at all its sizes."""

    Options = GatherOptions

    def spec(self, options: GatherOptions, num_agents: int) -> EnvSpec:
        _layout(options, num_agents)
        return gather_spec(num_agents, options.max_cycles, position=options.position)

    def check(self, options: GatherOptions, num_agents: int) -> None:
        self.spec(options, num_agents)
        check_installed(self.name, "magent2", "magent")

    def make(self, options: GatherOptions, num_agents: int) -> Gather:
        layout = _layout(options, num_agents)
        return Gather(layout, options.max_cycles, position=options.position)


def _layout(options: GatherOptions, num_agents: int) -> Layout | Scattered:
    if options.layout == "normal":
        return lay_out(num_agents)
    return scatter(num_agents, clustered=options.layout == "clustered")


ENVIRONMENT = GatherFamily
