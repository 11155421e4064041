"""Battle: two teams on a grid, on MAgent2.

--env battle -> BattleFamily -> Battle (battle.py), against an opponent of opponents.py
"""

from dataclasses import dataclass
from typing import ClassVar

from configs.options import read as read_options
from configs.schema import EnvConfig
from envs.base import EnvSpec
from envs.battle.battle import Battle, battle_spec
from envs.battle.map import deploy
from envs.battle.mirror import MirroredOpponent
from envs.battle.opponents import make_opponent
from envs.family import OPTIONS_FLAG, ContestedFamily
from envs.installed import check_installed
from envs.opponent import Opponent


@dataclass(frozen=True, kw_only=True, slots=True)
class BattleOptions:
    """What `--env.options` may say."""

    position: bool = False
    """Observations end with the agent's own x and y."""
    neighbours: bool = False
    """The environment says in each step who is whose neighbour, for schemes whose graph moves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BattleSettings(BattleOptions):
    max_cycles: int
    """Of the configuration, `--env.max-cycles`."""


class BattleFamily(ContestedFamily[BattleSettings]):
    """Battle at all its sizes."""

    Options = BattleSettings
    has_advisers: ClassVar[bool] = True
    takes_max_cycles: ClassVar[bool] = True
    evaluated_against: ClassVar[str] = "idqn"
    judged_against: ClassVar[tuple[str, ...]] = ("scripted", "idqn")
    trainer: ClassVar[str] = "learner.opponents.options:OpponentOptions"

    def read(self, config: EnvConfig) -> BattleSettings:
        given = read_options(BattleOptions, config.options, OPTIONS_FLAG)
        return BattleSettings(
            position=given.position, neighbours=given.neighbours, max_cycles=config.max_cycles
        )

    def spec(self, options: BattleSettings, num_agents: int) -> EnvSpec:
        deploy(num_agents)
        return battle_spec(
            num_agents,
            options.max_cycles,
            position=options.position,
            neighbours=options.neighbours,
        )

    def check(self, options: BattleSettings, num_agents: int) -> None:
        self.spec(options, num_agents)
        check_installed(self.name, "magent2", "magent")

    def make(self, options: BattleSettings, num_agents: int) -> Battle:
        return Battle(
            deploy(num_agents),
            options.max_cycles,
            position=options.position,
            neighbours=options.neighbours,
        )

    def opponent(self, name: str) -> Opponent:
        return make_opponent(name)

    def adviser(self, name: str) -> Opponent:
        """The scripted one, made for the right side, is asked through a mirror."""
        adviser = make_opponent(name)
        return MirroredOpponent(adviser) if name == "scripted" else adviser


ENVIRONMENT = BattleFamily
