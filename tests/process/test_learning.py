"""Training to a threshold, with real processes all the way (minutes: `-m slow`)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agents.policy import load_policy
from configs.run_files import BEST_POLICY
from tests.process.runs import Launched

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(900)]

EVALUATE = (
    *(sys.executable, "-m", "runtime.evaluate", "--policy", "shipped", "--agents", "20"),
    *("--episodes", "100", "--json"),
)
IMP = (
    *("--env", "imp", "--agents", "5", "--comm", "none", "--serial"),
    *("--steps", "30000", "--seed", "1"),
)
RELAY = ("--agents", "16", "--env", "relay", "--steps", "20000")


def test_relay_is_learnt_where_agents_may_speak(tmp_path: Path) -> None:
    with Launched(tmp_path, *RELAY) as run:
        assert run.finish(800.0) == 0, run.output.read_text()
        assert run.summary()["return_mean"] >= 0.9


def test_relay_cannot_be_learnt_in_silence(tmp_path: Path) -> None:
    with Launched(tmp_path, *RELAY, "--gate.mode", "closed") as run:
        assert run.finish(800.0) == 0, run.output.read_text()
        summary = run.summary()
    assert summary["return_mean"] < 0.4
    assert summary["message_payload_bytes"] == 0


def test_imp_is_learnt_to_be_looked_after(tmp_path: Path) -> None:
    """Five components left alone cost 107, repaired and inspected by chance 610."""
    with Launched(tmp_path, *IMP) as run:
        assert run.finish(800.0) == 0, run.output.read_text()
    (best,) = tmp_path.glob(f"runs/*/{BEST_POLICY}")
    assert float(load_policy(best).trained["evaluation_reached"]) >= -85.0


@pytest.mark.timeout(3700)
def test_battle_is_learnt_against_opponents_that_fight(tmp_path: Path) -> None:
    """Its evaluations are against scripted and idqn; the best of them decides, for the last policy
    may be worse (docs/results/battle.md)."""
    arguments = ("--agents", "20", "--env", "battle", "--steps", "160000", "--seed", "1")
    with Launched(tmp_path, *arguments) as run:
        assert run.finish(3600.0) == 0, run.output.read_text()
        summary = run.summary()
    (best,) = tmp_path.glob(f"runs/*/{BEST_POLICY}")
    assert float(load_policy(best).trained["evaluation_reached"]) >= 0.8
    assert 0.0 < summary["open_share"] < 0.9, "a gate that is always open or shut is not one"


@pytest.mark.parametrize("opponent", ["scripted", "idqn"])
def test_the_shipped_policy_wins_as_often_as_its_page_says(opponent: str) -> None:
    done = subprocess.run(
        (*EVALUATE, "--opponent", opponent),
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert json.loads(done.stdout)["win_rate"] >= 0.85
