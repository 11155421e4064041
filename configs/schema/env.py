"""Which environment is played, in how many copies and against what."""

from dataclasses import dataclass
from typing import Annotated

from configs.ranges import between, check_ranges
from configs.schema.choices import EnvName
from configs.schema.fields import require, short
from configs.schema.limits import MAX_COPIES, MAX_CYCLES, MAX_SHARDS


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvConfig:
    name: Annotated[EnvName, short("env")] = "battle"
    """Environment: battle (MAgent2), relay (diagnostic, communication is everything), another name
    that --help lists, pettingzoo:MODULE for one of PettingZoo's, or package.module:callable."""

    options: str = ""
    """What the environment itself takes: name=value,name=value. For PettingZoo's they are the
    keyword arguments with which it is made: N=8,max_cycles=50."""

    copies: Annotated[int, short("env-copies"), between(1, MAX_COPIES)] = 1
    """Environment copies E that every agent plays at once; 1 is what deployment looks like."""

    opponent: Annotated[str, short("opponent")] = "random"
    """The other team, where there is one: random, or another that the environment knows; Battle
    has scripted, idqn, and the path of a safetensors file. Several
    joined by + share out the episodes; a schedule says when each begins, in training steps:
    random,random+scripted@50000,scripted+policy.safetensors@150000."""

    evaluation_opponent: Annotated[str, short("evaluation-opponent")] = ""
    """Opponents of evaluation episodes, in turn; empty takes those of the schedule's end."""

    max_cycles: Annotated[int, between(1, MAX_CYCLES)] = 200
    """Environment steps after which an episode is truncated, where the environment has no limit of
    its own."""

    shards: Annotated[int, between(0, MAX_SHARDS)] = 0
    """Processes that the copies are shared out among; 1 keeps them in the world's own, 0 takes one
    for every four cores. What is played does not depend on it."""

    def __post_init__(self) -> None:
        check_ranges(self, "env")
        require(self.name != "", "env.name must not be empty")
        require(self.opponent != "", "env.opponent must not be empty: random, scripted or a file")
