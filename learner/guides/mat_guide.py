"""The multi-agent transformer as a guide: it has no memory.

Dimension key: T = time, B = batch, N = agents, D = observation features, A = actions, E =
embedding.
"""

from torch import Tensor

from learner.guides.base import (
    Draw,
    Guide,
    Memory,
    Moment,
    Played,
    allowed_logits,
    one_after_the_other,
    told_of,
)
from learner.guides.mat import Mat


class MatGuide(Guide):
    """The multi-agent transformer, which knows nothing but this step."""

    def __init__(self, num_agents: int, num_actions: int, mat: Mat) -> None:
        super().__init__(num_agents, num_actions)
        self.mat = mat

    def begin(self, batch: int) -> Memory:
        del batch
        return ()

    def act(self, now: Moment, memory: Memory, draw: Draw) -> tuple[Tensor, Tensor, Memory]:
        seen_BNE, _ = self.mat.encode(self.named(now.observations_BND))

        def logits_of(agent: int, actions_BN: Tensor) -> Tensor:
            # Agents hear those before them alone: the rest need not be computed.
            until = agent + 1
            return self.mat.decode(seen_BNE[:, :until], actions_BN[:, :until])[:, agent]

        actions_BN, log_probs_BN = one_after_the_other(now, draw, logits_of)
        return actions_BN, log_probs_BN, memory

    def judge(self, played: Played) -> tuple[Tensor, Tensor]:
        seen_TBNE, values_TBN = self.mat.encode(self.named(played.observations_TBND))
        logits_TBNA = self.mat.decode(seen_TBNE[:-1], told_of(played))
        return allowed_logits(logits_TBNA, played), values_TBN
