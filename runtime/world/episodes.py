"""Episodes and copies: which episode each copy plays, for what, and what remains of it.

    actions [E, N] -> Episodes.play -> EpisodeEnd(result, record), and the next episode of the copy

Where rollouts have a fixed length, each of them ends in all copies at once: episodes that have not
ended are cut, and the learner gets them piece by piece.

Every copy is, for the length of an episode, either a training copy (agents explore, the episode
goes to the learner) or an evaluation copy (agents act greedily); evaluation episodes are counted in
the order in which they began, so that short ones are not preferred.

Dimension key: E = copies, N = agents, T = steps.
"""

from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs import streams
from configs.arrays import BoolArray, FloatArray
from configs.columns import ACTION_MASK, GUIDE_LOG_PROB, GUIDED, PIECE, PRESENT
from configs.streams import Role
from envs.base import ActionArray, Snapshot
from envs.copies import CopyStep, EnvCopies
from runtime.net import wire
from runtime.world.rules import WorldRules

MOST_SEEN = 65504.0
"""Largest number of an observation that agents take."""


class Phase(Enum):
    """Values are those of wire.PHASES."""

    TRAINING = "training"
    TRAINED = "trained"
    """All training steps are done; nothing moves until an evaluation is asked for."""
    EVALUATING = "evaluating"
    DONE = "done"


class _Mode(Enum):
    TRAIN = auto()
    EVALUATE = auto()
    REST = auto()
    """The evaluation needs the copy no more, or the round of training goes on elsewhere: it is not
    played, and nobody takes part in it, so that bytes and latency are of the episodes that count
    and no others."""


@dataclass(slots=True)
class _DueEvaluation:
    """An evaluation of which episodes have yet to begin."""

    env_steps: int
    """Training steps when it fell due."""
    episodes: int
    begun: int = 0


class _Episode:
    """One copy's episode in progress, or a piece of it, as the learner will want it."""

    def __init__(
        self,
        number: int,
        mode: _Mode,
        first: Snapshot,
        evaluated_at: int,
        *,
        start: int = 0,
        return_before: float = 0.0,
        present_N: BoolArray | None = None,
    ) -> None:
        """
        Args:
            start: steps of the episode before the piece.
            return_before: of these steps.
            present_N: who took part in the last of them; None: nobody.
        """
        self.start, self.return_before = start, return_before
        self.present_N = np.zeros_like(first.alive_N) if present_N is None else present_N
        self.number = number
        self.mode = mode
        self.evaluated_at = evaluated_at
        self.states = [first.state_S]
        self.alive = [first.alive_N]
        self.actions: list[NDArray[Any]] = []
        self.masks: list[BoolArray | None] = [first.action_masks_NA]
        self.guided: list[BoolArray] = []
        self.guide_log_probs: list[FloatArray] = []
        self.rewards: list[FloatArray] = []
        self.complete = True

    @property
    def step(self) -> int:
        """Of the whole episode."""
        return self.start + len(self.rewards)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum over steps of the mean over all N agents, the dead counting zero."""
        rewards_TN = np.array(self.rewards)
        return self.return_before + float(rewards_TN.astype(np.float64).mean(axis=1).sum())

    def needs(self, agent: int) -> bool:
        """Whether the piece is not whole without this agent from now on."""
        return bool(self.alive[-1][agent] or (not self.rewards and self.present_N[agent]))

    def record(
        self,
        env_steps: int,
        last: CopyStep,
        columns: Sequence[str],
        where: tuple[int, int] = (0, 0),
        *,
        goes_on: bool = False,
    ) -> wire.EpisodeRecord:
        """
        Args:
            where: rollout and copy.
            goes_on: the episode has not ended.
        """
        after = last.transition.after
        kept: dict[str, NDArray[Any]] = {}
        if after.action_masks_NA is not None:
            kept[ACTION_MASK.name] = np.array(self.masks, dtype=np.uint8)
        if GUIDED.name in columns:
            kept[GUIDED.name] = np.array(self.guided, dtype=np.uint8)
        if PIECE.name in columns:
            piece = np.array([*where, self.start, goes_on], dtype=np.uint32)
            kept[PIECE.name] = np.tile(piece, (1, len(self.present_N), 1))
            kept[PRESENT.name] = self.present_N.astype(np.uint8)[None]
        if GUIDE_LOG_PROB.name in columns:
            kept[GUIDE_LOG_PROB.name] = np.array(self.guide_log_probs, dtype=np.float32)
        return wire.EpisodeRecord(
            episode=self.number,
            env_steps=env_steps,
            states=np.array(self.states, dtype=np.float32),
            actions=np.array(self.actions),
            rewards=np.array(self.rewards, dtype=np.float32),
            alive=np.array(self.alive, dtype=np.uint8),
            terminated=int(last.transition.terminated),
            complete=int(self.complete),
            final_observations=on_wire(after.observations_ND),
            columns=kept,
        )


def on_wire(observations: NDArray[Any]) -> NDArray[Any]:
    """As they travel: an agent takes no number beyond those of float16."""
    if observations.dtype == np.float32:
        return observations.clip(-MOST_SEEN, MOST_SEEN)
    return observations


class EpisodeEnd(NamedTuple):
    """What a copy's episode leaves when it ends."""

    copy: int
    result: wire.EpisodeResult | None
    """None: the episode goes on, or is left before its end."""
    rewards_TN: FloatArray
    record: wire.EpisodeRecord | None
    """For the learner; None where the episode is not recorded."""


class Episodes:
    """E copies, each in an episode; how far training and evaluations have come."""

    def __init__(
        self,
        copies: EnvCopies,
        num_copies: int,
        rules: WorldRules,
        *,
        env_steps: int,
        episodes: int,
    ) -> None:
        """Begin the first episodes, if there is training to do.

        Args:
            env_steps: training steps of an earlier run that this one continues.
            episodes: episodes of that earlier run.
        """
        self._copies = copies
        self._rules = rules
        spec = copies.spec
        self._action_dtype = wire.action_dtype(0 if spec.is_continuous else spec.num_actions)
        self.env_steps = env_steps
        """Training steps of all copies together, continued from an earlier run."""
        self.steps_played = 0
        """Steps of all copies together in this life, those of evaluations included."""
        self.num_begun = episodes
        """Episodes begun so far; also the next episode's number."""
        self.rollouts = 0
        """Rollouts of fixed length that have ended."""
        self.begins_anew = False
        """With the last step all copies have left their episodes for others."""
        self._rollout = episodes
        """Number of the rollout; it grows from one to the next."""
        self._rollout_step = 0
        """Steps of it that have been played."""
        self.evaluations_left = 0
        """Evaluation episodes that have been begun or will be, and are not finished."""
        self.now: tuple[Snapshot, ...] = ()
        """[E] what is seen now; nothing before the first episode."""
        self._evaluations_due: deque[_DueEvaluation] = deque()
        self._opponents_E = np.zeros(num_copies, dtype=np.int64)
        """Index of the opponent in each copy's episode."""
        self._evaluate_at = env_steps if rules.evaluation_interval else 0
        self._train_until = rules.train_steps
        """Training steps after which training ends."""
        self._current: list[_Episode] = []
        if rules.train_steps > env_steps:
            self.phase = Phase.TRAINING
            self._begin_all()
        else:
            self.phase = Phase.TRAINED

    # --- what is played now -----------------------------------------------------------------------

    @property
    def numbers_E(self) -> NDArray[np.uint32]:
        return np.array([episode.number for episode in self._current], dtype=np.uint32)

    @property
    def steps_E(self) -> NDArray[np.uint16]:
        """[E] steps that each copy has played of its episode."""
        return np.array([episode.step for episode in self._current], dtype=np.uint16)

    @property
    def explores_E(self) -> BoolArray:
        """[E] copies in which agents explore."""
        return np.array([episode.mode is _Mode.TRAIN for episode in self._current])

    @property
    def evaluates_E(self) -> BoolArray:
        """[E] copies whose episode counts in an evaluation."""
        return np.array([episode.mode is _Mode.EVALUATE for episode in self._current])

    @property
    def rests_E(self) -> BoolArray:
        """[E] copies that are not played."""
        return np.array([episode.mode is _Mode.REST for episode in self._current])

    @property
    def is_last_of_rollout(self) -> bool:
        """Whether a rollout of fixed length ends with the next step."""
        return self._trains_all() and self._rollout_step + 1 == self._rules.rollout_steps

    @property
    def policy_may_change(self) -> bool:
        """Whether a steady agent may take up another policy with the next step."""
        if self._rules.rollout_steps:
            return self._rollout_step == 0
        return all(e.step == 0 for e in self._current if e.mode is _Mode.TRAIN)

    @property
    def alive_EN(self) -> BoolArray:
        """[E, N] agents that live in a copy that is played."""
        alive_EN = np.array([snapshot.alive_N for snapshot in self.now])
        alive_EN[self.rests_E] = False
        return alive_EN

    # --- events -----------------------------------------------------------------------------------

    def finish_training(self) -> None:
        """Training has taken as many steps as it needs: it ends with the step under way."""
        self._train_until = min(self._train_until, self.env_steps)

    def evaluate(self, episodes: int) -> None:
        """Leave training behind and play this many evaluation episodes."""
        self.phase = Phase.EVALUATING
        self._rollout_step = 0
        # One that training has cut off is not continued: figures are of whole evaluations.
        self._evaluations_due.clear()
        self.evaluations_left = 0
        self._evaluation_falls_due(episodes)
        self._begin_all()

    def spoil(self, agent: int) -> None:
        """An agent is gone: the episodes in which it lives will not be whole."""
        for copy, episode in enumerate(self._current):
            if self.now[copy].alive_N[agent] or episode.needs(agent):
                episode.complete = False

    def play(
        self,
        actions_EN: ActionArray,
        acted_N: BoolArray,
        guided_EN: BoolArray | None = None,
        guide_log_probs_EN: FloatArray | None = None,
    ) -> list[EpisodeEnd]:
        """Move every copy by one step; episodes that end make way for the next at once.

        Args:
            acted_N: agents that chose their actions; an episode in which another one lives will
                not be whole.
            guided_EN: where a guide chose the action; None: nowhere.
            guide_log_probs_EN: of the guide's actions, if it is asked for them.
        """
        if guided_EN is None:
            guided_EN = np.zeros(actions_EN.shape[:2], dtype=np.bool_)
        if guide_log_probs_EN is None:
            guide_log_probs_EN = np.zeros(actions_EN.shape[:2], dtype=np.float32)
        rests_E = self.rests_E
        for episode, alive_N in zip(self._current, self.alive_EN, strict=True):
            if (alive_N & ~acted_N).any():
                episode.complete = False
        trains_all, self.begins_anew = self._trains_all(), False
        steps = self._copies.step(actions_EN, self._opponents_E, rests_E)
        self.now = tuple(step.now for step in steps)
        self.steps_played += int(np.count_nonzero(~rests_E))
        ends: list[EpisodeEnd] = []
        for copy in np.flatnonzero(~rests_E).tolist():
            episode, step = self._current[copy], steps[copy]
            episode.actions.append(actions_EN[copy].astype(self._action_dtype))
            episode.guided.append(guided_EN[copy])
            episode.guide_log_probs.append(guide_log_probs_EN[copy])
            episode.masks.append(step.transition.after.action_masks_NA)
            episode.rewards.append(step.transition.rewards_N)
            episode.states.append(step.transition.after.state_S)
            episode.alive.append(step.transition.after.alive_N)
            if episode.mode is _Mode.TRAIN:
                self.env_steps += 1
            if step.transition.terminated or step.transition.truncated:
                ends.append(self._finish(copy, step))
        if trains_all and self._rules.rollout_steps:
            self._rollout_step += 1
            if self._rollout_step == self._rules.rollout_steps:
                ends += self._end_rollout(steps, {end.copy for end in ends}, acted_N)
        if self._rules.in_rounds and rests_E.all() and self.phase is Phase.TRAINING:
            # One tick after the last has ended: with it agents have been told, and have sent what
            # the learner makes their next policy of.
            self._current = [
                self._new_episode(copy, snapshot) for copy, snapshot in enumerate(self.now)
            ]
        self.turn_phase()
        return ends

    # --- one after the other ----------------------------------------------------------------------

    def _trains_all(self) -> bool:
        return all(episode.mode is _Mode.TRAIN for episode in self._current)

    def _end_rollout(
        self, steps: Sequence[CopyStep], ended: Container[int], acted_N: BoolArray
    ) -> list[EpisodeEnd]:
        """Cut all episodes but those that have just ended."""
        ends: list[EpisodeEnd] = []
        for copy, episode in enumerate(self._current):
            if copy in ended:
                continue
            record = None
            if self._is_recorded(episode.mode):
                record = self._record(copy, steps[copy], goes_on=True)
            ends.append(EpisodeEnd(copy, None, np.array(episode.rewards), record))
            present_N = episode.alive[-2]
            if self._rules.dead == "relay":
                present_N = np.ones_like(present_N)
            following = _Episode(
                self.num_begun,
                episode.mode,
                steps[copy].now,
                episode.evaluated_at,
                start=episode.step,
                return_before=episode.episode_return,
                present_N=present_N,
            )
            # Nobody knows what an agent that was not there would have remembered.
            following.complete = not (present_N & ~acted_N).any()
            self._current[copy] = following
            self.num_begun += 1
        self._rollout, self._rollout_step = self.num_begun, 0
        self.rollouts += 1
        return ends

    def _record(self, copy: int, last: CopyStep, *, goes_on: bool = False) -> wire.EpisodeRecord:
        where, columns = (self._rollout, copy), self._rules.columns
        return self._current[copy].record(self.env_steps, last, columns, where, goes_on=goes_on)

    def _finish(self, copy: int, last: CopyStep) -> EpisodeEnd:
        """Sum up a copy's episode and begin the next."""
        episode = self._current[copy]
        evaluation = episode.mode is _Mode.EVALUATE
        self.evaluations_left -= int(evaluation)
        result = wire.EpisodeResult(
            episode=episode.number,
            evaluation=int(evaluation),
            env_steps=self.env_steps,
            length=episode.step,
            episode_return=episode.episode_return,
            won=int(last.transition.won),
            opponent=int(self._opponents_E[copy]),
            evaluated_at=episode.evaluated_at,
            metrics=dict(last.transition.metrics),
        )
        record = self._record(copy, last) if self._is_recorded(episode.mode) else None
        waits = self.phase is Phase.TRAINING and self._rules.in_rounds
        if self._rules.rollout_steps and (episode.mode is _Mode.TRAIN or self._evaluations_due):
            waits = False
        if waits or (self.phase is Phase.EVALUATING and not self._evaluations_due):
            episode.mode = _Mode.REST
        else:
            self._current[copy] = self._new_episode(copy, last.now)
        return EpisodeEnd(copy, result, np.array(episode.rewards), record)

    def _is_recorded(self, mode: _Mode) -> bool:
        match self._rules.ships:
            case "none":
                return False
            case "training":
                return mode is _Mode.TRAIN
            case "all":
                return True

    def turn_phase(self) -> None:
        """Go on to what comes next, if it is time; between two steps."""
        rules = self._rules
        if self._rollout_step:
            return  # a rollout of fixed length is played to its end
        if self.phase is Phase.TRAINING:
            if self.env_steps >= self._train_until:
                self.phase = Phase.TRAINED
            elif rules.evaluation_interval and self.env_steps >= self._evaluate_at:
                self._evaluate_at += rules.evaluation_interval
                self._evaluation_falls_due(rules.evaluation_episodes)
                if rules.rollout_steps and self.evaluations_left:
                    self.begins_anew = True
                    self._begin_everywhere()
        elif self.phase is Phase.EVALUATING and self.evaluations_left == 0:
            self.phase = Phase.DONE

    def _begin_all(self) -> None:
        if self.phase is Phase.TRAINING and self._rules.evaluation_interval:
            self._evaluate_at = self.env_steps + self._rules.evaluation_interval
            self._evaluation_falls_due(self._rules.evaluation_episodes)
        self._begin_everywhere()

    def _begin_everywhere(self) -> None:
        self.now = self._copies.reset()
        self._current = [
            self._new_episode(copy, snapshot) for copy, snapshot in enumerate(self.now)
        ]

    def _evaluation_falls_due(self, episodes: int) -> None:
        if episodes:
            self._evaluations_due.append(_DueEvaluation(self.env_steps, episodes))
            self.evaluations_left += episodes

    def _new_episode(self, copy: int, first: Snapshot) -> _Episode:
        number = self.num_begun
        self.num_begun += 1
        schedule = self._rules.opponents
        if not self._evaluations_due:
            waits = self._rules.rollout_steps and self.evaluations_left
            trains = self.phase is Phase.TRAINING and not waits
            mode = _Mode.TRAIN if trains else _Mode.REST
            self._opponents_E[copy] = 0 if schedule is None else self._draw_opponent(number)
            return _Episode(number, mode, first, 0)
        # Every evaluation begins with the first opponent, so that each gets the same share of all.
        due = self._evaluations_due[0]
        self._opponents_E[copy] = 0 if schedule is None else schedule.in_turn(due.begun)
        due.begun += 1
        if due.begun == due.episodes:
            self._evaluations_due.popleft()
        return _Episode(number, _Mode.EVALUATE, first, due.env_steps)

    def _draw_opponent(self, number: int) -> int:
        """Index of the opponent of a training episode."""
        rules = self._rules
        assert rules.opponents is not None
        chance = streams.generator(
            rules.seed, Role.OPPONENT_CHOICE, life=rules.life, episode=number
        ).random()
        return rules.opponents.draw(self.env_steps, chance)
