"""AdversarialPursuit: predators tag prey on a grid, on MAgent2.

--env adversarial-pursuit -> AdversarialPursuit -> Pursuit (pursuit.py), against prey of prey.py
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from configs.ranges import between, check_ranges
from configs.schema.limits import MAX_CYCLES
from envs.adversarial_pursuit.habitat import settle
from envs.adversarial_pursuit.prey import make_prey
from envs.adversarial_pursuit.pursuit import Pursuit, pursuit_spec
from envs.base import EnvSpec
from envs.family import ContestedFamily
from envs.installed import check_installed
from envs.opponent import Opponent


@dataclass(frozen=True, kw_only=True, slots=True)
class PursuitOptions:
    max_cycles: Annotated[int, between(1, MAX_CYCLES)] = 200
    """Steps after which an episode is truncated."""
    position: bool = False
    """Observations end with the agent's own x and y."""

    def __post_init__(self) -> None:
        check_ranges(self)


class AdversarialPursuit(ContestedFamily[PursuitOptions]):
    """AdversarialPursuit at all its sizes."""

    Options = PursuitOptions
    evaluated_against: ClassVar[str] = "idqn"
    trainer: ClassVar[str] = "learner.opponents.prey_options:PreyOptions"

    def spec(self, options: PursuitOptions, num_agents: int) -> EnvSpec:
        settle(num_agents)
        return pursuit_spec(num_agents, options.max_cycles, position=options.position)

    def check(self, options: PursuitOptions, num_agents: int) -> None:
        self.spec(options, num_agents)
        check_installed(self.name, "magent2", "magent")

    def make(self, options: PursuitOptions, num_agents: int) -> Pursuit:
        return Pursuit(settle(num_agents), options.max_cycles, position=options.position)

    def opponent(self, name: str) -> Opponent:
        return make_prey(name)


ENVIRONMENT = AdversarialPursuit
