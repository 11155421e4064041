"""Agents that are killed on purpose stay dead, and their death is no fault."""

from runtime.host.supervisor import Announce, Kill, Spawn
from tests.runtime.host.test_supervisor import NUM_AGENTS, come_back, running

SIGKILL = -9
LATER_S = 1e6


def test_a_planned_death_is_announced_and_nobody_takes_the_place() -> None:
    supervisor = running()
    assert supervisor.kill(2) == [Kill(2)]
    assert supervisor.exited(2, SIGKILL, now_s=1.0) == [Announce(2, 0, up=False)]
    assert supervisor.due(LATER_S) == []
    assert supervisor.ready == [0, 1, 3, 4]
    assert supervisor.restarts == 0


def test_planned_deaths_do_not_use_up_the_restarts() -> None:
    supervisor = running(max_restarts=0)
    for agent in range(NUM_AGENTS - 1):
        assert supervisor.kill(agent) == [Kill(agent)]
        assert supervisor.exited(agent, SIGKILL, now_s=1.0) == [Announce(agent, 0, up=False)]
    assert supervisor.ready == [NUM_AGENTS - 1]


def test_others_are_still_started_again() -> None:
    supervisor = running()
    supervisor.kill(2)
    supervisor.exited(2, SIGKILL, now_s=1.0)
    supervisor.exited(3, SIGKILL, now_s=1.0)
    assert supervisor.due(LATER_S) == [Spawn(3, 1, "ipc://sockets/agent-3")]


def test_whoever_waits_for_its_restart_is_not_started_any_more() -> None:
    supervisor = running()
    supervisor.exited(2, SIGKILL, now_s=1.0)
    assert supervisor.kill(2) == []  # no process to kill, and its death is known already
    assert supervisor.due(LATER_S) == []


def test_whoever_is_just_coming_back_is_killed_before_it_counts_as_up() -> None:
    supervisor = running()
    supervisor.exited(2, SIGKILL, now_s=1.0)
    supervisor.due(LATER_S)
    assert supervisor.kill(2) == [Kill(2)]
    assert supervisor.exited(2, SIGKILL, now_s=LATER_S) == []
    assert supervisor.due(2 * LATER_S) == []


def test_a_kill_comes_once_and_only_to_agents_of_this_host() -> None:
    supervisor = running()
    supervisor.kill(2)
    assert supervisor.kill(2) == []
    assert supervisor.kill(NUM_AGENTS) == []


def test_a_second_life_can_be_killed_as_well() -> None:
    supervisor = running()
    supervisor.exited(2, SIGKILL, now_s=1.0)
    supervisor.due(LATER_S)
    come_back(supervisor, 2, 1)
    assert supervisor.kill(2) == [Kill(2)]
    assert supervisor.exited(2, SIGKILL, now_s=LATER_S) == [Announce(2, 1, up=False)]
