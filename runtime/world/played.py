"""What is played in a tick: the agents' choices as far as they can be, no-ops where there is none.

    Action packet -> fault or choice; settle -> actions that the environment allows

Dimension key: E = copies, N = agents, A = actions, n = numbers of an action.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.arrays import BoolArray
from envs.base import ActionArray, EnvSpec, Snapshot
from envs.spaces import Box
from runtime.net import wire


class Played:
    """Actions of all agents in all copies, as they come in."""

    def __init__(self, spec: EnvSpec, num_copies: int) -> None:
        box = spec.actions if isinstance(spec.actions, Box) else None
        self.wire_dtype = wire.action_dtype(0 if box else spec.num_actions)
        """Of one agent's actions, as they travel and are stored."""
        self._low_n = self._high_n = np.zeros(0, np.float32)
        self._noop: Any = spec.noop_action
        self._num_actions = spec.num_actions
        extra: tuple[int, ...] = ()
        if box is not None:
            self._low_n = np.array(box.low, dtype=np.float32)
            self._high_n = np.array(box.high, dtype=np.float32)
            self._noop = np.zeros(box.size, np.float32).clip(self._low_n, self._high_n)
            extra = (box.size,)
        self._is_box = box is not None
        self._shape = (num_copies, *extra)
        self.actions_EN: ActionArray = np.full(
            (num_copies, spec.num_agents, *extra),
            self._noop,
            dtype=np.float32 if box else np.int64,
        )
        """[E, N] numbers of actions, or [E, N, n]."""

    def tick_begins(self) -> None:
        self.actions_EN[:] = self._noop

    def fault_of(self, actions: NDArray[Any]) -> Literal["shape", "range"] | None:
        """Why an agent's actions cannot be played; None if they can."""
        if actions.shape != self._shape:
            return "shape"
        if self._is_box:
            return None if actions.dtype == np.float32 else "shape"
        if actions.dtype == np.float32:
            return "shape"
        return "range" if int(np.maximum.reduce(actions)) >= self._num_actions else None

    def take(self, agent: int, actions: NDArray[Any]) -> None:
        """An agent's actions that have no fault; numbers beyond the box are brought into it."""
        if self._is_box:
            actions = actions.clip(self._low_n, self._high_n)
        self.actions_EN[:, agent] = actions

    def settle(self, now: Sequence[Snapshot]) -> None:
        """Where an action is not allowed, the no-op takes its place, or else the first that is: an
        agent that is missing has not chosen, and one that is broken may choose anything.
        """
        for copy, snapshot in enumerate(now):
            allowed_NA = snapshot.action_masks_NA
            if allowed_NA is None:
                return
            actions_N = self.actions_EN[copy]
            agents_N = np.arange(len(actions_N))
            wrong_N: BoolArray = ~allowed_NA[agents_N, actions_N]
            if wrong_N.any():
                noop_N = allowed_NA[:, self._noop]
                actions_N[wrong_N] = self._noop
                unable_N = wrong_N & ~noop_N
                actions_N[unable_N] = allowed_NA.argmax(axis=1)[unable_N]
