"""Training to a threshold, with real processes all the way (minutes: `-m slow`)."""

from pathlib import Path

import pytest

from tests.process.runs import Launched

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(900)]

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


@pytest.mark.timeout(1900)
def test_battle_against_random_opponents_improves_clearly(tmp_path: Path) -> None:
    """The run of docs/results/battle.md. Idling returns -1; hitting the enemy returns more."""
    arguments = ("--agents", "20", "--env", "battle", "--steps", "120000", "--seed", "1")
    with Launched(tmp_path, *arguments) as run:
        assert run.finish(1800.0) == 0, run.output.read_text()
        summary = run.summary()
    assert summary["return_mean"] > 1.0
    assert summary["win_rate"] > 0.9
