"""The guide while the world plays: questions in, answers out, and what it remembers of each copy.

    GuideQuestion -> rows of the copies it plays -> Guide.act -> GuideAnswer
    Episode -> with what the guide remembered when it began -> rollout

It acts with a copy of its parameters, which it takes over when all copies that train begin another
episode, or piece of one: between two rounds or rollouts, as agents do. A question that comes twice
is answered alike.

Dimension key: E = copies, N = agents, A = actions, X = numbers of a memory.
"""

import copy
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.arrays import BoolArray, FloatArray
from configs.columns import Column
from learner.experience.episode import Episode
from learner.guides.base import Guide, Moment
from runtime.net import wire

MEMORY = Column("guide_memory", ("float32",), ("observation_dim",), once=True)
"""What the guide remembered when a piece began, which belongs to no agent: [X] in N rows, zeros
behind it. Nothing between agents and learner carries it."""


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
        """Episode, or piece of one, that each row of the memory is of."""
        self._steps_E: NDArray[np.int64] = np.full(copies, -1, dtype=np.int64)
        """Step of it that was played last."""
        self._begun_with: dict[int, FloatArray] = {}
        """[X] by number, of pieces that go on with an episode."""
        self._last: wire.GuideAnswer | None = None
        self._lost: set[int] = set()
        """Episodes of which it has not seen the beginning: an earlier learner played that."""

    @torch.no_grad()
    def answer(self, question: wire.GuideQuestion) -> wire.GuideAnswer:
        """What everybody does, in the copies in which the guide plays."""
        if self._last is not None and self._last.tick == question.tick:
            return self._last
        explores_E = (question.flags & wire.EXPLORE) != 0
        plays_E = explores_E
        if self._everywhere:
            plays_E = (question.flags & wire.REST) == 0
        if not (explores_E & (question.episodes == self._episodes_E)).any():
            self._guide.load_state_dict(self._in_training.state_dict())
        dtype = wire.action_dtype(self._guide.num_actions)
        actions_EN = np.zeros(question.alive.shape, dtype=dtype)
        log_probs_EN: FloatArray = np.zeros(question.alive.shape, dtype=np.float32)
        if plays_E.any():
            self._follow(question, plays_E)
            actions, log_probs = self._act(question, plays_E, explores_E[plays_E] | self._sampled)
            actions_EN[plays_E], log_probs_EN[plays_E] = actions, log_probs
        self._last = wire.GuideAnswer(question.tick, actions_EN, log_probs_EN)
        return self._last

    def with_memory(self, episode: Episode) -> Episode | None:
        """An episode that comes from the world, with what the guide remembered when it began; None
        if that is not known, as of one that an earlier learner began: what was played in it is of
        no known policy.
        """
        number = episode.number
        if number in self._lost:
            return None
        begun_with = self._begun_with.pop(number, None)
        if begun_with is None:
            if episode.piece.start > 0:
                return None
            begun_with = np.zeros(self._width, dtype=np.float32)
        agents = episode.actions.shape[1]
        rows = -(-self._width // agents)
        padded = np.zeros(agents * rows, dtype=np.float32)
        padded[: self._width] = begun_with
        return episode.with_column(MEMORY, padded.reshape(1, agents, rows))

    @property
    def _width(self) -> int:
        """X"""
        return sum(prod(part.shape[1:]) for part in self._memory)

    def _follow(self, question: wire.GuideQuestion, plays_E: BoolArray) -> None:
        """Note which episodes begin, what was remembered, and which began without this guide."""
        steps_E = question.steps.astype(np.int64)
        goes_on_E = (self._episodes_E >= 0) & (steps_E == self._steps_E + 1)
        same_E = self._episodes_E == question.episodes
        for copy_ in np.flatnonzero(plays_E & ~same_E & (steps_E > 0)).tolist():
            number = int(question.episodes[copy_])
            if goes_on_E[copy_] and int(self._episodes_E[copy_]) not in self._lost:
                parts = [part[copy_].flatten().cpu() for part in self._memory]
                self._begun_with[number] = torch.cat([*parts, torch.zeros(0)]).numpy()
            else:
                self._lost.add(number)
        lost_E = plays_E & same_E & ~goes_on_E
        self._lost.update(question.episodes[lost_E].tolist())
        self._episodes_E[plays_E] = question.episodes[plays_E]
        self._steps_E[plays_E] = steps_E[plays_E]

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


def memory_of(rows_BNX: Tensor, empty: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What `with_memory` has written, as memories.

    Args:
        rows_BNX: [B, N, …]
        empty: memories of B episodes that are about to begin.
    """
    flat_BX, parts, at = rows_BNX.flatten(1), list[Tensor](), 0
    for part in empty:
        size = prod(part.shape[1:])
        parts.append(flat_BX[:, at : at + size].view(part.shape))
        at += size
    return tuple(parts)
