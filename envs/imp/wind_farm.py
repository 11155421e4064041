"""An offshore wind farm: turbines that fail as soon as one of their three components does.

Components are in the order of turbines, and of levels within one: above the water, below it, and at
the mudline, which nobody can inspect or repair. The deterioration of the shipped farm is synthetic
(envs/imp/crack_growth.py), because IMP-MARL's is not public: no figure is comparable.

Two things of IMP-MARL's farm are done otherwise here. There, the repair of an upper component is no
campaign, and an inspection of one component sets the failure probabilities of the whole turbine.

Dimension key: E = episodes, N = components, U = turbines.
"""

from envs.imp.deterioration import RealArray

LEVELS = 3
REACHABLE = 2
"""The upper levels, one agent each."""


def turbine_failure(failures_EN: RealArray) -> RealArray:
    """[E, N] of components -> [E, U] of turbines."""
    components_EUL = failures_EN.reshape(len(failures_EN), -1, LEVELS)
    return 1.0 - (1.0 - components_EUL).prod(-1)
