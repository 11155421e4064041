"""Every option that changes what processes say to each other or learn, from end to end."""

from pathlib import Path

import pytest

from tests.process.runs import Launched

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SMALL = ("--agents", "5", "--env-copies", "3", "--evaluation.episodes", "3")
RELAY = (*SMALL, "--env", "relay", "--steps", "900", "--learner.learning-starts", "16")
SHORT = ("--env.max-cycles", "30", "--learner.learning-starts", "2", "--learner.window", "12")
BATTLE = (*SMALL, "--env", "battle", "--steps", "360", *SHORT)

SPARSE = ("--sparse.method", "set", "--sparse.period", "2", "--learner.publish", "sparse")


@pytest.mark.parametrize(
    "options",
    [
        (*RELAY, "--algorithm", "qmix", "--learner.aux", "predict", "--learner.publish", "delta"),
        pytest.param(
            (*RELAY, "--gate.timing", "paper", "--transport", "tcp"), marks=pytest.mark.slow
        ),
        pytest.param((*RELAY, "--comm", "none"), marks=pytest.mark.slow),
        pytest.param(
            (*RELAY, "--gate.mode", "open", "--network.message-dtype", "float32"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (*BATTLE, "--algorithm", "vdn", "--learner.aux", "contrast", "--opponent", "scripted"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (*BATTLE, *SPARSE, "--algorithm", "wqmix", "--learner.operator", "mellowmax"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (*RELAY, *SPARSE, "--algorithm", "res", "--learner.publish-dtype", "float16"),
            marks=pytest.mark.slow,
        ),
        pytest.param((*RELAY, "--algorithm", "facmac"), marks=pytest.mark.slow),
        pytest.param(
            (*BATTLE, "--agents.dead", "relay", "--gate.timing", "paper", "--learner.burn-in", "4"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda options: " ".join(options[10:]),
)
def test_a_run_with_these_options_learns_and_evaluates(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    with Launched(tmp_path, *options) as run:
        assert run.finish(100.0) == 0, run.output.read_text()
        summary = run.summary()
        metrics = run.newest_metrics()
    assert summary["exit_reason"] == "finished"
    assert summary["learner_updates"] > 0
    assert summary["evaluation_episodes"] >= 3
    assert summary["messages_late"] == summary["messages_dropped"] == 0
    assert metrics["learner/updates_skipped"] == 0, "no update had a loss that is not finite"
    # Every trajectory found its episode, except those of agents that had died in episodes that were
    # still being played when training ended: one in each copy at most.
    assert metrics["learner/episodes_dropped"] <= summary["env_copies"]
    silent = "none" in options
    assert (summary["message_payload_bytes"] == 0) == silent
    if summary["transport"] == "tcp":
        assert summary["edge_tcp_bytes"] == summary["edge_zmtp_bytes"]
