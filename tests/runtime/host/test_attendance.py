"""Which hosts are here: they join, fall silent, come back, leave, and are told apart."""

import pytest

from runtime.host.attendance import (
    TAKEN,
    AllReady,
    Assign,
    Attendance,
    AttendanceCommand,
    HostLost,
    Moved,
    Rebalancing,
    Refused,
    ToHost,
    ToWorld,
)
from runtime.net import wire

TIMEOUT_S = 5.0
ANNOUNCE = wire.Instruction("announce")


def up(agent: int, incarnation: int = 0) -> wire.AgentState:
    return wire.AgentState(agent, incarnation, 1)


def down(agent: int, incarnation: int = 0) -> wire.AgentState:
    return wire.AgentState(agent, incarnation, 0)


def make(rebalancing: Rebalancing | None = None) -> Attendance:
    """The launcher's host a, and two others, with two agents each; world and learner are there."""
    shares = {"a": [0, 1], "b": [2, 3], "c": [4, 5]}
    attendance = Attendance(shares, "a", TIMEOUT_S, rebalancing)
    assert attendance.open(0.0) == []
    return attendance


def running(rebalancing: Rebalancing | None = None) -> Attendance:
    """Everybody takes part, heard at 1.0 s."""
    attendance = make(rebalancing)
    for host, agents in (("b", (2, 3)), ("c", (4, 5))):
        attendance.join(host, 1.0)
        for agent in agents:
            attendance.agent_state(host, up(agent))
        attendance.ready(host)
    for agent in (0, 1):
        attendance.agent_state("a", up(agent))
    attendance.ready("a")
    return attendance


def refusal(commands: list[AttendanceCommand]) -> str:
    (command,) = commands
    assert isinstance(command, ToHost)
    assert isinstance(command.packet, wire.Stop)
    return command.packet.reason


# --- joining ----------------------------------------------------------------------------------


def test_a_host_that_joins_is_told_what_to_run() -> None:
    assert make().join("b", 1.0) == [Assign("b", 0)]


def test_a_host_that_joins_early_waits_until_there_is_a_world() -> None:
    attendance = Attendance({"a": [0], "b": [1]}, "a", TIMEOUT_S)
    assert attendance.join("b", 1.0) == []
    assert attendance.unjoined == []
    assert attendance.open(60.0) == [Assign("b", 0)]
    assert attendance.open(61.0) == [], "once is enough"


def test_a_host_that_waited_long_for_the_world_is_not_lost_at_once() -> None:
    attendance = Attendance({"a": [0], "b": [1]}, "a", TIMEOUT_S)
    attendance.join("b", 1.0)
    assert attendance.due(60.0) == [], "it has nothing to say before it is told what to run"
    attendance.open(60.0)
    assert attendance.due(60.0 + TIMEOUT_S) == []
    assert attendance.due(60.5 + TIMEOUT_S) == [HostLost("b", 5.5)]


@pytest.mark.parametrize("name", ["a", "d"])
def test_the_launchers_own_host_and_strangers_cannot_join(name: str) -> None:
    assert "not expected" in refusal(make().join(name, 1.0))


def test_a_host_that_is_heard_of_keeps_its_place_against_a_second_one() -> None:
    attendance = running()
    attendance.heard("b", 8.0)
    assert refusal(attendance.join("b", 8.0 + TIMEOUT_S)).startswith(TAKEN)
    assert attendance.due(8.0 + TIMEOUT_S)[0] == HostLost("c", 7.0 + TIMEOUT_S)


def test_a_host_that_starts_anew_gets_incarnations_above_those_seen() -> None:
    attendance = running()
    attendance.agent_state("b", down(3))
    attendance.agent_state("b", up(3, 4))
    commands = attendance.join("b", 20.0)
    assert commands == [ToWorld(down(2)), ToWorld(down(3, 4)), Assign("b", 5)]


def test_who_is_missing_is_named_until_all_agents_are_ready() -> None:
    attendance = make()
    assert attendance.missing == ["a", "b", "c"]
    assert attendance.unjoined == ["b", "c"]
    attendance.join("b", 1.0)
    assert attendance.unjoined == ["c"]
    assert attendance.ready("b") == []
    assert attendance.missing == ["a", "c"]


def test_everybody_is_ready_once_and_only_once() -> None:
    attendance = make()
    for host in ("b", "c"):
        attendance.join(host, 1.0)
        assert attendance.ready(host) == []
    assert attendance.ready("a") == [AllReady()]
    assert attendance.ready("a") == []
    attendance.join("b", 20.0)
    assert attendance.ready("b") == [], "the run does not begin twice"


def test_a_host_is_ready_by_its_newest_life() -> None:
    attendance = running()
    assert attendance.is_ready("b")
    attendance.join("b", 20.0)
    assert not attendance.is_ready("b")
    attendance.ready("b")
    assert attendance.is_ready("b")


def test_a_host_that_has_not_joined_has_nothing_to_say() -> None:
    attendance = make()
    assert attendance.agent_state("b", up(2)) == [Refused("unknown_sender")]
    assert attendance.counted("b", 2) == []
    assert attendance.heard("b", 1.0) == []
    assert attendance.ready("b") == []
    assert "b" in attendance.missing
    assert attendance.remote == []


# --- agents -----------------------------------------------------------------------------------


def test_the_world_hears_of_agents_that_come_and_go() -> None:
    attendance = make()
    attendance.join("b", 1.0)
    assert attendance.agent_state("b", up(2)) == [ToWorld(up(2))]
    assert attendance.agent_state("b", down(2)) == [ToWorld(down(2))]
    assert attendance.agent_state("b", up(2, 1)) == [ToWorld(up(2, 1))]


def test_what_the_world_knows_it_is_not_told_again() -> None:
    attendance = running()
    assert attendance.agent_state("b", up(2)) == []
    attendance.agent_state("b", down(2))
    assert attendance.agent_state("b", down(2)) == []


def test_a_death_of_which_no_word_came_shows_in_the_next_life() -> None:
    assert running().agent_state("b", up(2, 1)) == [ToWorld(down(2)), ToWorld(up(2, 1))]


@pytest.mark.parametrize(("host", "agent"), [("b", 4), ("b", 77), ("d", 2)])
def test_a_host_speaks_for_its_own_agents_only(host: str, agent: int) -> None:
    assert running().agent_state(host, up(agent, 9)) == [Refused("unknown_sender")]


def test_a_host_cannot_use_up_the_numbers_of_its_agents_lives() -> None:
    attendance = running()
    assert attendance.agent_state("b", up(2, (1 << 32) - 1)) == [Refused("range")]
    attendance.left("b")
    (assign,) = attendance.join("b", 50.0)
    assert isinstance(assign, Assign)
    assert assign.first_incarnation < 100


def test_a_host_that_counts_other_agents_than_we_do_is_asked_for_them() -> None:
    attendance = running()
    assert attendance.counted("b", 2) == []
    assert attendance.counted("b", 1) == [ToHost("b", ANNOUNCE)]
    attendance.agent_state("b", down(3))
    assert attendance.counted("b", 1) == []


# --- silence ----------------------------------------------------------------------------------


def test_a_silent_hosts_agents_count_as_gone_once() -> None:
    attendance = running()
    attendance.heard("c", 10.0)
    assert attendance.due(1.0 + TIMEOUT_S) == []
    commands = attendance.due(10.0)
    assert commands == [HostLost("b", 9.0), ToWorld(down(2)), ToWorld(down(3))]
    assert attendance.due(11.0) == []
    assert attendance.remote == ["c"]


def test_a_host_that_speaks_again_is_asked_who_is_up() -> None:
    attendance = running()
    attendance.due(10.0)
    assert attendance.heard("b", 12.0) == [ToHost("b", ANNOUNCE)]
    assert attendance.remote == ["b"]
    assert attendance.agent_state("b", up(2)) == [ToWorld(up(2))]
    assert attendance.heard("b", 12.5) == []


def test_a_silent_host_may_be_started_anew() -> None:
    attendance = running()
    attendance.due(10.0)
    assert attendance.join("b", 11.0) == [Assign("b", 1)]
    assert attendance.due(12.0) == []


def test_the_launchers_own_host_is_never_lost() -> None:
    attendance = running()
    lost = [command for command in attendance.due(1e6) if isinstance(command, HostLost)]
    assert [command.host for command in lost] == ["b", "c"]


def test_a_launcher_that_slept_itself_does_not_blame_the_others() -> None:
    attendance = running()
    attendance.forgive(100.0)
    assert attendance.due(100.0 + TIMEOUT_S) == []
    assert len(attendance.due(100.1 + TIMEOUT_S)) == 6


def test_a_host_that_leaves_can_come_again_at_once() -> None:
    attendance = running()
    assert attendance.left("b") == [ToWorld(down(2)), ToWorld(down(3))]
    assert attendance.remote == ["c"]
    assert attendance.due(6.0) == []
    assert attendance.join("b", 1.5) == [Assign("b", 1)]
    assert attendance.left("a") == [], "its end is its parent's matter"


def test_a_start_says_what_it_waits_for() -> None:
    attendance = make()
    assert attendance.waited_for(2) == ["host b has not joined", "host c has not joined"]
    for host in ("b", "c"):
        attendance.join(host, 1.0)
    attendance.agent_state("b", up(2))
    assert attendance.waited_for(4) == [
        "host a: 0 of 2 agents are up",
        "host b: 1 of 2 agents are up",
        "host c: 0 of 2 agents are up",
        "2 have not started, and the others wait for them",
    ]
    assert attendance.waited_for(6)[-1] == "the others wait for their neighbours' edges"
    assert running().waited_for(6) == []


# --- leaving for good -------------------------------------------------------------------------

AWAY_S = 60.0


def rebalancing(room: int = 100) -> Attendance:
    """Everybody takes part, heard at 1.0 s; later only host c is."""
    return running(Rebalancing(AWAY_S, dict.fromkeys("abc", room)))


def moves(attendance: Attendance, now_s: float) -> list[Moved]:
    attendance.heard("c", now_s)
    return [command for command in attendance.due(now_s) if isinstance(command, Moved)]


def test_a_host_that_stays_away_for_long_loses_its_agents_once() -> None:
    attendance = rebalancing()
    attendance.agent_state("b", up(3, 4))
    assert moves(attendance, 1.0 + AWAY_S) == []
    assert moves(attendance, 2.0 + AWAY_S) == [Moved("b", 61.0, {2: "a", 3: "c"}, 5)]
    assert moves(attendance, 3.0 + AWAY_S) == []


def test_without_rebalancing_agents_stay_where_they_are() -> None:
    assert moves(running(), 1e6) == []


def test_a_host_that_has_said_goodbye_is_waited_for_as_long_as_a_silent_one() -> None:
    attendance = rebalancing()
    attendance.left("b")
    assert moves(attendance, AWAY_S) == []
    (moved,) = moves(attendance, 2.0 + AWAY_S)
    assert moved.host == "b"


def test_a_host_that_is_back_in_time_keeps_its_agents() -> None:
    attendance = rebalancing()
    attendance.due(10.0)
    attendance.heard("b", AWAY_S)
    assert moves(attendance, 2.0 + AWAY_S) == []


def test_before_everybody_was_ready_nobody_moves() -> None:
    attendance = make(Rebalancing(AWAY_S, dict.fromkeys("abc", 100)))
    attendance.join("b", 1.0)
    assert moves(attendance, 1e6) == []


def test_agents_that_have_moved_are_their_new_hosts_and_nobody_elses() -> None:
    attendance = rebalancing()
    moves(attendance, 2.0 + AWAY_S)
    assert attendance.agent_state("c", up(3, 1)) == [ToWorld(up(3, 1))]
    assert attendance.agent_state("c", up(2, 1)) == [Refused("unknown_sender")]
    assert attendance.agent_state("b", up(3, 0)) == [Refused("unknown_sender")]


def test_a_host_that_comes_back_too_late_is_told_to_end_whatever_it_says() -> None:
    attendance = rebalancing()
    moves(attendance, 2.0 + AWAY_S)
    assert attendance.is_evicted("b")
    for now_s in (63.0, 64.0):
        assert attendance.heard("b", now_s) == [ToHost("b", wire.Stop(wire.EVICTED))]
    assert attendance.counted("b", 2) == []
    assert attendance.remote == ["c"]
    assert not attendance.is_ready("b"), "if it fails now, the run does not"


def test_a_host_that_joins_anew_has_no_agents_and_gets_those_of_the_next_that_leaves() -> None:
    attendance = rebalancing()
    moves(attendance, 2.0 + AWAY_S)
    assert attendance.join("b", 70.0) == [Assign("b", 1)]
    assert not attendance.is_evicted("b")
    assert attendance.is_ready("b"), "it has nobody to wait for"
    assert attendance.agent_state("b", up(2, 9)) == [Refused("unknown_sender")]
    attendance.heard("b", 140.0)
    moved = [command for command in attendance.due(140.0) if isinstance(command, Moved)]
    assert moved == [Moved("c", 78.0, {3: "b", 4: "b", 5: "b"}, 2)]
    assert attendance.agent_state("b", up(4, 2)) == [ToWorld(up(4, 2))]


def test_agents_that_no_host_has_ports_for_stay_with_theirs() -> None:
    attendance = rebalancing(room=2)
    assert moves(attendance, 2.0 + AWAY_S) == []
    attendance.join("b", 100.0)
    assert attendance.agent_state("b", up(2, 1)) == [ToWorld(up(2, 1))]
