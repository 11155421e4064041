"""A replay that forgets what the policy has grown away from (after RLx2; Tan et al., 2023).

    oldest episodes -> present policy -> share of actions that it would not take
    too large -> the oldest tenth leaves; the capacity grows back with every new episode

n-step targets look at steps that an older policy chose, and are the more wrong the older it was.
RLx2 measures that age on continuous actions, and MAST says that it cannot be measured on episodes.
This is the simplest thing that can. It leaves out:

    the old policy's own choice: RLx2 keeps its mean action beside the one that was played. Episodes
        have what was played, so exploration, epsilon (1 - 1/A), is part of the distance, and the
        bound has to lie above it
    how much worse an action is: two good actions are as far apart as a good one and a bad one
    the tuning of its bounds: they are RLx2's shares, a tenth, and were tried on nothing else

Dimension key: T = time, B = batch, N = agents, A = actions.
"""

from torch import Tensor

from learner.experience.replay import Replay

WITNESSES = 8
"""Oldest episodes that are asked."""


def policy_distance(q_TBNA: Tensor, actions_TBN: Tensor, mask_TBN: Tensor) -> float:
    """Share of the agent-steps in which the greedy action is not the one that was played.

    Args:
        q_TBNA: of the present policy.
        actions_TBN: played.
        mask_TBN: bool: agent-steps that count.
    """
    differs_TBN = (q_TBNA.argmax(-1) != actions_TBN) & mask_TBN
    return float(differs_TBN.sum() / mask_TBN.sum().clamp(min=1))


def forget(replay: Replay, least: int) -> None:
    """Drop the oldest tenth; `least` episodes and a tenth of the capacity stay in any case."""
    spare = len(replay) - max(least, replay.capacity // 10)
    replay.drop_oldest(max(0, min(len(replay) // 10, spare)))
