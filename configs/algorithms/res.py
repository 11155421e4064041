"""RES, without torch: learner/algorithms/res.py is the algorithm."""

from configs.algorithms.base import Traits
from configs.algorithms.qmix import MIXER

TRAITS = Traits(
    reads=(*MIXER, "res_beta", "res_lambda"), sizes={"mixer": MIXER}, chooses_online=True
)
