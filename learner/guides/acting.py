"""The guide while the world plays: questions in, answers out, and what it remembers of each copy.

    GuideQuestion -> rows of the copies it plays -> Guide.act -> GuideAnswer

It acts with a copy of its parameters, which it takes over between two rounds of episodes, as agents
do: within an episode of training a policy never changes. A question that comes twice is answered
alike.

Dimension key: E = copies, N = agents, A = actions.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.arrays import BoolArray, FloatArray
from learner.guides.base import Guide, Moment
from runtime.net import wire


class GuideActor:
    """Plays in E copies.

    Args:
        guide: in training; where it is, questions are answered.
        copies: E
        everywhere: it plays in evaluations as well, where it takes the likeliest action unless
            `sampled`.
        generator: of its draws.
    """

    def __init__(
        self,
        guide: Guide,
        copies: int,
        generator: torch.Generator,
        *,
        everywhere: bool,
        sampled: bool,
    ) -> None:
        self._in_training = guide
        self._guide = copy.deepcopy(guide).requires_grad_(False)  # torch's own
        self._everywhere, self._sampled = everywhere, sampled
        self._generator = generator
        self._memory = tuple(part.clone() for part in guide.begin(copies))  # written in place
        self._episodes_E: NDArray[np.int64] = np.full(copies, -1, dtype=np.int64)
        """Episode that each row of the memory is of."""
        self._last: wire.GuideAnswer | None = None
        self.lost: set[int] = set()
        """Episodes of which it has not seen the beginning: an earlier learner played that. What was
        played in them is of no known policy."""

    @torch.no_grad()
    def answer(self, question: wire.GuideQuestion) -> wire.GuideAnswer:
        """What everybody does, in the copies in which the guide plays."""
        if self._last is not None and self._last.tick == question.tick:
            return self._last
        explores_E = (question.flags & wire.EXPLORE) != 0
        plays_E = explores_E
        if self._everywhere:
            plays_E = (question.flags & wire.REST) == 0
        if not (explores_E & (question.steps > 0)).any():
            self._guide.load_state_dict(self._in_training.state_dict())
        dtype = wire.action_dtype(self._guide.num_actions)
        actions_EN = np.zeros(question.alive.shape, dtype=dtype)
        log_probs_EN: FloatArray = np.zeros(question.alive.shape, dtype=np.float32)
        if plays_E.any():
            self._look_for_lost(question, plays_E)
            actions, log_probs = self._act(question, plays_E, explores_E[plays_E] | self._sampled)
            actions_EN[plays_E], log_probs_EN[plays_E] = actions, log_probs
        self._last = wire.GuideAnswer(question.tick, actions_EN, log_probs_EN)
        return self._last

    def _look_for_lost(self, question: wire.GuideQuestion, plays_E: BoolArray) -> None:
        begins_E = plays_E & (question.steps == 0)
        self._episodes_E[begins_E] = question.episodes[begins_E]
        lost_E = plays_E & (self._episodes_E != question.episodes)
        self.lost.update(question.episodes[lost_E].tolist())

    def _act(
        self, question: wire.GuideQuestion, plays_E: BoolArray, draws_B: BoolArray
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """[B, N] actions and log-probabilities in the copies that are played."""
        device = next(self._guide.parameters()).device

        def rows(array: NDArray[np.generic]) -> Tensor:
            return torch.tensor(array[plays_E], device=device)

        allowed_BNA: Tensor | None = None
        if question.action_masks.size:
            count = self._guide.num_actions
            bits = np.unpackbits(question.action_masks, axis=-1, count=count, bitorder="little")
            allowed_BNA = rows(bits).bool()
        steps_B = rows(question.steps.astype(np.int64))
        now = Moment(
            rows(question.observations).float(),
            rows(question.alive).bool(),
            allowed_BNA,
            steps_B == 0,
            steps_B,
        )
        where_B = torch.tensor(np.flatnonzero(plays_E), device=device)
        before = tuple(tensor[where_B] for tensor in self._memory)
        draws = torch.tensor(draws_B, device=device)

        def draw(log_p_BA: Tensor) -> Tensor:
            drawn_B = torch.multinomial(log_p_BA.exp(), 1, generator=self._generator).squeeze(-1)
            return torch.where(draws, drawn_B, log_p_BA.argmax(-1))

        actions_BN, log_probs_BN, after = self._guide.act(now, before, draw)
        for kept, fresh in zip(self._memory, after, strict=True):
            kept[where_B] = fresh
        return actions_BN.cpu().numpy(), log_probs_BN.float().cpu().numpy()
