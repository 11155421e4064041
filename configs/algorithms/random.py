"""The random policy, without torch: learner/algorithms/random.py is the algorithm."""

from configs.algorithms.base import Traits

TRAITS = Traits(
    acting="random",
    actions=frozenset({"discrete", "box"}),
    fixes_agents=False,
    trains=False,
)
