"""Nodes that subscribe to parameters: each version goes to all of them, once per host.

Learner ──▶ Publisher ──▶ Subscribers ──▶ Hub ──▶ nodes ──▶ agents
"""

from collections.abc import Callable

from configs.schema import LearnerConfig
from learner.learner import Learner
from learner.publish import Publisher
from runtime.net import wire

_MOST_SKIPPED = 1_000_000
"""Versions that nodes may say they have heard beyond ours: no earlier life has come so far,
and a node that lies must not use up the numbers."""


class Subscribers:
    """The published policy and the nodes that get it."""

    def __init__(
        self,
        learner: Learner,
        config: LearnerConfig,
        version: int,
        send: Callable[[bytes, wire.Parameters], bool],
    ) -> None:
        """Publish the learner's parameters as they are.

        Args:
            version: number of this first version.
            send: to a node, by its routing id; False if the node is gone.
        """
        self._learner = learner
        self._publisher = Publisher(
            learner.parameters_flat(),
            config.publish,
            version,
            mask=learner.mask_flat(),
            dtype=config.publish_dtype,
        )
        self._send = send
        self._nodes: set[bytes] = set()
        """Routing ids."""
        self._num_versions = 0
        self._num_bytes = 0
        """Of all versions, each counted once, however many nodes get it."""
        self._num_skipped = 0
        self._published_step = learner.progress.gradient_steps

    @property
    def policy(self) -> Publisher:
        """The newest version, as agents have it."""
        return self._publisher

    def subscribe(self, peer: bytes, have: int) -> bool:
        """A node wants parameters and has this version already; False if that cannot be true."""
        ahead = max(have - self._publisher.version, 0)
        if self._num_skipped + ahead > _MOST_SKIPPED:
            return False
        self._num_skipped += ahead
        self._nodes.add(peer)
        if have >= self._publisher.version:
            # It heard that version from an earlier life of ours, which had come further.
            self._send_to_all(self._publisher.continue_after(have))
        else:
            self._send(peer, self._publisher.snapshot())
        return True

    def publish(self) -> None:
        """Make the learner's parameters the next version."""
        flat = self._learner.parameters_flat()
        self._published_step = self._learner.progress.gradient_steps
        self._send_to_all(self._publisher.publish(flat, self._learner.mask_flat()))

    def publish_rest(self) -> None:
        """Publish the last updates of a run, if they are not published yet."""
        if self._published_step < self._learner.progress.gradient_steps:
            self.publish()

    def figures(self) -> dict[str, float]:
        figures: dict[str, float] = {
            "version": self._publisher.version,
            "policy_versions": self._num_versions,
        }
        if self._num_versions:
            figures["version_bytes_mean"] = self._num_bytes / self._num_versions
        return figures

    def _send_to_all(self, packet: wire.Parameters) -> None:
        self._num_versions += 1
        self._num_bytes += len(wire.encode(packet))
        self._nodes = {peer for peer in self._nodes if self._send(peer, packet)}
