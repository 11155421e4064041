"""A training run on three hosts, from its first process to its last; and hosts that cannot join."""

import json
import shutil
from pathlib import Path

import pytest

from runtime.net.traffic import COUNTERS
from tests.process.fleet import HEAD, NUM_AGENTS, REMOTE, Fleet
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


@pytest.mark.slow
def test_a_run_on_three_hosts_trains_to_its_end_and_leaves_nothing(tmp_path: Path) -> None:
    options = ("--steps", "1500", "--evaluation.episodes", "4")
    with Fleet.start(tmp_path, *options) as fleet:
        wait_for("agents on all hosts", lambda: fleet.figure("agent/up") == NUM_AGENTS)
        found = {name: set(fleet.processes(name)) for name in (HEAD, *REMOTE)}
        assert found == {
            "a": {"world", "learner", "node", "agent 0", "agent 1"},
            "b": {"node", "agent 2", "agent 3"},
            "c": {"node", "agent 4", "agent 5"},
        }
        codes = fleet.wait_for_exits(120.0)
        assert codes == {"a": 0, "b": 0, "c": 0}, fleet.output(HEAD)
        summary = fleet.summary()
        (run,) = fleet.folder.glob("runs/*")
        remote = {
            name: json.loads(next(fleet.folder.glob(f"runs-{name}/*/summary.json")).read_text())
            for name in REMOTE
        }
        logs = "".join(map(fleet.logs, (HEAD, *REMOTE)))
    assert summary["exit_reason"] == "finished"
    assert summary["env_steps"] >= 1500
    assert summary["evaluation_episodes"] >= 4
    assert summary["learner_updates"] > 0
    assert summary["agent_restarts"] == 0
    assert (run / "policy.safetensors").exists()
    assert "Traceback" not in logs
    # Every agent plays every step, so each host has a third of all, and the sums are of all three.
    for name in REMOTE:
        assert remote[name]["exit_reason"] == "finished"
        assert remote[name]["agents_ready"] == 2
    steps = [remote[name]["agent_steps"] for name in REMOTE]
    assert steps[0] == steps[1] > 0
    sums = {
        "message_payload_bytes": "sent_payload_message",
        "beacon_payload_bytes": "sent_payload_beacon",
        "action_bytes": "sent_payload_action",
    }
    for total, part in sums.items():
        assert part in COUNTERS
        others = sum(remote[name][part] for name in REMOTE)
        assert 0 < others < summary[total], total
        # What is left is the head's share: actions are the same for everybody.
        if total == "action_bytes":
            assert summary[total] == pytest.approx(1.5 * others, rel=0.02)


@pytest.mark.slow
def test_a_host_that_does_not_come_is_named_and_the_others_are_sent_home(tmp_path: Path) -> None:
    options = ("--steps", "1500", "--runtime.start-timeout-s", "20")
    with Fleet.start(tmp_path, *options, join=["b"]) as fleet:
        codes = fleet.wait_for_exits(90.0)
        assert codes == {"a": 1, "b": 0}, fleet.output(HEAD)
        assert (
            "not ready in time: host c has not joined (--runtime.start-timeout-s"
            in fleet.output(HEAD)
        )
        assert "host b" not in fleet.output(HEAD).split("not ready in time")[-1]


def test_a_stale_or_foreign_bundle_is_refused_in_one_line(tmp_path: Path) -> None:
    with Fleet.start(tmp_path, "--steps", "1500", join=[]) as fleet:
        stale = tmp_path / "stale"
        shutil.copytree(fleet.bundles / "b", stale)
        keys = json.loads((stale / "keys.json").read_text())

        # Rotated since: the head, started again, knows other keys.
        fleet.head.kill()
        fleet.head.wait()
        wait_for("an empty head", lambda: not fleet.hosts[HEAD].pids())
        fleet.make_bundles("--rotate", "all")
        assert json.loads((fleet.bundles / "b" / "keys.json").read_text()) != keys
        fleet.launch("--steps", "1500")
        fleet.join("b", bundle=stale)
        assert fleet.started["b"][-1].wait(60.0) == 2
        assert errors(fleet, "b") == [
            "error: tcp://10.77.0.1:7401: the head does not know this bundle's keys: it was made "
            "by another deployment, or its keys have been rotated; copy the newest bundle"
        ]

        fleet.join("b", bundle=fleet.bundles / "c")  # the wrong folder was copied
        assert fleet.started["b"][-1].wait(30.0) == 2
        (line,) = errors(fleet, "b")
        assert "is for host c with address 10.77.0.3, which this machine does not have" in line

        with (fleet.bundles / "b" / "book.json").open("a") as book:
            book.write(" ")
        fleet.join("b")
        assert fleet.started["b"][-1].wait(30.0) == 2
        (line,) = errors(fleet, "b")
        assert line.endswith("book.json: changed since the bundle was made: copy it again")
        assert fleet.head.poll() is None, "the head minds none of it"


def errors(fleet: Fleet, name: str) -> list[str]:
    output = fleet.output(name)
    assert "Traceback" not in output
    return [line for line in output.splitlines() if not line.startswith(f"host {name}: joining")]
