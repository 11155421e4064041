"""A deployed policy is replaced while its agents act: on all hosts at one tick, or on none."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.deployment.bundle import read_bundle
from runtime.deployment.push import Nodes, Terms
from runtime.net.transport import LAUNCHER
from tests.process.live_deployment import LiveDeployment
from tests.process.namespaces import Hosts
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

QUICK = ("--watch-s", "0")
"""Three reports of each agent all the same."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveDeployment]:
    """Two hosts of two agents each on this machine, one known by an address, one by a name."""
    folder = tmp_path_factory.mktemp("update")
    with LiveDeployment.start(folder, {"a": "127.0.0.1", "b": "localhost"}, 4) as started:
        yield started


def test_agents_of_two_hosts_go_over_at_one_tick_and_lose_none(deployment: LiveDeployment) -> None:
    ticks = deployment.ticks()
    try:
        pushed = deployment.push(deployment.newer(5), *QUICK)
    finally:
        ticks.stop()
    assert pushed.code == 0, pushed
    assert pushed.lines[-1] == "policy version 5 is in use on 2 hosts (4 agents)"
    assert ticks.lost() == []
    assert all(ticks.versions(agent) == [1, 5] for agent in range(4))
    (tick,) = set(ticks.first_by(5).values())
    assert f"from tick {tick} on" in pushed.lines[1]
    for name in "ab":
        assert f"policy version 5 takes the place of 1 from tick {tick} on" in deployment.log(name)
        wait_for("the line of the host", lambda n=name: "| policy 5 |" in deployment.output(n))


def test_an_older_version_is_refused_and_nothing_changes(deployment: LiveDeployment) -> None:
    current = in_use(deployment)
    older = deployment.push(deployment.newer(current - 1, seed=9))
    assert older.code == 2, older
    says = f"nothing has changed: host a: version {current - 1} is not newer than {current}"
    assert says in older.refusal
    assert in_use(deployment) == current


def test_a_key_of_another_deployment_opens_no_door(
    deployment: LiveDeployment, tmp_path: Path
) -> None:
    current = in_use(deployment)
    deployment.make(tmp_path / "strangers")
    pushed = deployment.push(
        deployment.newer(current + 1), "--timeout-s", "1", bundles=tmp_path / "strangers"
    )
    assert pushed.code == 2, pushed
    assert "does not know this key of the head" in pushed.refusal
    assert in_use(deployment) == current


def test_no_other_key_of_the_deployment_opens_the_door(deployment: LiveDeployment) -> None:
    current = in_use(deployment)
    own = read_bundle(deployment.out / "b")
    for name in ("node-b", "agent-2"):
        stolen = replace(own, keys={LAUNCHER: own.keys[name]})
        nodes = Nodes(stolen)
        try:
            answers = nodes.offer(b"", Terms(watch_s=0.0, timeout_s=1.0))
        finally:
            nodes.close()
        assert all("does not know this key" in str(answer) for answer in answers.values())
    assert in_use(deployment) == current


def test_a_host_that_cannot_keep_it_has_it_taken_up_by_nobody(deployment: LiveDeployment) -> None:
    current = in_use(deployment)
    in_the_way = deployment.out / "b" / "offered-update.safetensors.tmp"
    in_the_way.mkdir()
    try:
        pushed = deployment.push(deployment.newer(current + 1), *QUICK)
    finally:
        in_the_way.rmdir()
    assert pushed.code == 2, pushed
    assert "nothing has changed: host b: the version cannot be kept" in pushed.refusal
    assert in_use(deployment) == current
    assert not (deployment.out / "a" / "offered-update.safetensors").exists()


@pytest.mark.slow
def test_an_agent_that_fails_by_the_new_version_makes_all_hosts_go_back(
    deployment: LiveDeployment,
) -> None:
    current = in_use(deployment)

    def kill_one(line: str) -> None:
        if "act by version" in line:
            deployment.kill_agent(3)

    ticks = deployment.ticks()
    try:
        pushed = deployment.push(deployment.newer(current + 1, seed=2), *QUICK, when=kill_one)
        # Hosts say that they are back before each agent's next tick is seen.
        wait_for(
            "ticks by the version before",
            lambda: all(ticks.versions(agent)[-1:] == [current] for agent in range(3)),
        )
    finally:
        ticks.stop()
    assert pushed.code == 1, pushed
    assert "was taken back on all hosts: host b: " in pushed.refusal
    for agent in range(3):  # nor does going back cost a tick
        assert ticks.versions(agent) == [current, current + 1, current]
        assert [tick for a, tick in ticks.lost() if a == agent] == []
    assert in_use(deployment) == current
    for name in "ab":
        assert f"version {current + 1} is taken back, {current} is in use" in deployment.log(name)
    # The agent that was started again may have begun with the other one.
    wait_for("the agent to be back", lambda: versions_on(deployment, "b") == (2.0, current))


# --- three hosts ----------------------------------------------------------------------------------


@contextmanager
def three_hosts(folder: Path) -> Generator[tuple[LiveDeployment, Hosts]]:
    """Network namespaces, two agents in each; every agent has neighbours on all three."""
    with Hosts.create("a", "b", "c") as hosts:
        places = {host.name: host for host in hosts}
        with LiveDeployment.start(folder, places, 6) as deployment:
            yield deployment, hosts


@pytest.mark.slow
def test_agents_of_three_hosts_go_over_at_one_tick_and_lose_none(tmp_path: Path) -> None:
    with three_hosts(tmp_path) as (deployment, hosts), hosts["c"].slow_link(0.05):
        ticks = deployment.ticks()
        try:
            pushed = deployment.push(deployment.newer(5), at=hosts["a"])
        finally:
            ticks.stop()
        assert pushed.code == 0, pushed
        assert ticks.lost() == []
        assert all(ticks.versions(agent) == [1, 5] for agent in range(6))
        assert len(set(ticks.first_by(5).values())) == 1
        # A host that is started again begins with what has proved itself.
        deployment.kill("c")
        deployment.run_node("c")
        deployment.wait_until_up("c")
        assert in_use(deployment) == 5
        print(f"{len(ticks.asked)} ticks of 6 agents on 3 hosts, lost: {len(ticks.lost())}")


@pytest.mark.slow
def test_an_interrupted_push_takes_all_hosts_back(tmp_path: Path) -> None:
    with three_hosts(tmp_path) as (deployment, hosts):

        def interrupt(line: str) -> None:
            if "act by version" in line:
                deployment.interrupt_push()

        pushed = deployment.push(deployment.newer(5), at=hosts["a"], when=interrupt)
        assert pushed.code == 130, pushed
        assert pushed.refusal == "interrupted"
        assert in_use(deployment) == 1
        assert "version 5 is taken back, 1 is in use" in deployment.log("b")


@pytest.mark.slow
def test_a_host_that_is_started_again_in_the_middle_has_the_version_before_and_so_have_all(
    tmp_path: Path,
) -> None:
    with three_hosts(tmp_path) as (deployment, hosts):

        def start_again(line: str) -> None:
            if "act by version" in line:
                deployment.kill("b")
                deployment.run_node("b")

        pushed = deployment.push(
            deployment.newer(5), "--timeout-s", "20", at=hosts["a"], when=start_again
        )
        assert pushed.code == 1, pushed
        assert "taken back on all hosts: host b: it was started again" in pushed.refusal
        deployment.wait_until_up("b")
        assert in_use(deployment) == 1


@pytest.mark.slow
def test_a_host_that_is_cut_off_in_the_middle_goes_back_by_itself(tmp_path: Path) -> None:
    with three_hosts(tmp_path) as (deployment, hosts):

        def pull(line: str) -> None:
            if "act by version" in line:
                hosts["c"].link_down()

        pushed = deployment.push(deployment.newer(5), "--timeout-s", "3", at=hosts["a"], when=pull)
        assert pushed.code == 3, pushed
        assert "host c does not answer" in pushed.refusal
        assert "it goes back by itself" in pushed.refusal
        assert "version 5 is taken back, 1 is in use" in deployment.log("a")
        wait_for(
            "the host that was cut off to go back",
            lambda: "version 5 is taken back, 1 is in use" in deployment.log("c"),
        )
        hosts["c"].link_up()
        wait_for("all hosts to answer", lambda: len(deployment.look()) == 3)
        assert in_use(deployment) == 1


# --- what was seen --------------------------------------------------------------------------------


def in_use(deployment: LiveDeployment) -> int:
    """Version that all hosts have."""
    (version,) = {state.version for state in deployment.look().values()}
    return version


def versions_on(deployment: LiveDeployment, name: str) -> tuple[float, ...]:
    """How many agents of a host report, and the versions that they act by."""
    figures = deployment.look()[name].figures
    ends = {figures["policy_version_min"], figures["policy_version_max"]}
    return (figures["agents_reporting"], *ends)
