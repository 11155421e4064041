"""IMP: agents plan the inspections and repairs of a large structure, one component each.

    --env imp -> ImpFamily -> Imp (episode.py) -> System (systems.py)

IMP-MARL (Leroy et al., 2023; moratodpg/imp_marl) in numpy: k-out-of-n systems whose components
deteriorate independently or not, and an offshore wind farm. data/NOTICE says where models are from.
"""

from typing import ClassVar

from envs.base import EnvSpec
from envs.family import EnvFamily
from envs.imp.episode import Imp, imp_spec
from envs.imp.options import ImpOptions


class ImpFamily(EnvFamily[ImpOptions]):
    """IMP in all its kinds and sizes."""

    Options = ImpOptions
    is_heavy: ClassVar[bool] = False

    def spec(self, options: ImpOptions, num_agents: int) -> EnvSpec:
        return imp_spec(options, num_agents)

    def make(self, options: ImpOptions, num_agents: int) -> Imp:
        return Imp(options, num_agents)


ENVIRONMENT = ImpFamily
