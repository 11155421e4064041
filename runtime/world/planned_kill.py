"""The planned kill of an evaluation: victims die before a given step, once.

    steps of the evaluation -> is_due -> Kill (the node does it) -> death_is_known -> Aftermath

Dimension key: N = agents.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.net.failures import Aftermath
from runtime.world.commands import Kill


class PlannedKill:
    """The victims of an evaluation, and how the others fare."""

    def __init__(self, num_agents: int, victims: Sequence[int], kill_at: int) -> None:
        """Plan the kill.

        Args:
            victims: agents to be killed; none means that there is no kill.
            kill_at: steps that all copies of the evaluation have played when the kill comes.
        """
        self.killed: tuple[int, ...] = ()
        """Agents killed by now."""
        self.aftermath = Aftermath(num_agents, victims)
        self._victims = tuple(victims)
        self._kill_at = kill_at
        self._dying: set[int] = set()
        """Killed, and their deaths not announced yet."""
        self._evaluated_steps = 0
        """Steps since the evaluation began."""

    @property
    def is_under_way(self) -> bool:
        """Whether a death that the world has ordered is not known yet."""
        return bool(self._dying)

    @property
    def is_due(self) -> bool:
        """Whether the victims die before the next step of the evaluation that is being played."""
        return bool(self._victims) and not self.killed and self._evaluated_steps == self._kill_at

    def evaluation_begins(self) -> None:
        self._evaluated_steps = 0

    def evaluation_step(
        self, acting_EN: NDArray[np.bool_], masks_EN: NDArray[np.unsignedinteger[Any]]
    ) -> None:
        """A step of an evaluation: who lived and acted in the copies that count, and on which
        out-edges.
        """
        self._evaluated_steps += 1
        self.aftermath.count_step(acting_EN, masks_EN, is_after=bool(self.killed))

    def carry_out(self, up_N: NDArray[np.bool_]) -> list[Kill]:
        """Have the victims killed; those that are down already need no announcement."""
        self.killed = self._victims
        self._dying = {agent for agent in self.killed if up_N[agent]}
        return [Kill(agent) for agent in self.killed]

    def death_is_known(self, agent: int) -> None:
        self._dying.discard(agent)
