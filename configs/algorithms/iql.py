"""IQL, without torch: learner/algorithms/iql.py is the algorithm."""

from configs.algorithms.base import Traits

TRAITS = Traits(fixes_agents=False)
