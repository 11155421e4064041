"""Value factorisation: how the agents' values make up the team's.

chosen q of each agent [, global state] -> mixer -> q_tot

What else weighted QMIX and RES need lies in `wqmix` and `res`.
"""

from configs.schema import LearnerConfig
from learner.mixers.qmix import QMixer
from learner.mixers.vdn import VDNMixer

Mixer = VDNMixer | QMixer

__all__ = ["Mixer", "QMixer", "VDNMixer", "make_mixer"]


def make_mixer(config: LearnerConfig, num_agents: int, state_dim: int) -> Mixer | None:
    """The mixer of an algorithm; None for IQL, whose agents learn from their own rewards."""
    match config.algorithm:
        case "iql":
            return None
        case "vdn":
            return VDNMixer()
        case "qmix" | "wqmix" | "res" | "facmac":
            return QMixer(
                num_agents,
                state_dim,
                mixing_embed=config.mixing_embed,
                hypernet_embed=config.hypernet_embed,
            )
