import pytest

from runtime.host.process import may_be
from runtime.host.start_patience import StartPatience
from runtime.host.supervisor import AllReady, Announce, GiveUp, Refused, SendBook, Spawn, Supervisor

NUM_AGENTS = 5
"""Offsets 1, 2 and 4."""
DEADLINE_S = 120.0


def make_supervisor(*, max_restarts: int = 20) -> Supervisor:
    supervisor = Supervisor(
        range(NUM_AGENTS),
        NUM_AGENTS,
        max_restarts=max_restarts,
        patience=StartPatience(DEADLINE_S, 0.0),
    )
    supervisor.start()
    return supervisor


def endpoint(agent: int) -> str:
    return f"ipc://sockets/agent-{agent}"


def running(*, max_restarts: int = 20) -> Supervisor:
    """Everybody has become ready."""
    supervisor = make_supervisor(max_restarts=max_restarts)
    for agent in range(NUM_AGENTS):
        supervisor.hello(agent, 0, endpoint(agent))
    for agent in range(NUM_AGENTS):
        supervisor.agent_ready(agent, 0)
    return supervisor


def come_back(supervisor: Supervisor, agent: int, incarnation: int) -> None:
    supervisor.hello(agent, incarnation, endpoint(agent))
    supervisor.agent_ready(agent, incarnation)


def restarts_after(supervisor: Supervisor, agent: int, died_s: float) -> float:
    """Seconds from a death to the restart, to a tenth."""
    tenth = 0
    while not supervisor.due(died_s + tenth / 10 + 1e-6):
        tenth += 1
    return tenth / 10


# --- the start ------------------------------------------------------------------------------------


def test_every_agent_is_started_once_and_may_listen_where_it_likes() -> None:
    supervisor = Supervisor(range(2), 2, max_restarts=0, patience=StartPatience(DEADLINE_S, 0.0))
    assert supervisor.start() == [Spawn(0, 0, ""), Spawn(1, 0, "")]


def test_the_books_go_out_when_the_last_agent_has_said_where_it_listens() -> None:
    supervisor = make_supervisor()
    for agent in range(4):
        assert supervisor.hello(agent, 0, endpoint(agent)) == []
    books = supervisor.hello(4, 0, endpoint(4))
    assert len(books) == NUM_AGENTS
    # By offset: 3 + 1, 3 + 2 and 3 + 4.
    assert SendBook(3, (endpoint(4), endpoint(0), endpoint(2))) in books


def test_all_are_ready_when_the_last_one_is() -> None:
    supervisor = make_supervisor()
    for agent in range(NUM_AGENTS):
        supervisor.hello(agent, 0, endpoint(agent))
    for agent in range(4):
        assert supervisor.agent_ready(agent, 0) == [Announce(agent, 0, up=True)]
    assert supervisor.agent_ready(4, 0) == [Announce(4, 0, up=True), AllReady()]
    assert supervisor.ready == [0, 1, 2, 3, 4]


def test_strangers_and_repetitions_are_ignored() -> None:
    supervisor, refused = make_supervisor(), [Refused("stale")]
    assert supervisor.hello(99, 0, endpoint(99)) == refused
    assert supervisor.agent_ready(99, 0) == refused
    assert supervisor.agent_ready(0, 0) == refused  # it has not said where it listens
    assert supervisor.hello(0, 1, endpoint(0)) == refused  # there is no such life
    supervisor = running()
    assert supervisor.hello(0, 0, "elsewhere") == refused
    assert supervisor.agent_ready(0, 0) == refused


def test_where_endpoints_are_settled_no_agent_can_send_its_neighbours_elsewhere() -> None:
    supervisor = on_a_host_of_two()
    supervisor.start()
    said = [supervisor.hello(agent, 0, "elsewhere") for agent in range(3)]
    books = [command for command in said[-1] if isinstance(command, SendBook)]
    assert len(books) == 3
    assert not any("elsewhere" in book.endpoints for book in books)


@pytest.mark.parametrize(
    ("endpoint", "asked_for", "is_one"),
    [
        ("ipc:///x/a1", "ipc:///x/a1", True),
        ("ipc:///x/a2", "ipc:///x/a1", False),
        ("tcp://127.0.0.1:40000", "tcp://127.0.0.1:*", True),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:*", False),
        ("tcp://127.0.0.1:65536", "tcp://127.0.0.1:*", False),
        ("tcp://127.0.0.1:", "tcp://127.0.0.1:*", False),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", False),
        ("tcp://10.0.0.1:40000", "tcp://127.0.0.1:*", False),
        ("nonsense", "tcp://127.0.0.1:*", False),
        ("", "ipc:///x/a1", False),
    ],
)
def test_where_an_agent_says_it_listens_can_be_no_other_place(
    endpoint: str, asked_for: str, is_one: bool
) -> None:
    assert may_be(endpoint, asked_for) is is_one


@pytest.mark.parametrize("said_hello", [False, True])
def test_a_death_before_everybody_was_ready_ends_the_run(said_hello: bool) -> None:
    supervisor = make_supervisor()
    if said_hello:
        supervisor.hello(1, 0, endpoint(1))
    (command,) = supervisor.exited(1, 3, 0.0)
    assert command == GiveUp("agent 1 ended with exit code 3 before the run began, see its log")


def test_patience_counts_from_the_last_progress_and_its_end_names_who_is_missing() -> None:
    supervisor = make_supervisor()
    supervisor.due(0.0)
    for agent in range(NUM_AGENTS):
        supervisor.hello(agent, 0, endpoint(agent))
    assert supervisor.due(2.0) == []
    for agent in (0, 2, 3):
        supervisor.agent_ready(agent, 0)
    assert supervisor.due(10.0) == []
    assert supervisor.due(10.0 + DEADLINE_S - 0.1) == []
    assert supervisor.due(10.0 + DEADLINE_S) == [
        GiveUp(
            "not ready in time: 3 of 5 agents are up, they wait for their neighbours' edges; "
            "missing: 1, 4; 0.5 a second started in the first 10 s, and none has moved on for "
            f"{DEADLINE_S:.0f} s (--runtime.start-timeout-s gives more time, fewer agents need "
            "less)"
        )
    ]


def test_a_start_that_could_not_be_watched_is_forgiven_its_standstill() -> None:
    supervisor = make_supervisor()
    supervisor.due(0.0)
    supervisor.forgive(DEADLINE_S)
    assert supervisor.due(DEADLINE_S) == []
    assert isinstance(supervisor.due(2 * DEADLINE_S)[0], GiveUp)


def test_a_crowd_of_missing_agents_is_cut_short() -> None:
    supervisor = Supervisor(
        range(100), 100, max_restarts=0, patience=StartPatience(DEADLINE_S, 0.0)
    )
    (command,) = supervisor.due(DEADLINE_S)
    assert isinstance(command, GiveUp)
    assert command.reason.startswith(
        "not ready in time: 0 of 100 agents are up, 100 have not started; missing: 0, 1, "
    )
    assert f", 19 …; none has started in {DEADLINE_S:.0f} s (" in command.reason


def test_the_deadline_means_nothing_once_the_run_has_begun() -> None:
    assert running().due(DEADLINE_S + 1.0) == []


# --- deaths ---------------------------------------------------------------------------------------


def test_a_dead_agent_is_announced_and_started_again_as_a_new_incarnation() -> None:
    supervisor = running()
    assert supervisor.exited(2, -9, 10.0) == [Announce(2, 0, up=False)]
    assert supervisor.ready == [0, 1, 3, 4]
    assert supervisor.due(10.1) == []
    # Where it listened before, so that nobody needs a new book.
    assert supervisor.due(10.2) == [Spawn(2, 1, endpoint(2))]
    assert supervisor.due(10.3) == []
    assert (supervisor.restarts, supervisor.restarts_of(2), supervisor.restarts_of(1)) == (1, 1, 0)


def test_a_restarted_agent_gets_its_book_at_once_and_is_announced() -> None:
    supervisor = running()
    supervisor.exited(2, -9, 10.0)
    supervisor.due(11.0)
    assert supervisor.hello(2, 0, endpoint(2)) == [Refused("stale")]  # an echo of its former life
    book = supervisor.hello(2, 1, endpoint(2))
    assert book == [SendBook(2, (endpoint(3), endpoint(4), endpoint(1)))]
    assert supervisor.agent_ready(2, 1) == [Announce(2, 1, up=True)]


def test_an_agent_that_dies_before_it_was_ready_again_is_not_announced_twice() -> None:
    supervisor = running()
    supervisor.exited(2, -9, 10.0)
    supervisor.due(11.0)
    assert supervisor.exited(2, 1, 11.5) == []
    assert supervisor.due(12.0) == [Spawn(2, 2, endpoint(2))]


def test_the_count_of_the_ready_follows_deaths_and_returns() -> None:
    supervisor = make_supervisor()
    assert supervisor.num_ready == 0
    supervisor = running()
    assert supervisor.num_ready == NUM_AGENTS
    supervisor.exited(2, -9, 10.0)
    supervisor.exited(4, -9, 10.0)
    assert supervisor.num_ready == len(supervisor.ready) == 3
    supervisor.due(11.0)
    supervisor.exited(2, 1, 11.5)  # before it was ready again
    assert supervisor.num_ready == 3
    come_back(supervisor, 4, 1)
    assert supervisor.num_ready == len(supervisor.ready) == 4


def test_several_dead_agents_are_started_again() -> None:
    supervisor = running()
    supervisor.exited(1, -9, 10.0)
    supervisor.exited(3, -9, 10.0)
    assert supervisor.due(10.2) == [Spawn(1, 1, endpoint(1)), Spawn(3, 1, endpoint(3))]


def test_the_wait_doubles_with_each_death_up_to_ten_seconds() -> None:
    supervisor = running()
    waits: list[float] = []
    now_s = 0.0
    for incarnation in range(1, 9):
        supervisor.exited(0, -9, now_s)
        waits.append(restarts_after(supervisor, 0, now_s))
        now_s += waits[-1]
        come_back(supervisor, 0, incarnation)
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_one_agents_deaths_do_not_make_another_wait() -> None:
    supervisor = running()
    for incarnation in (1, 2, 3):
        supervisor.exited(0, -9, 0.0)
        supervisor.due(20.0)
        come_back(supervisor, 0, incarnation)
    supervisor.exited(1, -9, 20.0)
    assert restarts_after(supervisor, 1, 20.0) == 0.2


@pytest.mark.parametrize(("quiet_s", "wait_s"), [(60.0, 0.4), (60.1, 0.2)])
def test_after_a_quiet_minute_deaths_are_forgotten(quiet_s: float, wait_s: float) -> None:
    supervisor = running()
    supervisor.exited(0, -9, 0.0)
    supervisor.due(1.0)
    come_back(supervisor, 0, 1)
    supervisor.exited(0, -9, quiet_s)
    assert restarts_after(supervisor, 0, quiet_s) == wait_s


def test_an_agent_that_keeps_dying_for_hours_waits_ten_seconds_each_time() -> None:
    supervisor = running(max_restarts=10_000)
    for incarnation in range(1, 1_100):
        supervisor.exited(0, -9, 20.0 * incarnation)
        assert supervisor.due(20.0 * incarnation + 10.0) == [Spawn(0, incarnation, endpoint(0))]
        come_back(supervisor, 0, incarnation)


def test_too_many_restarts_of_one_agent_end_the_run() -> None:
    supervisor = running(max_restarts=2)
    for incarnation in (1, 2):
        supervisor.exited(0, -9, 0.0)
        supervisor.due(20.0)
        come_back(supervisor, 0, incarnation)
    assert supervisor.exited(0, -9, 20.0) == [
        GiveUp("agent 0 was ended by signal 9 after 2 restarts (runtime.max_restarts)")
    ]


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [(None, "is gone"), (0, "ended with exit code 0"), (-15, "was ended by signal 15")],
)
def test_the_cause_of_death_is_told_in_words(exit_code: int | None, text: str) -> None:
    (command,) = running(max_restarts=0).exited(4, exit_code, 0.0)
    assert isinstance(command, GiveUp)
    assert command.reason.startswith(f"agent 4 {text} after 0 restarts")


def test_deaths_are_expected_once_the_run_stops() -> None:
    supervisor = running()
    supervisor.exited(1, -9, 0.0)
    supervisor.stop()
    assert supervisor.exited(0, 0, 1.0) == []
    assert supervisor.due(1000.0) == []


# --- one host of several --------------------------------------------------------------------------


def on_a_host_of_two(*, first_incarnation: int = 0) -> Supervisor:
    """Agents 0 to 2 of five are here; where everybody listens is settled."""
    return Supervisor(
        range(3),
        NUM_AGENTS,
        max_restarts=1,
        patience=StartPatience(DEADLINE_S, 0.0),
        endpoints={agent: endpoint(agent) for agent in range(NUM_AGENTS)},
        first_incarnation=first_incarnation,
    )


def test_with_several_hosts_every_agent_is_told_where_to_listen() -> None:
    assert on_a_host_of_two().start() == [Spawn(agent, 0, endpoint(agent)) for agent in range(3)]


def test_the_book_of_an_agent_names_neighbours_on_other_hosts() -> None:
    supervisor = on_a_host_of_two()
    supervisor.start()
    supervisor.hello(0, 0, endpoint(0))
    supervisor.hello(1, 0, endpoint(1))
    books = supervisor.hello(2, 0, endpoint(2))
    assert SendBook(2, (endpoint(3), endpoint(4), endpoint(1))) in books


def test_a_host_that_starts_anew_goes_on_with_higher_incarnations() -> None:
    supervisor = on_a_host_of_two(first_incarnation=4)
    assert supervisor.start()[0] == Spawn(0, 4, endpoint(0))
    assert supervisor.hello(0, 0, endpoint(0)) == [Refused("stale")]  # a word from an earlier life
    for agent in range(3):
        supervisor.hello(agent, 4, endpoint(agent))
    for agent in range(3):
        supervisor.agent_ready(agent, 4)
    supervisor.exited(1, -9, 0.0)
    assert supervisor.due(10.0) == [Spawn(1, 5, endpoint(1))]
    assert supervisor.restarts == 1, "the lives of an earlier node are not ours"


def test_who_is_up_can_be_asked_again() -> None:
    supervisor = running()
    supervisor.exited(3, -9, 0.0)
    states = [Announce(agent, 0, up=agent != 3) for agent in range(5)]
    assert supervisor.announce_all() == states


def test_an_agent_that_could_not_be_started_is_tried_again_under_the_same_incarnation() -> None:
    supervisor = running()
    supervisor.exited(2, -9, 200.0)
    restart = supervisor.due(200.0 + restarts_after(supervisor, 2, 200.0))
    assert restart == [] or restart == [Spawn(2, 1, endpoint(2))]
    supervisor.not_started(2, 201.0)
    assert supervisor.due(201.0) == []
    assert supervisor.due(220.0) == [Spawn(2, 1, endpoint(2))]
    assert supervisor.restarts == 1, "nobody has died of it"
    come_back(supervisor, 2, 1)
    assert 2 in supervisor.ready


def test_before_the_run_begins_a_failed_start_is_no_reason_to_give_up() -> None:
    supervisor = make_supervisor()
    supervisor.not_started(3, 1.0)
    assert supervisor.due(10.0) == [Spawn(3, 0, "")]
    assert any(isinstance(command, GiveUp) for command in supervisor.due(DEADLINE_S))


def test_an_agent_killed_on_purpose_while_it_could_not_be_started_is_not_tried_again() -> None:
    supervisor = running()
    supervisor.kill(1)
    supervisor.not_started(1, 10.0)
    assert supervisor.due(100.0) == []


# --- agents of other hosts ------------------------------------------------------------------------


def test_ours_are_told_when_a_neighbour_on_another_host_is_placed_elsewhere() -> None:
    before = {agent: f"tcp://10.0.0.{agent}:7408" for agent in range(NUM_AGENTS)}
    supervisor = Supervisor(
        (0, 1),
        NUM_AGENTS,
        max_restarts=0,
        patience=StartPatience(DEADLINE_S, 0.0),
        endpoints=before,
    )
    supervisor.start()
    for agent in (0, 1):
        supervisor.hello(agent, 0, "")
    supervisor.agent_ready(0, 0)
    after = before | {3: "tcp://10.0.0.9:7408"}
    # Agent 1 sends to 2, 3 and 0; agent 0 to 1, 2 and 4.
    assert supervisor.move(after) == [SendBook(1, (before[2], after[3], before[0]))]
    assert supervisor.move(after) == [], "that is no news"


def test_an_agent_that_starts_later_gets_the_newest_book() -> None:
    before = {agent: f"tcp://10.0.0.{agent}:7408" for agent in range(NUM_AGENTS)}
    supervisor = Supervisor(
        (1,),
        NUM_AGENTS,
        max_restarts=0,
        patience=StartPatience(DEADLINE_S, 0.0),
        endpoints=before,
    )
    supervisor.start()
    after = before | {3: "tcp://10.0.0.9:7408"}
    assert supervisor.move(after) == []
    assert supervisor.hello(1, 0, "") == [SendBook(1, (before[2], after[3], before[0]))]


# --- agents that move between hosts ---------------------------------------------------------------


def one_of_two_hosts(agents: list[int]) -> Supervisor:
    """Of four agents these are ours; they are ready."""
    endpoints = {agent: f"tcp://10.0.0.1:{agent}" for agent in range(4)}
    supervisor = Supervisor(
        agents, 4, max_restarts=9, patience=StartPatience(DEADLINE_S, 0.0), endpoints=endpoints
    )
    supervisor.start()
    for agent in agents:
        supervisor.hello(agent, 0, "")
        supervisor.agent_ready(agent, 0)
    return supervisor


NEW = {agent: f"tcp://10.0.0.9:{agent}" for agent in range(4)}


def test_an_agent_that_has_moved_here_is_started_above_its_earlier_lives() -> None:
    supervisor = one_of_two_hosts([0, 1])
    assert supervisor.move(NEW, {3: 7})[-1] == Spawn(3, 7, NEW[3])
    assert supervisor.hello(3, 6, "") == [Refused("stale")]
    assert supervisor.hello(3, 7, "") == [SendBook(3, (NEW[0], NEW[1]))]
    assert supervisor.agent_ready(3, 7) == [Announce(3, 7, up=True)]
    assert supervisor.restarts == 0


def test_a_move_that_is_told_twice_starts_nobody_twice() -> None:
    supervisor = one_of_two_hosts([0, 1])
    supervisor.move(NEW, {3: 7})
    assert supervisor.move(NEW, {3: 7}) == []


def test_a_host_without_agents_has_started_and_takes_what_comes() -> None:
    supervisor = one_of_two_hosts([])
    assert supervisor.has_started
    assert supervisor.due(2 * DEADLINE_S) == []
    assert supervisor.move(NEW, {2: 1}) == [Spawn(2, 1, NEW[2])]
