"""Spaces of gymnasium as ours: what agents see as rows of numbers, what they do as one action.

    Box | Discrete | MultiDiscrete | Dict … of each agent  ->  Sights, Deeds
    Sights.row(agent, seen) -> [D]         Deeds.played(agent, action) -> what the environment takes

Agents of several kinds share one specification: rows are as long as the longest, filled up with
zeros, and end with the number of the kind, one-hot; actions are as many as the most, and masks
exclude those that an agent has not.

Dimension key: N = agents, D = observation features, A = actions.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from configs.arrays import BoolArray
from envs.base import ObservationDtype
from envs.spaces import ActionSpace, Box, Discrete, MultiDiscrete

Space = spaces.Space[Any]
MASK = "action_mask"
"""Key under which an observation, or what is said beside it, names the actions that are allowed."""


class SpaceError(ValueError):
    """A space of the environment is none that agents can see or act in."""


def kinds_of(keys: Sequence[Any]) -> tuple[int, ...]:
    """[N] numbers in the order of first appearance; empty if all keys are equal."""
    known: list[Any] = []
    for key in keys:
        if key not in known:
            known.append(key)
    return () if len(known) == 1 else tuple(known.index(key) for key in keys)


class Sights:
    """What each agent sees, as rows of one length and one dtype."""

    def __init__(self, seen: Sequence[Space], kinds_N: Sequence[int]) -> None:
        """Lay out the rows.

        Args:
            seen: observation space of each agent.
            kinds_N: kind of each agent; empty if all are alike.

        Raises:
            SpaceError: a space that cannot be made a row of numbers.
        """
        self.masked_N = [_has_mask(space) for space in seen]
        self._spaces = [_without_mask(space) for space in seen]
        boxes = [_flat_box(space) for space in self._spaces]
        kinds = {box.dtype for box in boxes}
        (first, *_) = self._spaces
        alike = all(space.shape == first.shape for space in self._spaces)
        self.dtype: ObservationDtype = "float32"
        if kinds == {np.dtype(np.uint8)}:
            self.dtype = "uint8"
        elif kinds == {np.dtype(np.float16)}:
            self.dtype = "float16"
        length = max(math.prod(box.shape) for box in boxes)
        is_image = alike and isinstance(first, spaces.Box) and len(first.shape) > 1
        self.shape: tuple[int, ...] = cast("Any", first).shape if is_image else (length,)
        self._tails = np.zeros((len(seen), 0), dtype=self.dtype)
        if kinds_N and not is_image:
            # Shared networks tell kinds apart by it. An image has no place for it: its network
            # knows the kinds by the specification.
            self._tails = np.eye(max(kinds_N) + 1, dtype=self.dtype)[np.array(kinds_N)]
            self.shape = (length + self._tails.shape[1],)
        self._length = length

    def row(self, agent: int, seen: Any, out_D: NDArray[Any]) -> None:
        """Write what an agent sees into its row."""
        if self.masked_N[agent]:
            seen = cast("dict[str, Any]", seen)
            rest = {name: value for name, value in seen.items() if name != MASK}
            seen = next(iter(rest.values())) if len(rest) == 1 else rest
        space = self._spaces[agent]
        if isinstance(space, spaces.Box):
            flat = np.asarray(seen).reshape(-1)
        else:
            flat = cast("NDArray[Any]", spaces.flatten(space, seen))
        out_D[: len(flat)] = flat
        out_D[self._length :] = self._tails[agent]


class Deeds:
    """What each agent can do, as actions of one space."""

    def __init__(self, acts: Sequence[Space]) -> None:
        """Find the one space.

        Args:
            acts: action space of each agent.

        Raises:
            SpaceError: some choose and others act by real numbers, or in a space that is neither.
        """
        own = [_action_space(space) for space in acts]
        self._own = own
        self._acts = list(acts)
        (first, *_) = own
        self.are_alike = all(space == first for space in own)
        self.space: ActionSpace = first
        if not self.are_alike:
            boxes = [space for space in own if isinstance(space, Box)]
            if boxes and len(boxes) < len(own):
                raise SpaceError("some of its agents choose actions and others act by real numbers")
            if boxes:
                most = max(box.size for box in boxes)
                self.space = Box((-1.0,) * most, (1.0,) * most)
            else:
                self.space = Discrete(max(cast("Discrete | MultiDiscrete", s).n for s in own))

    def num_actions(self, agent: int) -> int:
        """Of this agent's own, of which the first are."""
        own = self._own[agent]
        return own.size if isinstance(own, Box) else own.n

    def played(self, agent: int, action: Any) -> Any:
        """What the environment is told for an action of ours."""
        own, act = self._own[agent], self._acts[agent]
        if isinstance(own, Box):
            reals = np.asarray(action, dtype=np.float64)[: own.size]
            low, high = np.array(own.low), np.array(own.high)
            if not self.are_alike:
                reals = low + (reals + 1.0) / 2.0 * (high - low)
            reals = np.clip(reals, low, high)
            if np.issubdtype(cast("np.dtype[Any]", act.dtype), np.integer):
                reals = np.rint(reals)
            return reals.reshape(act.shape).astype(act.dtype)
        index = min(int(action), own.n - 1)
        if isinstance(act, spaces.Discrete):
            return int(act.start) + index
        parts = np.array(cast("MultiDiscrete", own).parts_of(index)).reshape(act.shape)
        if isinstance(act, spaces.MultiDiscrete):
            parts = parts + cast("NDArray[np.int64]", cast("Any", act).start)
        return parts.astype(cast("Any", act).dtype)

    def own_mask(self, agent: int) -> BoolArray:
        """[A] actions of the shared space that are this agent's."""
        assert not isinstance(self.space, Box)
        return np.arange(self.space.n) < self.num_actions(agent)


def _action_space(space: Space) -> ActionSpace:
    match space:
        case spaces.Discrete():
            return Discrete(int(space.n))
        case spaces.MultiDiscrete():
            return MultiDiscrete(tuple(int(n) for n in space.nvec.reshape(-1)))
        case spaces.MultiBinary():
            return MultiDiscrete((2,) * math.prod(space.shape))
        case spaces.Box():
            low, high = (np.asarray(b, np.float64).reshape(-1) for b in (space.low, space.high))
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise SpaceError(f"its action space {space} has no bounds: agents need some")
            return Box(tuple(low.tolist()), tuple(high.tolist()))
        case _:
            raise SpaceError(
                f"its action space {space} is none that agents can act in: Discrete, "
                "MultiDiscrete, MultiBinary or Box"
            )


def _has_mask(space: Space) -> bool:
    return isinstance(space, spaces.Dict) and MASK in cast("Any", space).spaces


def _without_mask(space: Space) -> Space:
    if not _has_mask(space):
        return space
    rest = {name: s for name, s in cast("Any", space).spaces.items() if name != MASK}
    return next(iter(rest.values())) if len(rest) == 1 else spaces.Dict(rest)


def _flat_box(space: Space) -> spaces.Box:
    try:
        flat = cast("Any", spaces).flatten_space(space)
    except NotImplementedError:
        flat = None
    if not isinstance(flat, spaces.Box) or 0 in flat.shape:
        raise SpaceError(f"its observation space {space} cannot be made a row of numbers")
    return cast("spaces.Box[Any]", flat)
