"""A host leaves for good, and its agents live on the others (--rebalance)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.fleet import HEAD, NUM_AGENTS, Fleet
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

OPTIONS = (
    *("--steps", "100000000", "--evaluation.interval-steps", "0"),
    *("--rebalance", "--runtime.rebalance-after-s", "4", "--runtime.host-timeout-s", "2"),
    # A host that is cut off must still be there when it is back.
    *("--runtime.head-timeout-s", "120"),
    *("--runtime.step-timeout-s", "10", "--agents.peer-timeout-s", "1"),
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.start(tmp_path, *OPTIONS) as fleet:
        fleet.wait_until_learning(90.0)
        yield fleet


def agents_of(fleet: Fleet, name: str) -> set[str]:
    return {title for title in fleet.processes(name) if title.startswith("agent ")}


def wait_until_all_play(fleet: Fleet, moved: int) -> None:
    """All agents are up after so many moves, on all kinds of edges, and whole episodes come."""
    wait_for(f"{moved} moves", lambda: fleet.figure("agent/moved") == moved, 90.0)
    wait_for("everybody to be up", lambda: fleet.figure("agent/up") == NUM_AGENTS, 90.0)
    fleet.wait_until_learning(90.0)

    def all_goes_well() -> bool:
        """Nobody who is asked is silent, and what is sent over an edge arrives."""
        names = ("env/missed_deadlines", "comm/late_packets")
        before = [fleet.figure(name) for name in names]
        fleet.wait_for_episodes(90.0)
        return before == [fleet.figure(name) for name in names]

    wait_for("episodes without a packet that is late", all_goes_well, 90.0)


def test_agents_of_a_host_that_is_gone_live_on_and_one_that_is_back_gets_the_next(
    fleet: Fleet,
) -> None:
    fleet.hosts["b"].kill_all()
    wait_until_all_play(fleet, moved=2)
    assert agents_of(fleet, "a") == {"agent 0", "agent 1", "agent 2"}
    assert agents_of(fleet, "c") == {"agent 3", "agent 4", "agent 5"}
    assert "2 of its agents move (1 to a, 1 to c)" in fleet.logs(HEAD)

    fleet.join("b")
    wait_for("host b to stand by", lambda: "it stands by" in fleet.output("b"))
    fleet.wait_for_episodes()
    assert agents_of(fleet, "b") == set(), "nobody lives twice"

    fleet.hosts["c"].kill_all()
    wait_until_all_play(fleet, moved=5)
    assert agents_of(fleet, "b") == {"agent 3", "agent 4", "agent 5"}, "it had none"
    assert agents_of(fleet, "a") == {"agent 0", "agent 1", "agent 2"}

    fleet.interrupt()
    fleet.started["c"].clear()  # what is killed leaves its sockets behind
    assert fleet.wait_for_exits(40.0) == {"a": 130, "b": 0}
    assert fleet.summary()["agents_moved"] == 5
    assert "Traceback" not in fleet.logs(HEAD) + fleet.logs("b")


@pytest.mark.slow
def test_a_host_that_was_cut_off_for_too_long_is_told_to_end_and_does_no_harm(
    fleet: Fleet,
) -> None:
    fleet.hosts["c"].link_down()
    wait_until_all_play(fleet, moved=2)
    assert agents_of(fleet, "c") == {"agent 4", "agent 5"}, "they do not know that they are out"
    before = {name: fleet.processes(name) for name in ("a", "b")}
    fleet.hosts["c"].link_up()
    assert fleet.started["c"][-1].wait(60.0) == 1
    assert "its agents live on others: start it again to join" in fleet.output("c")
    fleet.wait_for_episodes()
    assert fleet.figure("agent/up") == NUM_AGENTS
    assert {name: fleet.processes(name) for name in ("a", "b")} == before, "all live on"
    fleet.interrupt()
    assert fleet.wait_for_exits(40.0) == {"a": 130, "b": 0, "c": 1}
