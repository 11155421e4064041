"""Hosts that are known by names: one that comes back under another address is found again.

One of the hosts of tests/process/test_update.py has a name as well, and stays where it is.
"""

from pathlib import Path

import pytest

from tests.process.fleet import HEAD, NUM_AGENTS, Fleet
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = {"a": "head.cluster", "b": "node-0.cluster", "c": "node-1.cluster"}
OPTIONS = ("--steps", "100000000", "--evaluation.interval-steps", "0")


def test_a_host_that_starts_anew_with_another_address_is_found_by_its_name(tmp_path: Path) -> None:
    options = (*OPTIONS, "--runtime.host-timeout-s", "3", "--agents.peer-timeout-s", "1")
    with Fleet.start(tmp_path, *options, names=NAMES) as fleet:
        fleet.wait_until_learning(120.0)
        lost = fleet.hosts["b"]
        lost.kill_all()
        lost.move_to("10.77.0.99")
        fleet.hosts.publish(NAMES)
        fleet.join("b")
        wait_for("the host to be back", lambda: fleet.figure("agent/up") == NUM_AGENTS)
        fleet.wait_for_episodes()
        fleet.interrupt()
        assert fleet.wait_for_exits(60.0)["a"] == 130
        summary = fleet.summary()
        assert "Traceback" not in "".join(map(fleet.logs, (HEAD, "b", "c")))
    # The kernel knows these connections by number; they are counted all the same.
    assert summary["edge_tcp_bytes"] > summary["message_payload_bytes"]
