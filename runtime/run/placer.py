"""Who puts nodes on the hosts of a run.

    open -> head's Bundle -> Plan        begin -> nodes that join        look -> hosts that moved

A placer decides where hosts are and starts a node on each but the head; how these take part is the
same for all (runtime/host/join.py).
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from runtime.deployment.bundle import Bundle
from runtime.deployment.hosts import Hosts
from runtime.run.head import invitations


class News(NamedTuple):
    """What has become of hosts since somebody looked last."""

    lost: tuple[str, ...] = ()
    """Hosts that are to be somewhere else: what still runs of them counts no more."""
    hosts: Hosts | None = None
    """All hosts, if one is elsewhere now."""


NOTHING_NEW = News()


class Placer(Protocol):
    @property
    def head(self) -> Bundle:
        """Keys and addresses of this machine's processes."""
        ...

    @property
    def learner_environment(self) -> Mapping[str, str]:
        """Variables that keep the learner to what it was given of this machine."""
        ...

    def begin(self) -> None:
        """The run begins: have a node started on every other host."""
        ...

    def look(self) -> News:
        """Look after the hosts, about once a second.

        Raises:
            SetupError: a host cannot be had.
        """
        ...

    def close(self) -> None:
        """The run is over: give back what was taken."""
        ...


class ByHand:
    """A person copies bundles and starts nodes, as the hosts file has it."""

    def __init__(self, head: Bundle) -> None:
        self.head = head
        self.learner_environment: Mapping[str, str] = {}

    def begin(self) -> None:
        print("\n".join(invitations(self.head)), flush=True)

    def look(self) -> News:
        return NOTHING_NEW

    def close(self) -> None:
        pass
