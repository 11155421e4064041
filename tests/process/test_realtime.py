"""Deployed agents: real processes, real edges, real bodies, and nobody waits."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.battle.battle import NUM_ACTIONS, OBSERVATION_DIM
from envs.relay import relay_spec
from runtime.bodies import Bodies
from runtime.body import BodyClient
from runtime.host.process_memory import pss_mb
from runtime.net import wire
from runtime.net.errors import BodyError
from tests.process.deployed import RELAY_POLICY, Deployed, fresh_policy, relay_policy
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

NUM_AGENTS = 16
RATE_HZ = 4.0
"""Slow, so that sixteen agents act within a tick even where they share a core with other work."""
EPISODES = 6
PACED = ("--episodes", str(EPISODES), "--rate-hz", str(RATE_HZ))
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def drive(example: str, *arguments: str) -> subprocess.Popen[str]:
    """Start an example as somebody who has read the documentation would."""
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / example), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=EXAMPLES.parents[1],
        env={"PYTHONPATH": str(EXAMPLES.parents[1])},
    )


def result_of(process: subprocess.Popen[str], timeout_s: float = 60.0) -> dict[str, Any]:
    output, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, output
    return json.loads(output)


def relay(deployed: Deployed, local: str, *options: str) -> subprocess.Popen[str]:
    arguments = ("--body", deployed.body, "--agents", str(NUM_AGENTS), "--local", local)
    return drive("relay_body.py", *arguments, "--seed", "7", *options)


@pytest.mark.slow
def test_two_bodies_of_half_the_agents_each_play_by_the_clock(tmp_path: Path) -> None:
    with Deployed(tmp_path, relay_policy(), NUM_AGENTS, rate_hz=RATE_HZ) as deployed:
        deployed.wait_until_ready()
        start_at = ("--start-at", str(time.time() + 3.0))
        halves = [relay(deployed, local, *PACED, *start_at) for local in ("0-7", "8-15")]
        played = [result_of(half) for half in halves]
        spec = relay_spec(NUM_AGENTS)
        steps = EPISODES * spec.episode_limit
        assert [half["steps"] for half in played] == [steps, steps]
        mean = sum(half["return_sum"] for half in played) / sum(h["return_count"] for h in played)
        assert mean > 0.8, played
        assert deployed.total("agent_steps") > 0.8 * steps * NUM_AGENTS
        assert deployed.action_latency().sum() > 0.8 * steps * NUM_AGENTS
        deployed.stop()
    assert "ERROR" not in deployed.logs()


@pytest.mark.slow
def test_bodies_that_set_the_pace_themselves_are_answered_at_each_observation(
    tmp_path: Path,
) -> None:
    with Deployed(tmp_path, relay_policy(), NUM_AGENTS, curve=True) as deployed:
        deployed.wait_until_ready()
        played = result_of(relay(deployed, "0-15", *PACED))
        assert played["return_mean"] > 0.8, played
        steps = played["steps"] * NUM_AGENTS - played["actions_missing"]
        assert deployed.total("agent_steps") >= steps > 0.8 * played["steps"] * NUM_AGENTS
        assert deployed.action_latency().sum() == deployed.total("agent_steps")
        assert deployed.total("refused") == 0
        # Once more, with numbers that begin again: other bodies may.
        again = result_of(relay(deployed, "0-15", "--episodes", "2"))
        assert again["actions_missing"] == 0, again
        deployed.stop()


def test_an_agent_acts_before_it_has_any_neighbour(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path, fresh_policy(6, 4), 4)
    try:
        deployed.start(2)  # nobody hands out an address book
        with BodyClient(deployed.body.format(agent=2), 2, timeout_s=20.0) as body:
            for step in range(5):
                assert 0 <= body.act(np.zeros(6, np.float32), step=step, first=step == 0) < 4
        deployed.wait_for("a report", lambda: 2 in deployed.reports)
        assert deployed.counters(2)["agent_steps"] == 5
    finally:
        deployed.__exit__()


@pytest.mark.slow
def test_a_stopped_neighbour_costs_its_messages_and_nothing_else(tmp_path: Path) -> None:
    """The frozen agent plays on when it wakes up, and nothing piles up meanwhile.

    What was sent to it is no measure: it arrives in order, so none of it need be late or stale, or
    not at all where the kernel has given up the connection by then (5 s).
    """
    frozen = 5
    others = tuple(agent for agent in range(8) if agent != frozen)
    with Deployed(tmp_path, relay_policy(), 8, rate_hz=100.0) as deployed:
        deployed.wait_until_ready()
        with Bodies(deployed.body, range(8), 20.0) as bodies:
            step = 0

            def play(agents: tuple[int, ...], ticks: int) -> None:
                """Something new to see for every tick, whether or not the last one was answered."""
                nonlocal step
                for _ in range(ticks):
                    row = np.zeros(6, np.float32)
                    bodies.act(
                        dict.fromkeys(agents, row), step=step, first=step == 0, patience_s=0.015
                    )
                    step += 1

            play((*others, frozen), 50)
            deployed.signal(frozen, signal.SIGSTOP)
            before = {agent: deployed.counters(agent)["agent_steps"] for agent in others}
            memory = [pss_mb(deployed.processes[agent].pid or 0) or 0.0 for agent in others]
            play(others, 300)
            for agent in others:
                assert deployed.counters(agent)["agent_steps"] > before[agent] + 100
            after = [pss_mb(deployed.processes[agent].pid or 0) or 0.0 for agent in others]
            assert max(np.subtract(after, memory)) < 4.0, "nothing may pile up for the frozen one"
            deployed.signal(frozen, signal.SIGCONT)
            resumed = deployed.counters(frozen)["agent_steps"]
            play((*others, frozen), 100)
            assert deployed.counters(frozen)["agent_steps"] > resumed + 30
            assert deployed.counters(frozen)["ticks_missed"] > 100
        deployed.stop()


def test_a_body_finds_its_agent_again_after_a_restart(tmp_path: Path) -> None:
    row = np.zeros(6, np.float32)
    with Deployed(tmp_path, fresh_policy(6, 4), 4) as deployed:
        deployed.wait_until_ready()
        with BodyClient(deployed.body.format(agent=1), 1, timeout_s=20.0) as body:
            body.act(row, step=0, first=True)
            deployed.restart(1)
            assert 0 <= body.act(row, step=1) < 4
            assert 0 <= body.act(row, step=2) < 4
            deployed.wait_for("the agent to be ready", lambda: 1 in deployed.ready)
            assert deployed.counters(1)["agent_steps"] == 2
        deployed.stop()


def test_without_anything_new_to_see_no_tick_is_played_but_all_are_counted(tmp_path: Path) -> None:
    row = np.zeros(6, np.float32)
    with Deployed(tmp_path, fresh_policy(6, 4), 2, rate_hz=50.0) as deployed:
        deployed.wait_until_ready()
        assert deployed.counters(0)["ticks_missed"] == 0, "without a body nothing is missed"
        with BodyClient(deployed.body.format(agent=0), 0, timeout_s=20.0) as body:
            assert body.rate_hz == 50.0
            body.act(row, step=0, first=True)
            deployed.wait_for("ticks", lambda: deployed.counters(0)["ticks_missed"] > 30)
            assert deployed.counters(0)["agent_steps"] == 1
            # Of several observations between two ticks the newest is taken.
            for step in (1, 2, 3):
                assert body.send(row, step=step)
            answers: list[int] = []

            def last_is_answered() -> bool:
                answer = body.receive()
                if answer is not None:
                    answers.append(answer.step)
                return 3 in answers

            wait_for("the newest to be answered", last_is_answered)
            assert len(answers) <= 2, "a tick may have fallen in between, but not two"
        deployed.stop()


def test_what_no_body_would_send_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    row = np.zeros(6, np.float32)
    with Deployed(tmp_path, fresh_policy(6, 4), 2) as deployed:
        deployed.wait_until_ready()
        endpoint = deployed.body.format(agent=0)
        with pytest.raises(BodyError, match="this is agent 0, not agent 1"):
            BodyClient(endpoint, 1, timeout_s=10.0)
        with BodyClient(endpoint, 0, timeout_s=10.0) as body:
            body.act(row, step=5, first=True)
            wide = wire.BodyObservation(6, wire.ALIVE, 0, np.zeros(7, np.float32))
            nan = wire.BodyObservation(6, wire.ALIVE, 0, np.full(6, np.nan, np.float32))
            past = wire.BodyObservation(4, wire.ALIVE, 0, row)
            for packet in (wide, nan, past):
                body.socket.send(wire.encode(packet))
            body.socket.send(b"no packet at all")
            body.act(row, step=6)
            with BodyClient(endpoint, 0, timeout_s=10.0) as usurper:
                usurper.act(row, step=1, first=True)
                assert body.send(row, step=7)  # no longer the body
                wait_for(
                    "the old body to be refused",
                    lambda: deployed.counters(0)["dropped_unknown_sender"] == 2,
                )
                usurper.act(row, step=2)
        counters = deployed.counters(0)
        dropped = {name: counters[f"dropped_{name}"] for name in ("shape", "nonfinite", "stale")}
        assert dropped == {"shape": 1, "nonfinite": 1, "stale": 1}
        assert counters["dropped_decode"] + counters["dropped_version"] == 1
        assert counters["agent_steps"] == 4
        deployed.stop()


# --- the examples of the documentation ------------------------------------------------------------


def test_recorded_observations_are_answered_as_they_were_recorded(tmp_path: Path) -> None:
    """Lock-step and real time, over the same episodes, agent by agent and step by step."""
    recording = tmp_path / "recording"
    task = ("--policy", str(RELAY_POLICY), "--env", "relay", "--agents", str(NUM_AGENTS))
    options = ("--episodes", "4", "--json", "--record", str(recording))
    subprocess.run(
        [sys.executable, "-m", "runtime.evaluate", *task, *options],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=100,
    )
    episodes = sorted(map(str, recording.glob("*.npz")))
    assert len(episodes) == 4
    with Deployed(tmp_path, relay_policy(), NUM_AGENTS) as deployed:
        deployed.wait_until_ready()
        arguments = ("--body", deployed.body, "--local", "0-15", "--rate-hz", str(RATE_HZ))
        replayed = result_of(drive("replay_body.py", *arguments, *episodes))
        # Alone, an agent cannot know what it was told then.
        alone = ("--body", deployed.body, "--local", "3", *episodes)
        unheard = result_of(drive("replay_body.py", *alone))
        deployed.stop()
    length = relay_spec(NUM_AGENTS).episode_limit
    assert replayed["actions"] == 4 * length * NUM_AGENTS
    assert replayed["actions_agreed"] + replayed["actions_missing"] > 0.9 * replayed["actions"]
    assert unheard["actions"] == 4 * length
    assert unheard["actions_agreed"] < unheard["actions"]


@pytest.mark.slow
def test_agents_are_driven_from_pettingzoo(tmp_path: Path) -> None:
    with Deployed(tmp_path, relay_policy(), NUM_AGENTS) as deployed:
        deployed.wait_until_ready()
        options = ("--body", deployed.body, "--agents", str(NUM_AGENTS), "--local", "0-15")
        played = result_of(drive("pettingzoo_body.py", *options, *PACED))
        deployed.stop()
    assert played["steps"] == EPISODES * relay_spec(NUM_AGENTS).episode_limit
    assert played["return_mean"] > 0.8, played


def test_a_battle_is_fought_by_deployed_agents(tmp_path: Path) -> None:
    with Deployed(tmp_path, fresh_policy(OBSERVATION_DIM, NUM_ACTIONS), 4) as deployed:
        deployed.wait_until_ready()
        options = ("--body", deployed.body, "--env", "battle", "--agents", "4", "--opponent")
        fight = ("scripted", "--episodes", "1", "--local")
        played = result_of(drive("pettingzoo_body.py", *options, *fight, "0-3"))
        assert played["steps"] > 10
        assert played["actions_missing"] == 0
        half = drive("pettingzoo_body.py", *options, *fight, "0-1")
        half.communicate(timeout=60.0)
        assert half.returncode == 2, "half a battle cannot be seen"
        wrong = relay(deployed, "0-3", "--episodes", "1")
        wrong.communicate(timeout=60.0)
        assert wrong.returncode == 2, "agents of another task are refused"
        deployed.stop()
