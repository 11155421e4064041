"""OW-QMIX, without torch: learner/algorithms/wqmix.py is the algorithm."""

from configs.algorithms.base import Traits
from configs.algorithms.qmix import MIXER

TRAITS = Traits(
    reads=(*MIXER, "wqmix_alpha", "central_hidden", "central_embed"),
    sizes={
        "mixer": MIXER,
        "central_agent": ("central_hidden",),
        "central_mixer": ("central_embed",),
    },
    chooses_online=True,
)
