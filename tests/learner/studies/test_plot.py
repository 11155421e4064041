"""Learning curves from a run's log."""

import dataclasses
import json
from pathlib import Path

import pytest

from configs.load import dump_run_config, read_resolved
from configs.run_files import EPISODES, RESOLVED
from configs.schema import EvaluationConfig, RunConfig
from learner.studies.plot import main, mean_curve, read_evaluations


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two evaluations of two episodes, training episodes between them."""
    config = dataclasses.replace(RunConfig(), evaluation=EvaluationConfig(episodes=2))
    (tmp_path / RESOLVED).write_text(dump_run_config(config))
    rows = [(0, 1.0, True), (0, 3.0, False), (50, 9.0, False), (100, 4.0, True), (100, 6.0, True)]
    with (tmp_path / EPISODES).open("w") as log:
        for t_s, (steps, episode_return, won) in enumerate(rows):
            row = {"t_s": t_s, "env_steps": steps, "episode_return": episode_return, "won": won}
            log.write(json.dumps({**row, "evaluation": steps != 50}) + "\n")
    return tmp_path


def test_evaluations_are_grouped_and_training_is_left_out(run: Path) -> None:
    first, second = read_evaluations(run)
    assert (first.env_steps, first.return_mean, first.win_rate) == (0, 2.0, 0.5)
    assert (second.env_steps, second.return_mean, second.win_rate) == (100, 5.0, 1.0)
    assert second.return_std == 1.0


def test_an_evaluation_that_was_cut_off_is_none(run: Path) -> None:
    """Interrupted after one of two episodes: the other does not come from the next evaluation."""
    with (run / EPISODES).open("a") as log:
        for t_s, steps, episode_return in [(9.0, 150, 8.0), (0.5, 140, 1.0), (0.6, 140, 3.0)]:
            row = {"t_s": t_s, "env_steps": steps, "episode_return": episode_return, "won": True}
            log.write(json.dumps({**row, "evaluation": True}) + "\n")
    *_, before, anew = read_evaluations(run)
    assert (before.env_steps, before.episodes) == (100, 2)
    assert (anew.env_steps, anew.episodes, anew.return_mean) == (140, 2, 2.0)


def test_an_evaluation_whose_step_was_played_again_is_not_plotted_twice(run: Path) -> None:
    with (run / EPISODES).open("a") as log:
        for t_s, episode_return in enumerate((7.0, 9.0)):
            row = {
                "t_s": t_s,
                "env_steps": 110,
                "evaluated_at": 90,
                "episode_return": episode_return,
                "won": True,
            }
            log.write(json.dumps({**row, "evaluation": True, "life": 1, "resumed_at": 80}) + "\n")
    found = [(each.env_steps, each.return_mean) for each in read_evaluations(run)]
    assert found == [(0, 2.0), (90, 8.0)]


def test_a_torn_last_line_is_left_out_of_the_picture(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / EPISODES
    path.write_bytes(path.read_bytes()[:-25])
    assert main([str(run), "--out", str(run / "curves.png")]) == 0
    out = capsys.readouterr().out
    assert "0 steps: return    2.000" in out
    assert "100 steps" not in out, "half of an evaluation is none"


def test_a_win_rate_is_shown_where_somebody_can_win(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / EPISODES
    path.write_text(path.read_text().replace('"won": true', '"won": false'))
    assert main([str(run), "--out", str(run / "curves.png")]) == 0
    assert "win rate   0%" in capsys.readouterr().out, "Battle was lost"
    config, _ = read_resolved(run)
    env = dataclasses.replace(config.env, name="adversarial-pursuit")
    (run / RESOLVED).write_text(
        dump_run_config(dataclasses.replace(config, env=env, num_agents=25))
    )
    assert main([str(run), "--out", str(run / "curves.png")]) == 0
    assert "win rate" not in capsys.readouterr().out, "nobody wins at pursuit"


def test_a_damaged_log_is_refused_with_file_and_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / EPISODES
    path.write_text("what is this\n" + path.read_text())
    with pytest.raises(SystemExit) as stop:
        main([str(run), "--out", str(run / "curves.png")])
    assert stop.value.code == 2
    assert "episodes.jsonl, line 1 is damaged: remove that line" in capsys.readouterr().err


def test_evaluations_that_overlap_are_told_apart(run: Path) -> None:
    with (run / EPISODES).open("a") as log:
        for t_s, evaluated_at, episode_return in [(9, 200, 1.0), (10, 300, 7.0), (11, 200, 3.0)]:
            row = {"t_s": t_s, "env_steps": 310, "episode_return": episode_return, "won": True}
            log.write(json.dumps({**row, "evaluation": True, "evaluated_at": evaluated_at}) + "\n")
    *_, last = read_evaluations(run)
    assert (last.env_steps, last.episodes, last.return_mean) == (200, 2, 2.0)


def test_a_picture_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run / "curves.png"
    assert main([str(run), "--labels", "ours", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "100 steps: return    5.000" in capsys.readouterr().out


def test_runs_of_the_same_name_are_seeds_of_one_line(run: Path) -> None:
    first, second = read_evaluations(run)
    better = [each._replace(return_mean=each.return_mean + 2.0) for each in (first, second)]
    curve = mean_curve([[first, second], better], "return")
    assert curve is not None
    assert (curve.steps[0], curve.steps[-1]) == (0, 100)
    assert curve.reached.mean(0)[-1] == 6.0
    out = run / "seeds.png"
    assert main([str(run), str(run), "--labels", "ours", "ours", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_win_rates_have_the_error_of_a_share(run: Path) -> None:
    first, second = read_evaluations(run)
    assert first.error("win rate") == pytest.approx(0.5 / 2**0.5)
    assert second.error("win rate") == 0.0
    assert second.error("return") == pytest.approx(1.0 / 2**0.5)


def test_a_folder_without_episodes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    assert "has no episodes.jsonl" in capsys.readouterr().err


def test_an_environments_own_figure_can_be_drawn(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / EPISODES
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    own = [{**row, "metrics": {"tags": 2.0 * i}} for i, row in enumerate(rows)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in own))
    first, second = read_evaluations(run)
    assert (first.reached("tags"), second.reached("tags")) == (1.0, 7.0)
    assert second.error("tags") == pytest.approx(1.0 / 2**0.5)
    assert main([str(run), "--figure", "tags", "--out", str(run / "tags.png")]) == 0
    assert "tags 7.000" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main([str(run), "--figure", "food", "--out", str(run / "food.png")])
    assert stop.value.code == 2
    assert "there is no 'food' in these runs, choose return, win rate, tags" in (
        capsys.readouterr().err
    )
