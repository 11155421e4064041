"""A policy tried out before agents act by it: whether its numbers stay numbers.

spec, flat -> PolicyVersion -> a few steps on drawn observations -> finite or not

Every parameter may be finite and a product of them not be.
"""

import numpy as np

from agents.policy import PolicySpec
from agents.version import PolicyVersion
from configs import streams
from configs.arrays import FloatArray
from configs.streams import Role

_STEPS = 8


def stays_finite(spec: PolicySpec, flat: FloatArray, num_agents: int) -> bool:
    """Whether an agent of each of its networks, if it hears nobody, computes finite values for some
    steps.

    Args:
        flat: [P] parameters in layout order.
        num_agents: population N.
    """
    networks = (spec.own(flat, number) for number in range(spec.policies))
    return all(_stays_finite(PolicyVersion(spec.one, own, num_agents)) for own in networks)


def _stays_finite(policy: PolicyVersion) -> bool:
    spec = policy.spec
    rng = streams.generator(0, Role.REHEARSAL)
    hidden_EH = policy.begin(1)
    unheard_EC = np.zeros((1, spec.context), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        parts_EP = policy.parts(hidden_EH)
        for _ in range(_STEPS):
            observation_ED = rng.standard_normal((1, spec.observation_dim)).astype(np.float32)
            hidden_EH = policy.recur(observation_ED, hidden_EH, parts_EP)
            parts_EP = policy.parts(hidden_EH)
            q_EA = policy.q_values(parts_EP, unheard_EC)
            if not (np.isfinite(parts_EP).all() and np.isfinite(q_EA).all()):
                return False
    return True
