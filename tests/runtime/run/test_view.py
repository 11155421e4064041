import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from runtime.run.view import LINE_PERIOD_S, LiveView, PlainView, RunSnapshot, Unit, make_view

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
    updates_owed=0,
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


def last_line(snapshots: Sequence[RunSnapshot], goal: int, unit: Unit = "steps") -> str:
    """What the plain view says last; it speaks at the first and then every five seconds."""
    console = pipe()
    view = PlainView(goal, unit, console)
    for snapshot in snapshots:
        view.update(snapshot)
    return written(console).splitlines()[-1]


def course(
    seconds: int,
    *,
    steps_per_s: float,
    updates_per_s: float = 0.0,
    due_per_s: float = 0.0,
    first: RunSnapshot = LATER,
) -> list[RunSnapshot]:
    """A snapshot for each second of a run at these rates."""
    return [
        replace(
            first,
            elapsed_s=first.elapsed_s + second,
            env_steps=first.env_steps + round(steps_per_s * second),
            learner_updates=(first.learner_updates or 0) + round(updates_per_s * second),
            updates_owed=round((due_per_s - updates_per_s) * second),
        )
        for second in range(seconds + 1)
    ]


def seconds_to_go(line: str) -> float:
    clock = re.search(r"about (\d+):(\d+):(\d+) to go", line)
    assert clock is not None, line
    hours, minutes, seconds = map(int, clock.groups())
    return 3600 * hours + 60 * minutes + seconds


def test_line_shows_every_number() -> None:
    assert last_line([LATER], 1_000_000) == (
        "training 250,000/1,000,000 steps (25%), time to go unknown, 0:01:40 elapsed "
        "| steps/s 2,500 | return 1.235 (training) | win rate 26% (training) | out-degree 3.46 "
        "| bytes/agent-step 1,234 | policy version 1,100 (lag 1.5) | learner updates 1,200 "
        "| agents up 99/100 | restarts 2"
    )


def test_line_shows_a_dash_for_what_nobody_knows_yet() -> None:
    assert last_line([EARLY], 1_000_000) == (
        "starting 0/1,000,000 steps (0%), 0:00:00 elapsed | steps/s – | return – | win rate – | "
        "out-degree – | bytes/agent-step – | policy version – (lag –) | learner updates – | "
        "agents started 0/100 | agents up 0/100 | restarts 0"
    )


def test_a_return_says_at_which_step_it_was_evaluated() -> None:
    line = last_line([replace(LATER, evaluated_at=200_000)], 1_000_000)
    assert "return 1.235 (evaluation at 200,000 steps)" in line
    assert "win rate 26% (evaluation at 200,000 steps)" in line


def test_evaluation_counts_episodes() -> None:
    evaluations = [
        replace(LATER, phase="evaluating", elapsed_s=100.0 + s, episodes=s) for s in range(11)
    ]
    line = last_line(evaluations, 20, "episodes")
    assert line.startswith("evaluating 10/20 episodes (50%), about 0:00:")


def test_the_last_evaluation_of_a_training_shows_its_own_progress() -> None:
    done = replace(LATER, phase="evaluating", env_steps=1_000_000, evaluation_size=100)
    assert last_line([done], 1_000_000).startswith("evaluating 0/100 episodes (0%), ")
    half = replace(done, evaluation_done=50)
    assert last_line([half], 1_000_000).startswith("evaluating 50/100 episodes (50%), ")


def test_an_evaluation_during_training_shows_its_progress_beside_the_steps() -> None:
    during = replace(LATER, evaluation_done=7, evaluation_size=20)
    line = last_line([during], 1_000_000)
    assert line.startswith("training 250,000/1,000,000 steps (25%)")
    assert "evaluation 7/20 episodes" in line


def test_time_to_go_is_that_of_the_steps_where_the_learner_keeps_up() -> None:
    line = last_line(course(60, steps_per_s=2500, updates_per_s=10, due_per_s=10), 1_000_000)
    assert seconds_to_go(line) == pytest.approx(600_000 / 2500, abs=30)
    assert "(steps 0:0" in line


def test_time_to_go_counts_the_updates_that_are_owed_and_those_to_come() -> None:
    """A learner at a third of the world's speed: what the steps alone say is wrong by three."""
    snapshots = course(60, steps_per_s=2500, updates_per_s=10, due_per_s=30)
    line = last_line(snapshots, 1_000_000)
    owed, to_come = 60 * 20, 600_000 / 2500 * 30
    assert seconds_to_go(line) == pytest.approx((owed + to_come) / 10, rel=0.15)
    assert re.search(r"\(steps 0:0\d:\d\d, [\d,]+ updates 0:1\d:\d\d\)", line)


def test_time_to_go_outlasts_some_seconds_in_which_nothing_moves() -> None:
    snapshots = course(60, steps_per_s=2500, updates_per_s=10, due_per_s=10)
    last_s = snapshots[-1].elapsed_s + LINE_PERIOD_S
    still = replace(snapshots[-1], elapsed_s=last_s, steps_per_s=0.0)
    line = last_line([*snapshots, still], 1_000_000)
    assert seconds_to_go(line) == pytest.approx(240, rel=0.3)
    assert "0:02:45 elapsed" in line


def test_updates_that_are_left_after_the_last_step_are_what_takes_time() -> None:
    catching_up = [
        replace(
            LATER,
            phase="finishing",
            env_steps=1_000_000,
            elapsed_s=200.0 + second,
            learner_updates=1200 + 10 * second,
            updates_owed=1000 - 10 * second,
        )
        for second in range(51)
    ]
    line = last_line(catching_up, 1_000_000)
    assert line.startswith("finishing 1,000,000/1,000,000 steps (100%), about 0:00:5")
    assert "(500 updates 0:00:5" in line
    assert "learner updates 1,700 (500 owed)" in line


def test_time_to_go_of_a_resumed_run_does_not_count_the_steps_of_the_first() -> None:
    resumed = replace(LATER, elapsed_s=0.0)
    line = last_line(course(60, steps_per_s=2500, first=resumed), 1_000_000)
    assert seconds_to_go(line) == pytest.approx(240, rel=0.15)


def test_more_steps_than_asked_for_are_still_all_of_them() -> None:
    line = last_line([LATER], 249_000)
    assert line.startswith("training 250,000/249,000 steps (100%), 0:01:40 elapsed")


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
        "training 250,000/1,000,000 steps (25%), 0:01:40 elapsed | steps/s 2,500 | "
        "return 1.235 (training) | win rate 26% (training) | out-degree 3.46 | "
        "bytes/agent-step 1,234 | policy version 1,100 (lag 1.5) | learner updates 1,200 | "
        "agents up 99/100 | restarts 2",
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
