"""What an agent's last step was made of, for somebody who looks (runtime/seeing).

AgentCore.look_back() -> Insight

It is computed when it is asked for, from what the agent still holds, so that no step pays for it.
"""

from typing import NamedTuple

from configs.arrays import BoolArray, FloatArray


class Insight(NamedTuple):
    """One step of one agent, in E copies with K edges of each direction."""

    open_EK: BoolArray
    """Out-edges that its message went over."""
    heard_EK: BoolArray
    """In-edges whose message went into its own."""
    scores_EK: FloatArray | None
    """What each out-edge was chosen by: the gate's score, or how near a neighbour is; None: the
    scheme scores nothing."""
    weights_ET: FloatArray | None
    """How much each token counted, the own message first; None: the scheme has no such weights."""
