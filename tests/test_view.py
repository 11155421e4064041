import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from runtime.view import LiveView, PlainView, RunSnapshot, make_view, plain_line

EARLY = RunSnapshot(
    elapsed_s=0.0,
    phase="starting",
    env_steps=0,
    episodes=0,
    agents_up=0,
    num_agents=100,
    restarts=0,
)
LATER = RunSnapshot(
    elapsed_s=100.0,
    phase="training",
    env_steps=250_000,
    episodes=1_250,
    agents_up=99,
    num_agents=100,
    restarts=2,
    steps_per_s=2500.0,
    episode_return=1.23456,
    win_rate=0.255,
    out_degree=3.456,
    bytes_per_agent_step=1234.5,
    policy_version=1100,
    policy_lag=1.5,
    learner_updates=1200,
)


def pipe() -> Console:
    return Console(file=io.StringIO(), width=40)


def terminal() -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=80, height=30, record=True, color_system=None
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_line_shows_every_number() -> None:
    assert plain_line(LATER, 1_000_000, "steps") == (
        "training 250,000/1,000,000 steps (25%), 0:05:00 to go | steps/s 2,500 | return 1.235 | "
        "win rate 26% | out-degree 3.46 | bytes/agent-step 1,234 | policy version 1,100 (lag 1.5) "
        "| learner updates 1,200 | agents up 99/100 | restarts 2"
    )


def test_line_shows_a_dash_for_what_nobody_knows_yet() -> None:
    assert plain_line(EARLY, 1_000_000, "steps") == (
        "starting 0/1,000,000 steps (0%), 0:00:00 | steps/s – | return – | win rate – | "
        "out-degree – | bytes/agent-step – | policy version – (lag –) | learner updates – | "
        "agents up 0/100 | restarts 0"
    )


def test_evaluation_counts_episodes() -> None:
    done = replace(LATER, phase="evaluating", episodes=20)
    assert plain_line(done, 20, "episodes").startswith("evaluating 20/20 episodes (100%), 0:01:40")


def test_time_to_go_of_a_resumed_run_does_not_count_the_steps_of_the_first() -> None:
    resumed = replace(LATER, elapsed_s=1.0)
    assert "0:05:00 to go" in plain_line(resumed, 1_000_000, "steps")


def test_more_steps_than_asked_for_are_still_all_of_them() -> None:
    assert "(100%), 0:01:40" in plain_line(LATER, 249_000, "steps")


def test_plain_view_prints_one_unbroken_line_every_five_seconds() -> None:
    console = pipe()
    view = PlainView(1_000_000, "steps", console)
    view.start()
    for elapsed_s in (0.0, 1.0, 4.9, 5.0, 9.0, 10.1):
        view.update(replace(LATER, elapsed_s=elapsed_s))
    lines = written(console).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("training 250,000/") for line in lines)
    assert "\x1b" not in written(console)


def test_plain_view_ends_with_the_last_numbers_and_the_files() -> None:
    console = pipe()
    view = PlainView(1_000_000, "steps", console)
    view.start()
    view.update(EARLY)
    view.finish(LATER, {"policy": Path("runs/x/[policy].safetensors")})
    assert written(console).splitlines()[1:] == [
        plain_line(LATER, 1_000_000, "steps"),
        "policy: runs/x/[policy].safetensors",
    ]


def test_live_view_draws_the_table_and_ends_with_the_files() -> None:
    console = terminal()
    view = LiveView(1_000_000, "steps", console)
    view.start()
    view.update(EARLY)
    view.finish(LATER, {"policy": Path("runs/x/policy.safetensors"), "log": Path("runs/x/logs")})
    text = console.export_text()
    assert "250,000/1,000,000 steps (25%)" in text
    for row in ("steps/s", "win rate", "1,100 (lag 1.5)", "99/100", "1,234"):
        assert row in text
    assert text.rstrip().endswith("runs/x/logs")


@pytest.mark.parametrize(("console", "kind"), [(pipe(), PlainView), (terminal(), LiveView)])
def test_terminal_gets_the_live_view(console: Console, kind: type) -> None:
    assert type(make_view(10, "episodes", console)) is kind
