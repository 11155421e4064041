"""Three hosts lose something, and go on, or end well: the fault matrix.

Rows that leave a run whole share one; a row that fails gets the next row a new one. Each says what
is lost; how long recovery took goes to a file if somebody asks for it (tests/process/fleet.py).
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from learner.checkpoint_file import read_progress
from runtime.launch import CHECKPOINT
from tests.process.fleet import HEAD, NUM_AGENTS, REMOTE, Fleet, record
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ENDLESS = ("--steps", "100000000", "--evaluation.interval-steps", "0")
SILENT_S, HOST_S = 6.0, 3.0
SHARED = (
    *ENDLESS,
    *("--runtime.silent-timeout-s", str(SILENT_S), "--runtime.host-timeout-s", str(HOST_S)),
    # A step that had to wait for its deadline would show.
    *("--runtime.step-timeout-s", "30", "--agents.peer-timeout-s", "1"),
    *("--learner.publish", "delta", "--learner.checkpoint-period-s", "1"),
)
MOST_GROWTH_MB = 64.0
"""Of one process by a fault: queues that nobody bounds grow faster than that."""


class _Shared:
    """The run that rows share, made when it is first asked for."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._fleet: Fleet | None = None

    def fleet(self) -> Fleet:
        if self._fleet is None:
            self._fleet = self._stack.enter_context(Fleet.start(self._folder(), *SHARED))
            self._fleet.wait_until_learning()
        return self._fleet

    def discard(self) -> None:
        """Something is wrong with it: whoever comes next gets another."""
        self._fleet = None
        self._stack.close()

    def end(self) -> None:
        """Ctrl-C, and proof that nothing is left of it on any host."""
        try:
            if self._fleet is not None:
                self._fleet.interrupt()
                assert self._fleet.wait_for_exits(30.0) == {"a": 130, "b": 0, "c": 0}
                assert "Traceback" not in "".join(map(self._fleet.logs, (HEAD, *REMOTE)))
        finally:
            self.discard()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Shared]:
    shared = _Shared(lambda: tmp_path_factory.mktemp("fleet"))
    try:
        yield shared
    except BaseException:
        shared.discard()
        raise
    shared.end()


@pytest.fixture
def fleet(shared: _Shared, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A run of which nothing is missing, before the row and after it."""
    failures = request.session.testsfailed
    fleet = shared.fleet()
    before = memory_mb(fleet)
    yield fleet
    if request.session.testsfailed > failures:
        shared.discard()
        return
    try:
        fleet.wait_until_learning(90.0)
        assert_bounded(fleet, before)
        assert fleet.figure("env/records_given_up") == 0
    except BaseException:
        shared.discard()
        raise


def memory_mb(fleet: Fleet) -> dict[int, float]:
    found: dict[int, float] = {}
    for pid in fleet.all_processes().values():
        with contextlib.suppress(OSError):
            found[pid] = fleet.rss_mb(pid)
    return found


def assert_bounded(fleet: Fleet, before: dict[int, float]) -> None:
    for title, pid in fleet.all_processes().items():
        # The learner's replay fills, which is no queue.
        if pid in before and not title.endswith("learner"):
            growth_mb = fleet.rss_mb(pid) - before[pid]
            assert growth_mb < MOST_GROWTH_MB, f"{title} has grown by {growth_mb:.0f} MB"


def others(fleet: Fleet, *besides: str) -> dict[str, int]:
    """Pids of everybody else: they must live through the fault as they are."""
    return {name: pid for name, pid in fleet.all_processes().items() if name not in besides}


def wait_for_another(fleet: Fleet, name: str, title: str, pid: int) -> None:
    wait_for(f"a new {title} on host {name}", lambda: fleet.processes(name).get(title, pid) != pid)


def agents_up(fleet: Fleet, count: int) -> Callable[[], bool]:
    return lambda: fleet.figure("agent/up") == count


# --- an agent ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_agent_killed_on_another_host_comes_back(fleet: Fleet) -> None:
    """Lost: agent 2 on host b, with what it had recorded of its episodes."""
    rest = others(fleet, "b/agent 2")
    restarts, began_s = fleet.figure("agent/restarts"), time.monotonic()
    pid = fleet.signal("b", "agent 2", signal.SIGKILL)
    wait_for_another(fleet, "b", "agent 2", pid)
    wait_for("word of it", lambda: fleet.figure("agent/restarts") == restarts + 1)
    fleet.wait_until_learning()
    record("agent, kill -9", time.monotonic() - began_s, "started again by its node")
    assert others(fleet, "b/agent 2") == rest, "nobody else had to be started again"


@pytest.mark.slow
def test_an_agent_that_hangs_is_ended_and_comes_back(fleet: Fleet) -> None:
    """Lost: agent 4 on host c hangs (SIGSTOP); its node ends it after silent_timeout_s."""
    rest = others(fleet, "c/agent 4")
    began_s = time.monotonic()
    pid = fleet.signal("c", "agent 4", signal.SIGSTOP)
    wait_for_another(fleet, "c", "agent 4", pid)
    fleet.wait_until_learning()
    record("agent, SIGSTOP", time.monotonic() - began_s, "ended when silent, started again")
    assert "agent 4 has not reported" in fleet.logs("c")
    assert others(fleet, "c/agent 4") == rest


# --- a node, or its host ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_host_whose_node_hangs_is_done_without_until_it_goes_on(fleet: Fleet) -> None:
    """Lost: the node of host b hangs (SIGSTOP) for longer than host_timeout_s, and goes on."""
    everybody = fleet.all_processes()
    began_s = time.monotonic()
    pid = fleet.signal("b", "node", signal.SIGSTOP)
    try:
        wait_for("host b to be given up", agents_up(fleet, NUM_AGENTS - 2))
        lost_s = time.monotonic() - began_s
        fleet.wait_for_steps()
    finally:
        os.kill(pid, signal.SIGCONT)
    began_s = time.monotonic()
    fleet.wait_until_learning()
    record(
        "remote node, SIGSTOP and SIGCONT",
        time.monotonic() - began_s,
        "its agents are asked for and play again",
        noticed_s=round(lost_s, 2),
    )
    assert fleet.all_processes() == everybody, "nobody had to be started again"


def test_a_host_that_was_cut_off_comes_back_without_a_restart(fleet: Fleet) -> None:
    """Lost: the link of host c, for eight seconds: the kernel gives up its connections."""
    everybody = fleet.all_processes()
    missed = fleet.figure("env/missed_deadlines")
    began_s = time.monotonic()
    fleet.hosts["c"].link_down()
    try:
        wait_for("host c to be given up", agents_up(fleet, NUM_AGENTS - 2))
        lost_s = time.monotonic() - began_s
        fleet.wait_for_steps()
        version = fleet.figure("learner/version")
        # Longer than TCP_MAXRT: connections are opened anew afterwards, in both directions.
        time.sleep(max(began_s + 8.0 - time.monotonic(), 0.0))
    finally:
        fleet.hosts["c"].link_up()
    began_s = time.monotonic()
    fleet.wait_until_learning()
    record(
        "link of a host, 8 s",
        time.monotonic() - began_s,
        "connections are opened anew",
        noticed_s=round(lost_s, 2),
    )
    assert fleet.all_processes() == everybody, "nobody had to be started again"
    assert fleet.figure("env/missed_deadlines") == missed, "an observation was lost for good"
    wait_for(
        "the agents of host c to get newer parameters",
        lambda: fleet.figure("agent/policy_version_min") > version + 3,
    )


@pytest.mark.slow
def test_a_second_node_of_the_same_host_is_refused(fleet: Fleet) -> None:
    """Lost: nothing; an operator starts the command of host b a second time."""
    everybody = fleet.all_processes()
    intruder = "node-b has opened another connection"
    seen = fleet.logs(HEAD).count(intruder)
    fleet.join("b")
    try:
        assert fleet.started["b"][-1].wait(60.0) == 2
        assert "host b runs already" in fleet.output("b")
        assert fleet.output("b").count("\n") == 1, fleet.output("b")
    finally:
        fleet.started["b"].pop().kill()
    fleet.wait_for_episodes()
    assert fleet.all_processes() == everybody
    assert fleet.logs(HEAD).count(intruder) == seen, "the head has not even heard of it"


@pytest.mark.slow
def test_a_host_that_was_started_again_takes_part_again(fleet: Fleet) -> None:
    """Lost: every process of host b (kill -9), as when a machine loses its power; started anew."""
    rest = {name: pid for name, pid in fleet.all_processes().items() if name[0] != "b"}
    began_s = time.monotonic()
    fleet.hosts["b"].kill_all()
    fleet.join("b")
    wait_for("host b to be given up", agents_up(fleet, NUM_AGENTS - 2))
    fleet.wait_until_learning(90.0)
    record("all of a host, kill -9", time.monotonic() - began_s, "joins again under its name")
    assert {n: pid for n, pid in fleet.all_processes().items() if n[0] != "b"} == rest
    lives = [int(life) for life in re.findall(r"ready, incarnation (\d+)", fleet.logs("b"))]
    assert max(lives) > 0, "above what was seen of its earlier life"


@pytest.mark.slow
def test_a_killed_node_takes_its_agents_along_and_can_be_started_again(fleet: Fleet) -> None:
    """Lost: the node of host c (kill -9); its agents notice, and make way for the next."""
    began_s = time.monotonic()
    fleet.signal("c", "node", signal.SIGKILL)
    fleet.join("c")  # at once, as a service manager would
    wait_for("host c to be given up", agents_up(fleet, NUM_AGENTS - 2))
    fleet.wait_until_learning(90.0)
    record("remote node, kill -9", time.monotonic() - began_s, "started again by hand, joins")
    assert set(fleet.processes("c")) == {"node", "agent 4", "agent 5"}


# --- the learner ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)],
    ids=["killed", "hung"],
)
def test_a_lost_learner_is_started_again_and_serves_all_hosts(
    fleet: Fleet, how: signal.Signals
) -> None:
    """Lost: the learner (kill -9, SIGSTOP), with its replay and updates since its checkpoint."""
    (run,) = fleet.folder.glob("runs/*")
    episodes = fleet.figure("learner/episodes")
    wait_for("a checkpoint", lambda: read_progress(run / CHECKPOINT).updates > 0)
    rest = others(fleet, "a/learner")
    began_s = time.monotonic()
    pid = fleet.signal(HEAD, "learner", how)
    wait_for_another(fleet, HEAD, "learner", pid)
    wait_for("its first word", lambda: f"{fleet.processes(HEAD)['learner']} at" in fleet.logs(HEAD))
    version = fleet.figure("learner/version")
    wait_for(
        "versions of the new learner on all hosts",
        lambda: fleet.figure("agent/policy_version_min") > version + 3,
        90.0,
    )
    fleet.wait_until_learning()
    way = "kill -9" if how is signal.SIGKILL else "SIGSTOP"
    record(f"learner, {way}", time.monotonic() - began_s, "continues from checkpoint and journal")
    assert others(fleet, "a/learner") == rest, "agents keep acting"
    assert fleet.figure("learner/episodes") >= episodes, "it must not begin anew"


# --- rows that end a run ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "how"),
    [
        pytest.param("world", signal.SIGKILL, id="world-killed", marks=pytest.mark.slow),
        pytest.param("world", signal.SIGSTOP, id="world-hung", marks=pytest.mark.slow),
        pytest.param("node", signal.SIGKILL, id="node-killed", marks=pytest.mark.slow),
        # The same lines of the launcher as a world that hangs.
        pytest.param("node", signal.SIGSTOP, id="node-hung", marks=pytest.mark.slow),
    ],
)
def test_without_its_world_or_own_node_a_run_ends_everywhere_and_says_why(
    tmp_path: Path, title: str, how: signal.Signals
) -> None:
    """Lost: the world, or the head's own node (kill -9, SIGSTOP); nobody can take their place."""
    options = (*ENDLESS, "--runtime.silent-timeout-s", "5")
    with Fleet.start(tmp_path, *options) as fleet:
        fleet.wait_until_learning()
        began_s = time.monotonic()
        fleet.signal(HEAD, title, how)
        codes = fleet.wait_for_exits(60.0)
        way = "kill -9" if how is signal.SIGKILL else "SIGSTOP"
        record(f"{title} of the head, {way}", time.monotonic() - began_s, "the run ends")
        assert codes == {"a": 1, "b": 0, "c": 0}
        what = "died (signal 9)" if how is signal.SIGKILL else "hung and was killed"
        assert f"error: the {title} process {what}, see logs/{title}-0.log" in fleet.output(HEAD)
        (run,) = fleet.folder.glob("runs/*")
        assert (run / CHECKPOINT).exists()
        assert fleet.summary()["exit_reason"].startswith(f"the {title} process")


@pytest.mark.slow
def test_nodes_that_hear_nothing_from_the_head_give_up(tmp_path: Path) -> None:
    """Lost: the link of the head, for longer than head_timeout_s; then every process of it."""
    options = (*ENDLESS, "--runtime.head-timeout-s", "5", "--runtime.host-timeout-s", "3")
    with Fleet.start(tmp_path, *options) as fleet:
        fleet.wait_until_learning()
        began_s = time.monotonic()
        fleet.hosts[HEAD].link_down()
        for name in REMOTE:
            assert fleet.started[name][-1].wait(60.0) == 1
            assert "the head has been silent for 5 s" in fleet.output(name)
        record("link of the head", time.monotonic() - began_s, "the other hosts give up")
        wait_for("the head to do without them", agents_up(fleet, 2))
        fleet.wait_for_steps()
        fleet.interrupt()
        assert fleet.wait_for_exits(30.0) == {"a": 130, "b": 1, "c": 1}


# --- a slow receiver --------------------------------------------------------------------------


@pytest.mark.slow
def test_an_agent_that_does_not_read_is_not_waited_for_and_nothing_piles_up(
    tmp_path: Path,
) -> None:
    """Lost: agent 3 on host b stops reading (SIGSTOP) while everybody goes on in lock-step."""
    hasty = ("--runtime.step-timeout-s", "1", "--agents.peer-timeout-s", "0.5")
    with Fleet.start(tmp_path, *ENDLESS, *hasty, "--env-copies", "32") as fleet:
        fleet.wait_until_learning()
        before = memory_mb(fleet)
        pid = fleet.signal("b", "agent 3", signal.SIGSTOP)
        refused = fleet.figure("comm/full_packets")
        # Queues are full, and what they refuse is counted; without a bound they would never be.
        wait_for("full queues", lambda: fleet.figure("comm/full_packets") > refused + 100, 90.0)
        assert_bounded(fleet, before)
        os.kill(pid, signal.SIGCONT)
        began_s = time.monotonic()
        fleet.wait_for_episodes()
        record("agent that does not read, then does", time.monotonic() - began_s, "plays again")
        assert fleet.processes("b")["agent 3"] == pid
        fleet.interrupt()
        assert fleet.wait_for_exits(30.0) == {"a": 130, "b": 0, "c": 0}


# --- parameters -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_host_that_missed_deltas_gets_a_whole_version(tmp_path: Path) -> None:
    """Lost: what the learner publishes (deltas) while its connection to host b is dead."""
    # It owes so many updates that it goes on publishing while no whole episode comes.
    busy = ("--learner.updates-per-episode", "32", "--learner.max-backlog", "2000")
    hasty = ("--runtime.host-timeout-s", str(HOST_S), "--learner.publish-period", "1")
    delta = ("--learner.publish", "delta")
    with Fleet.start(tmp_path, *ENDLESS, *busy, *hasty, *delta) as fleet:
        wait_for("updates owed", lambda: fleet.figure("learner/backlog") > 1500)
        fleet.hosts["b"].link_down()
        wait_for("host b to be given up", agents_up(fleet, NUM_AGENTS - 2))
        # TCP_MAXRT is 5 s: what is published afterwards cannot be sent to host b any more.
        time.sleep(6.0)
        version = fleet.figure("learner/version")
        fleet.wait_for_versions(more=5)
        fleet.hosts["b"].link_up()
        began_s = time.monotonic()
        assert fleet.figure("agent/policy_version_min") < version, "host b has missed some"
        wait_for(
            "versions on host b",
            lambda: fleet.figure("agent/policy_version_min") > version + 5,
            90.0,
        )
        record(
            "parameter deltas on their way to a host",
            time.monotonic() - began_s,
            "the node subscribes anew and gets a whole version",
        )
        fleet.interrupt()
        assert fleet.wait_for_exits(30.0) == {"a": 130, "b": 0, "c": 0}
