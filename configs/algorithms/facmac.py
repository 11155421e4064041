"""FACMAC, without torch: learner/algorithms/facmac.py is the algorithm."""

from configs.algorithms.base import Traits
from configs.algorithms.qmix import MIXER

TRAITS = Traits(
    reads=(*MIXER, "critic_hidden", "critic_rate"),
    sizes={"mixer": MIXER, "critic": ("critic_hidden",)},
    has_operator=False,
)
