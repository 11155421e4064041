"""Which action an agent takes: one class for each way, chosen when the agent is made.

    values [E, A] of the policy's head, what is allowed -> Actor.choose -> actions [E]

    EpsilonGreedy   the best value; in training now and then a random action
    Sample          drawn from softmax(values) in training, or always; else the likeliest
    SampleBox       the same of real numbers, of which the values say means and log deviations
    Random          uniform, whatever the values say

Actions that the environment does not allow are never chosen. Guides choose elsewhere: the world
plays what they say (runtime/world/guide.py).

Dimension key: E = copies, A = actions, n = numbers of an action.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from agents import tanh_normal
from agents.participation import Participation
from agents.tanh_normal import Scale
from configs.arrays import BoolArray, Bounds, FloatArray
from configs.columns import LOG_PROB
from runtime.net import wire

Acting = Literal["epsilon-greedy", "sample", "sample-always", "random"]

ActionArray = NDArray[Any]
"""[E] uint8 or uint16, or [E, n] float32, as they cross the wire; zeros of the dead."""
_NOTHING: Mapping[str, NDArray[Any]] = MappingProxyType({})


class Actor(Protocol):
    """Chooses the actions of one agent in E copies."""

    computed: Mapping[str, NDArray[Any]]
    """[E, …] columns that came with the last choice, by name."""

    def choose(
        self,
        values_EA: FloatArray,
        now: wire.Observation,
        takes_part: Participation,
        allowed_EA: BoolArray | None,
    ) -> ActionArray:
        """Choose.

        Args:
            values_EA: what the policy's head says.
            allowed_EA: actions that the environment allows, at least one in each row; None: all.
        """
        ...


class EpsilonGreedy:
    """The best action; in copies that explore, a random one with the chance that the world says."""

    def __init__(self, num_actions: int, rng: np.random.Generator) -> None:
        """
        Args:
            rng: the agent's own; nothing is drawn where no copy explores.
        """
        self.computed = _NOTHING
        self._dtype = wire.action_dtype(num_actions)
        self._rng = rng

    def choose(
        self,
        values_EA: FloatArray,
        now: wire.Observation,
        takes_part: Participation,
        allowed_EA: BoolArray | None,
    ) -> ActionArray:
        """[E] see `Actor.choose`."""
        if allowed_EA is not None:
            values_EA = np.where(allowed_EA, values_EA, np.float32(-np.inf))
        actions_E = values_EA.argmax(axis=1).astype(self._dtype)
        if now.epsilon > 0.0 and takes_part.any_explores:
            if allowed_EA is None:
                num_actions, count = values_EA.shape[1], len(actions_E)
                random_E = self._rng.integers(0, num_actions, size=count, dtype=self._dtype)
            else:
                random_E = _drawn(allowed_EA, self._rng.random(len(actions_E))).astype(self._dtype)
            dice_E = self._rng.random(len(actions_E)) < now.epsilon
            actions_E = np.where(dice_E & takes_part.explores_E, random_E, actions_E)
        return _of_living(actions_E, takes_part)


class Sample:
    """An action drawn from softmax(values) in copies that explore, the likeliest elsewhere.

    Args:
        always: drawn everywhere, for policies that are worth less where they can be predicted.
    """

    def __init__(self, num_actions: int, rng: np.random.Generator, *, always: bool = False) -> None:
        self.computed: Mapping[str, NDArray[Any]] = _NOTHING
        """The action's log-probability under the softmax."""
        self._dtype = wire.action_dtype(num_actions)
        self._rng = rng
        self._always = always

    def choose(
        self,
        values_EA: FloatArray,
        now: wire.Observation,
        takes_part: Participation,
        allowed_EA: BoolArray | None,
    ) -> ActionArray:
        """[E] see `Actor.choose`; the world's epsilon has no say."""
        if allowed_EA is not None:
            values_EA = np.where(allowed_EA, values_EA, np.float32(-np.inf))
        best_E = values_EA.argmax(axis=1)
        copies_E = np.arange(len(best_E))
        shifted_EA = (values_EA - values_EA[copies_E, best_E][:, None]).astype(np.float64)
        weights_EA = np.exp(shifted_EA)
        chosen_E = best_E
        if self._always:
            chosen_E = _drawn(weights_EA, self._rng.random(len(best_E)))
        elif takes_part.any_explores:
            drawn_E = _drawn(weights_EA, self._rng.random(len(best_E)))
            chosen_E = np.where(takes_part.explores_E, drawn_E, best_E)
        log_probs_E = shifted_EA[copies_E, chosen_E] - np.log(weights_EA.sum(axis=1))
        self.computed = {LOG_PROB.name: log_probs_E.astype(np.float32)}
        return _of_living(chosen_E.astype(self._dtype), takes_part)


class SampleBox:
    """Real numbers drawn from a squeezed normal in copies that explore (agents/tanh_normal.py), its
    mean elsewhere.

    Args:
        bounds: of each number, the lower ones first.
        always: drawn everywhere.
    """

    def __init__(self, bounds: Bounds, rng: np.random.Generator, *, always: bool = False) -> None:
        self.computed: Mapping[str, NDArray[Any]] = _NOTHING
        """The action's log-density."""
        self._scale = Scale.of(bounds)
        self._rng = rng
        self._always = always

    def choose(
        self,
        values_EA: FloatArray,
        now: wire.Observation,
        takes_part: Participation,
        allowed_EA: BoolArray | None,
    ) -> ActionArray:
        """[E, n] see `Actor.choose`; of real numbers all are allowed."""
        scale = self._scale
        if self._always:
            actions_En = tanh_normal.drawn(values_EA, scale, self._rng)
        else:
            actions_En = tanh_normal.mode(values_EA, scale)
            if takes_part.any_explores:
                drawn_En = tanh_normal.drawn(values_EA, scale, self._rng)
                actions_En = np.where(takes_part.explores_E[:, None], drawn_En, actions_En)
        self.computed = {LOG_PROB.name: tanh_normal.log_prob(values_EA, scale, actions_En)}
        return _of_living(actions_En, takes_part)


class Random:
    """Uniform over all actions, or over a box of real numbers."""

    def __init__(
        self,
        num_actions: int,
        bounds: Bounds | None,
        rng: np.random.Generator,
    ) -> None:
        """
        Args:
            bounds: of each number of an action, the lower ones first; None: actions are chosen.
        """
        self.computed = _NOTHING
        self._dtype = wire.action_dtype(0 if bounds else num_actions)
        self._bounds = bounds
        self._rng = rng

    def choose(
        self,
        values_EA: FloatArray,
        now: wire.Observation,
        takes_part: Participation,
        allowed_EA: BoolArray | None,
    ) -> ActionArray:
        """[E], or [E, n] of real numbers; see `Actor.choose`."""
        count, num_actions = len(values_EA), values_EA.shape[1]
        actions: ActionArray
        if self._bounds is not None:
            low_n, high_n = self._bounds
            uniforms = self._rng.random((count, len(low_n)))
            low, high = np.array(low_n), np.array(high_n)
            actions = (low + uniforms * (high - low)).astype(np.float32)
        elif allowed_EA is None:
            actions = self._rng.integers(0, num_actions, size=count, dtype=self._dtype)
        else:
            actions = _drawn(allowed_EA, self._rng.random(count)).astype(self._dtype)
        return _of_living(actions, takes_part)


def allowed_actions(
    now: wire.Observation, takes_part: Participation, num_actions: int
) -> BoolArray | None:
    """[E, A] actions that the environment allows, all of them for the dead; None: all are."""
    masks = now.action_masks
    if not masks.size:
        return None
    rows = np.unpackbits(masks, axis=1, count=num_actions, bitorder="little").astype(np.bool_)
    allowed_EA = np.ones((len(takes_part.alive_E), num_actions), dtype=np.bool_)
    allowed_EA[takes_part.alive_E] = rows | ~rows.any(axis=1, keepdims=True)
    return allowed_EA


def make_actor(
    acting: Acting,
    num_actions: int,
    bounds: Bounds | None,
    rng: np.random.Generator,
) -> Actor:
    """The actor of an agent.

    Raises:
        ValueError: actions are real numbers, and this way of acting chooses from a list.
    """
    if acting == "random":
        return Random(num_actions, bounds, rng)
    if bounds is not None and acting in ("sample", "sample-always"):
        return SampleBox(bounds, rng, always=acting == "sample-always")
    if bounds is not None:
        raise ValueError(f"acting {acting} chooses from a list of actions, these are real numbers")
    if acting == "epsilon-greedy":
        return EpsilonGreedy(num_actions, rng)
    return Sample(num_actions, rng, always=acting == "sample-always")


def acting_without_training(bounds: Bounds | None) -> Acting:
    """How a trained policy acts where nobody explores, whatever trained it: by the best action, or
    by the middle of what it would draw real numbers from.
    """
    return "epsilon-greedy" if bounds is None else "sample"


def _drawn(weights_EA: NDArray[Any], uniforms_E: NDArray[np.float64]) -> NDArray[np.int64]:
    """[E] an action in proportion to its weight; one without weight never."""
    sums_EA = np.cumsum(weights_EA, axis=1, dtype=np.float64)
    # Strictly below the total, whatever rounding does: u < 1, and the last action with weight is
    # the first to reach the total.
    marks_E = np.minimum(uniforms_E * sums_EA[:, -1], np.nextafter(sums_EA[:, -1], 0.0))
    return (sums_EA <= marks_E[:, None]).sum(axis=1)


def _of_living(actions: ActionArray, takes_part: Participation) -> ActionArray:
    if takes_part.num_alive < len(actions):
        actions[~takes_part.alive_E] = 0
    return actions
