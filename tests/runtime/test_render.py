"""`python -m runtime.render`: what it takes, what it writes, and how it refuses."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from agents.policy import save_policy
from configs.load import preset_for, resolved_text
from configs.run_files import POLICY, RESOLVED
from runtime import render
from runtime.render import RenderOptions, what_to_play
from tests.process.runs import undecided_policy

RELAY = ("--policy", "shipped", "--env", "relay", "--agents", "16")


def run(*words: str) -> int:
    return render.main(list(words))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which a command line is refused."""
    with pytest.raises(SystemExit) as left:
        run(*words)
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """What a training of relay with five agents leaves."""
    config = dataclasses.replace(preset_for("relay"), num_agents=5)
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / RESOLVED).write_text(resolved_text(config))
    save_policy(folder / POLICY, undecided_policy(config))
    return folder


@pytest.mark.parametrize("ending", ["gif", "mp4", "html"])
def test_an_episode_is_written_and_what_happened_is_said(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new folder" / f"episode.{ending}"
    assert run(*RELAY, "--out", str(out)) == 0
    said = capsys.readouterr()
    assert said.err == ""
    title, file = said.out.splitlines()
    assert title.startswith("relay, 16 agents: 6 steps, won, return 1")
    assert file.startswith(f"{out}: ")
    assert out.stat().st_size > 1000
    assert len(list(out.parent.iterdir())) == 1


def test_a_run_says_what_is_played(run_folder: Path) -> None:
    config, policy, remarks = what_to_play(RenderOptions(run=str(run_folder)))
    assert (config.env.name, config.num_agents, config.env.copies) == ("relay", 5, 1)
    assert policy.spec.observation_dim == 6
    assert remarks == []
    config, _, _ = what_to_play(RenderOptions(run=str(run_folder), agents=9, seed=7))
    assert (config.num_agents, config.seed) == (9, 7)


def test_a_run_of_battle_is_played_as_long_and_against_whom_it_was_evaluated(
    tmp_path: Path,
) -> None:
    preset = preset_for("battle")
    env = dataclasses.replace(preset.env, max_cycles=33, evaluation_opponent="random")
    (tmp_path / RESOLVED).write_text(
        resolved_text(dataclasses.replace(preset, num_agents=6, env=env))
    )
    options = RenderOptions(run=str(tmp_path), policy="shipped")
    config, _, _ = what_to_play(options)
    assert (config.env.max_cycles, config.num_agents) == (33, 6)
    assert config.env.evaluation_opponent == "random"
    config, _, _ = what_to_play(dataclasses.replace(options, opponent="scripted"))
    assert (config.env.opponent, config.env.evaluation_opponent) == ("scripted", "")


def test_a_run_can_be_shown_from_its_folder(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_folder / "episode.gif"
    assert run(str(run_folder), "--out", str(out), "--size", "200") == 0
    assert "relay, 5 agents" in capsys.readouterr().out
    assert out.exists()


def test_a_shorter_film_says_that_the_episode_did_not_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*RELAY, "--steps", "2", "--out", str(tmp_path / "a.html")) == 0
    assert "2 steps, stopped here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give the folder of a run, or --policy"),
        (("no/such/run",), "no/such/run is no folder of a run"),
        (("--policy", "no.safetensors"), "no.safetensors cannot be read"),
        ((*RELAY, "--out", "a.avi"), "ends with .gif, .mp4 or .html"),
        (("--policy", "shipped", "--env", "gather"), "no policy is shipped for gather"),
        (("--policy", "shipped", "--env", "battel"), "battel"),
        ((*RELAY, "--size", "10"), "size"),
        ((*RELAY, "--seed", "-1"), "seed"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, *words)


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert RESOLVED in refused(capsys, str(tmp_path))


def test_gates_of_a_scheme_that_has_none_are_remarked_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = preset_for("relay")
    config = dataclasses.replace(config, comm="full", num_agents=4)
    save_policy(tmp_path / POLICY, undecided_policy(config))
    words = ("--policy", str(tmp_path / POLICY), "--env", "relay", "--agents", "4")
    gates = ("--gate.mode", "closed", "--gate.budget", "1")
    assert run(*words, *gates, "--out", str(tmp_path / "a.html")) == 0
    said = "warning: gate.mode, gate.budget have no effect: comm full opens its edges by a rule of"
    assert said in capsys.readouterr().err


def test_an_opponent_where_there_is_none_is_remarked_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*RELAY, "--opponent", "scripted", "--out", str(tmp_path / "a.html")) == 0
    assert "warning: opponent has no effect" in capsys.readouterr().err


def test_an_environment_without_a_picture_is_shown_on_a_circle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--policy", "untrained", "--env", "tests.foreign_envs:Foreign")
    assert run(*words, "--out", str(tmp_path / "a.gif")) == 0
    assert "shows no picture of itself" in capsys.readouterr().err


def test_an_environment_that_fails_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--policy", "untrained", "--env", "tests.foreign_envs:Foreign")
    assert run(*words, "--env.options", "raises_at=2", "--out", str(tmp_path / "a.gif")) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the environment tests.foreign_envs:Foreign failed in its step")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_torch_is_needed(tmp_path: Path) -> None:
    code = f"""
import sys
from runtime.render import main
assert main({[*RELAY, "--out", str(tmp_path / "a.html")]!r}) == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
