"""Policy versions in this host's memory, for all of its agents.

    ParameterStore -> Sharing.share -> segment (agents/segment.py), SharedVersion -> every agent

Versions reach a node once, over its socket to the learner. Where they cannot be shared they go on
over sockets, to each agent: for good if the kernel gives us no segment, else for that version.
"""

import logging

import numpy as np

from agents.parameters import ParameterStore
from agents.rules import AgentRules
from agents.segment import SegmentHandle, SegmentWriter
from agents.shared_parameters import freeze
from runtime.net import wire

logger = logging.getLogger(__name__)

_NO_ZERO = np.float32(1e-3)


class Sharing:
    """A host's segment, and which version in it is the newest."""

    def __init__(self, rules: AgentRules, parameters: ParameterStore) -> None:
        """Make a segment and put the first version there.

        Raises:
            OSError: the kernel gives us none.
        """
        self._rules = rules
        # Slots have one size for the whole run, and a sparse policy may grow denser.
        flat = np.where(parameters.flat == 0.0, _NO_ZERO, parameters.flat)
        dense = freeze(rules.spec, flat, rules.num_agents)
        self._segment = SegmentWriter(dense.size)
        self._newest: wire.SharedVersion | None = None
        self._has_warned = False
        if self.share(parameters) is None:
            self._segment.close()
            raise OSError(None, "there is no memory for the first version")

    @classmethod
    def where_possible(cls, rules: AgentRules, parameters: ParameterStore) -> "Sharing | None":
        """None, and a warning, if this machine cannot."""
        try:
            return cls(rules, parameters)
        except OSError as error:
            logger.warning(
                "policy versions go over sockets to every agent, because this host has no shared "
                "memory for them: %s",
                error.strerror or error,
            )
            return None

    @property
    def handle(self) -> SegmentHandle:
        """For an agent that is started now."""
        return self._segment.handle

    def share(self, parameters: ParameterStore) -> wire.SharedVersion | None:
        """Put the newest version into the segment.

        Returns:
            What agents are told; None: there was no place for it.
        """
        frozen = freeze(self._rules.spec, parameters.flat, self._rules.num_agents)
        self._newest = self._segment.publish(parameters.version, frozen)
        if self._newest is None and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "policy version %d goes over sockets to every agent: %d bytes have found no place "
                "in shared memory (of later ones nothing is said)",
                parameters.version,
                frozen.size,
            )
        return self._newest

    def share_instead(self, parameters: ParameterStore) -> wire.SharedVersion | None:
        """Put a version there in place of the newest, than which it may be older.

        Returns:
            As `share`.
        """
        before = self._newest
        said = self.share(parameters)
        if before is not None and said is not None:
            # Agents that begin now take the greatest number that they find.
            self._segment.withdraw(before)
        return said

    @property
    def newest(self) -> wire.SharedVersion | None:
        """What an agent is told that may have missed it; None: the version has found no place."""
        return self._newest

    def close(self) -> None:
        """Give the segment up; agents that have it keep it until they end."""
        self._segment.close()
