"""QMIX, without torch: learner/algorithms/qmix.py is the algorithm."""

from configs.algorithms.base import Traits

MIXER = ("mixing_embed", "hypernet_embed")
"""Options of its mixer."""
TRAITS = Traits(reads=MIXER, sizes={"mixer": MIXER})
