"""Sable as a guide: its memory is the state of its retention.

Dimension key: T = time, B = batch, N = agents, D = observation features, A = actions, E =
embedding.
"""

import torch
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
from learner.guides.layers import shifted
from learner.guides.sable import Sable, SableState


class SableGuide(Guide):
    """Sable, which remembers the episode."""

    def __init__(self, num_agents: int, num_actions: int, sable: Sable) -> None:
        super().__init__(num_agents, num_actions)
        self.sable = sable

    def begin(self, batch: int) -> Memory:
        state = self.sable.begin(batch)
        return state.encoder, state.decoder_own, state.decoder_cross

    def act(self, now: Moment, memory: Memory, draw: Draw) -> tuple[Tensor, Tensor, Memory]:
        sable, state, dtype = self.sable, SableState(*memory), now.observations_BND.dtype
        seen_BTND = self.named(now.observations_BND).unsqueeze(1)
        begins_BT, steps_BT = now.begins_B.unsqueeze(1), now.steps_B.unsqueeze(1)
        seen_BTNE, _, encoder = sable.encode(seen_BTND, begins_BT, steps_BT, state)
        hidden = [state]

        def logits_of(agent: int, actions_BN: Tensor) -> Tensor:
            begins_B = now.begins_B if agent == 0 else None
            told_BA = shifted(actions_BN[:, : agent + 1], self.num_actions, dtype)[:, agent]
            logits_BA, own, cross = sable.decode_next(
                seen_BTNE[:, 0, agent], told_BA, now.steps_B, hidden[-1], begins_B
            )
            hidden.append(SableState(encoder, own, cross))
            return logits_BA

        actions_BN, log_probs_BN = one_after_the_other(now, draw, logits_of)
        last = hidden[-1]
        return actions_BN, log_probs_BN, (last.encoder, last.decoder_own, last.decoder_cross)

    def judge(self, played: Played) -> tuple[Tensor, Tensor]:
        seen_BTND = self.named(played.observations_TBND).transpose(0, 1)
        time = seen_BTND.shape[1]
        steps_BT = played.start_B.unsqueeze(1) + torch.arange(time, device=seen_BTND.device)
        begins_BT, state = steps_BT == 0, SableState(*played.memory)
        seen_BTNE, values_BTN, _ = self.sable.encode(seen_BTND, begins_BT, steps_BT, state)
        actions_BTN = told_of(played).transpose(0, 1)
        logits_BTNA, _, _ = self.sable.decode(
            seen_BTNE[:, :-1], actions_BTN, begins_BT[:, :-1], steps_BT[:, :-1], state
        )
        return allowed_logits(logits_BTNA.transpose(0, 1), played), values_BTN.transpose(0, 1)
