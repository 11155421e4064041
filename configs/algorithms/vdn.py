"""VDN, without torch: learner/algorithms/vdn.py is the algorithm."""

from configs.algorithms.base import Traits

TRAITS = Traits(fixes_agents=False)
