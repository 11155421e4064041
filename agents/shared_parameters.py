"""The parameters of an agent whose node keeps them for the whole host.

    wire.SharedVersion -> HostParameters.apply -> views of the host's segment -> policy
    wire.Parameters    -> HostParameters.apply -> as in agents/parameters.py

The node applies what the learner publishes and merges the matrices; an agent takes the result as it
lies there. A network or a scheme that cannot be shared (agents/frozen.py) makes its own matrices
from the flat vector, which is then what is in the segment. Whole versions over the socket are for
those that find no place in it, and for an agent that has asked.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from agents.found import network_of, scheme_of
from agents.frozen import DamagedError, Frozen, NotShareableError, thaw
from agents.parameters import Outcome, ParameterStore
from agents.policy import PolicySpec
from agents.segment import Held, Segment
from agents.version import PolicyVersion
from configs.arrays import FloatArray
from runtime.net import wire

_CONSUMED = frozenset({"reads"})
"""Of networks and schemes: what has gone into the fused product."""


def freeze(spec: PolicySpec, flat: FloatArray, num_agents: int) -> Frozen:
    """A version for all agents of a host: ready to run, or else its flat vector, as where agents
    have networks of their own.
    """
    if spec.policies > 1:
        return Frozen(flat)
    try:
        return Frozen(PolicyVersion(spec, flat, num_agents), without=_CONSUMED)
    except NotShareableError:
        return Frozen(flat)


class HostParameters:
    """The newest version that an agent has; a sibling of `ParameterStore`."""

    def __init__(self, segment: Segment, spec: PolicySpec) -> None:
        """Begin with the newest version that is there.

        Raises:
            DamagedError: there is none.
        """
        self._segment = segment
        self._spec = spec
        # What lies there is made of classes that are known here; a process that has just begun has
        # not imported them.
        network_of(spec.network)
        scheme_of(spec.scheme)
        held = segment.newest()
        if held is None:
            raise DamagedError("no policy version lies in the host's memory")
        self._newest: PolicyVersion | ParameterStore = self._policy_in(held)
        self.version = held.version
        self.shared_bytes = 0
        """Of the versions since, as far as they lay in the segment."""

    def apply(self, packet: wire.AgentParameters) -> Outcome:
        """Take a version, if it is newer than ours."""
        if packet.version <= self.version:
            return Outcome.OLD
        if not isinstance(packet, wire.SharedVersion):
            return self._apply_whole(packet)
        # What was announced may have been overwritten meanwhile, by a newer one.
        held = self._segment.take(packet) or self._segment.newest()
        if held is None or held.version <= self.version:
            return Outcome.GAP
        try:
            self._newest = self._policy_in(held)
        except DamagedError:
            return Outcome.GAP
        self.version = held.version
        self.shared_bytes += held.block.size
        return Outcome.APPLIED

    def expect(self, version: int) -> None:
        """As `ParameterStore.expect`."""
        self.version = min(self.version, version - 1)

    def policy(self, spec: PolicySpec, num_agents: int, agent: int = 0) -> PolicyVersion:
        """The newest version, ready to be run by an agent."""
        if isinstance(self._newest, PolicyVersion):
            return self._newest
        return self._newest.policy(spec, num_agents, agent)

    def _apply_whole(self, packet: wire.Parameters) -> Outcome:
        # Only the node has what a delta could be applied to, and sends us none.
        store = ParameterStore(np.zeros(self._spec.size, dtype=np.float32), 0)
        outcome = store.apply(packet)
        if outcome is Outcome.APPLIED:
            self._newest, self.version = store, store.version
        return outcome

    def _policy_in(self, held: Held) -> PolicyVersion | ParameterStore:
        found = thaw(held.block)
        if isinstance(found, PolicyVersion) and found.spec == self._spec:
            return found
        if isinstance(found, np.ndarray):
            flat = cast("NDArray[Any]", found)
            if flat.shape == (self._spec.size,) and flat.dtype == np.float32:
                # A copy, because a constructor of somebody else's may write to it.
                return ParameterStore(flat.copy(), held.version)
        raise DamagedError("what lies there is no version of this policy")
