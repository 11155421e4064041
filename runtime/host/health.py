"""Answers for what watches a node from outside (a kubelet, a balancer): /livez and /readyz.

    Node -> checks -> Exporter -> 200 "ok", or 503 and what is wrong

A node that has stopped looking at its agents is to be started anew. One whose agents are not all up
is to be waited for: it may wait itself, for hosts that have not come.
"""

import time
from collections.abc import Callable, Mapping

Check = Callable[[], str]
"""What is wrong, in words; empty: nothing."""

LIVE_S = 10.0
"""Seconds without a turn after which a node counts as hung; it takes twenty in a second."""


def checks(
    turned_s: Callable[[], float],
    num_ready: Callable[[], int],
    num_agents: Callable[[], int],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Mapping[str, Check]:
    """The check behind each path.

    Args:
        turned_s: when the node has looked at its agents last; infinite once it stops them.
        num_ready: how many of its agents have opened their edges.
        num_agents: how many it has now.
    """

    def live() -> str:
        silent_s = clock() - turned_s()
        return f"no look at the agents for {silent_s:.0f} s" if silent_s > LIVE_S else ""

    def ready() -> str:
        up, wanted = num_ready(), num_agents()
        return f"{up} of {wanted} agents are up" if up < wanted else ""

    return {"/livez": live, "/readyz": ready}
