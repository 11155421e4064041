"""`python -m learner.pretrain`: refusals, what a folder holds, and how the next call goes on."""

import errno
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agents.policy import PolicySpec
from agents.pretrained import load_pretrained, made_with
from configs.run_files import CHECKPOINT
from configs.schema import EnvConfig
from learner.checkpoint_file import CheckpointContent, CheckpointProgress, write_checkpoint
from learner.pretrain import main
from learner.pretraining import command
from learner.pretraining.folder import alone_in, is_taken
from learner.pretraining.options import PretrainOptions
from learner.pretraining.played import Played, play_at_random
from learner.pretraining.stage import Stage
from tests.agents_helpers import make_spec
from tests.learner.pretraining.made_up import AGENTS, SEEN, lines

PLACED = ("--env.options", "position=true")
SIZES = "encoder=8,code=4,flow=4,state=4,latent=2,neighbours=true"


def words(out: Path, *more: str) -> Sequence[str]:
    options = ("--agents", f"{AGENTS}", "--env.options", "position=true", "--comm.options", SIZES)
    few = (
        "--episodes",
        "6",
        "--held-out",
        "0.34",
        "--code-epochs",
        "2",
        "--code-batch",
        "32",
        "--epochs",
        "3",
    )
    return (*options, *few, "--decoder", "8", "--out", f"{out}", *more)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of a made-up map, whose observations have as many numbers as those of Gather."""

    def spec_of(options: PretrainOptions) -> PolicySpec:
        spec = make_spec(observation_dim=SEEN + 2)
        return replace(spec, message=9, scheme="nvif", scheme_options=options.comm_options)

    def play(config: EnvConfig, agents: int, episodes: int, *_: object) -> Played:
        assert (config.name, agents) == ("gather", AGENTS)
        return lines(episodes)

    monkeypatch.setattr(command, "play_at_random", play)
    monkeypatch.setattr(command, "spec_of", spec_of)


@pytest.mark.usefixtures("made_up")
def test_a_folder_gets_a_file_that_policies_begin_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"{tmp_path / 'nvif.safetensors'}"
    rows = [json.loads(line) for line in (tmp_path / command.LOSSES).read_text().splitlines()]
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        *[("code", 1), ("code", 2)],
        *[("flow", 1), ("flow", 2), ("flow", 3)],
    ]
    assert rows[-1]["held_out"].keys() >= {"reconstruction", "divergence", "told"}


@pytest.mark.usefixtures("made_up")
def test_an_interruption_loses_nothing_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(words(tmp_path / "whole"))
    usual, taken = Stage.update, 0

    def update(self: Stage) -> dict[str, float]:
        nonlocal taken
        taken += 1
        if taken == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return usual(self)

    monkeypatch.setattr(Stage, "update", update)
    with pytest.raises(KeyboardInterrupt):
        main(words(tmp_path / "cut"))
    assert taken == 9
    assert not (tmp_path / "cut" / "nvif.safetensors").exists()
    assert main(words(tmp_path / "cut")) == 0
    first, second = (tmp_path / name / "nvif.safetensors" for name in ("whole", "cut"))
    spec = command.spec_of(PretrainOptions(out="-", comm_options=SIZES))
    whole, cut = load_pretrained(first, spec), load_pretrained(second, spec)
    assert all((whole[name] == cut[name]).all() for name in whole)


@pytest.mark.usefixtures("made_up")
def test_a_folder_takes_more_passes_and_no_other_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(words(tmp_path))
    with pytest.raises(SystemExit) as caught:
        main(words(tmp_path, "--alpha", "0.5"))
    assert caught.value.code == 2
    assert "holds a pre-training with alpha 1.0, got 0.5" in capsys.readouterr().err
    assert main(words(tmp_path, "--epochs", "4")) == 0
    assert len((tmp_path / command.LOSSES).read_text().splitlines()) == 6
    with pytest.raises(SystemExit) as caught:
        main(words(tmp_path, "--epochs", "2"))
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "has 4 passes over the episodes behind it, got epochs 2: give as many" in said
    assert made_with(tmp_path / "nvif.safetensors")["epochs"] == 4


@pytest.mark.usefixtures("made_up")
def test_a_folder_in_which_another_call_trains_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone_in(tmp_path):
        assert is_taken(tmp_path)
        with pytest.raises(SystemExit) as caught:
            main(words(tmp_path))
    assert caught.value.code == 2
    assert f"--out {tmp_path}: another call trains there" in capsys.readouterr().err
    assert not is_taken(tmp_path)
    assert main(words(tmp_path)) == 0


@pytest.mark.usefixtures("made_up")
def test_the_checkpoint_of_a_run_is_no_pre_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = CheckpointProgress(env_steps=1, episodes=1, updates=1, version=1)
    of_run = CheckpointContent(progress, {}, {}, "steps: 100\nnum_agents: 4\n")
    write_checkpoint(tmp_path / CHECKPOINT, of_run)
    with pytest.raises(SystemExit) as caught:
        main(words(tmp_path))
    assert caught.value.code == 2
    assert "holds the checkpoint of something else" in capsys.readouterr().err


class FullDisk:
    """In place of what writes checkpoints: there is no room for the first so many."""

    def __init__(self, times: int) -> None:
        self.refused, self._times = 0, times

    def write(self, path: Path, content: CheckpointContent) -> None:
        if self.refused < self._times:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_checkpoint(path, content)


@pytest.mark.usefixtures("made_up")
def test_a_full_disk_costs_a_checkpoint_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_SAVE_EVERY_S", 0.0)
    disk = FullDisk(3)
    monkeypatch.setattr(command, "write_checkpoint", disk.write)
    assert main(words(tmp_path / "made")) == 0
    said = "checkpoint.safetensors cannot be written: No space left on device"
    assert capsys.readouterr().out.count(said) == disk.refused == 3
    monkeypatch.setattr(command, "write_checkpoint", FullDisk(10**6).write)
    assert main(words(tmp_path / "small")) == 0
    assert said in capsys.readouterr().out
    files = {path.name for path in (tmp_path / "small").iterdir()}
    assert files == {"lock", command.LOSSES, "nvif.safetensors"}
    update = Stage.update

    def interrupted(self: Stage) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return update(self)

    monkeypatch.setattr(Stage, "update", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(words(tmp_path / "lost"))
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--comm", "sops"), "--comm sops has nothing that is pre-trained"),
        (("--env", "relay"), "--env relay does not say who is whose neighbour"),
        (("--env", "relay", "--comm.options", "code=8"), "--env relay does not say where an agent"),
        ((), "--env gather does not say where an agent is: give --env.options position=true"),
        ((*PLACED, "--agents", "300"), "an agent may have 256 out-edges"),
        ((*PLACED, "--comm.options", "code=0"), "code must be between 1 and 4096"),
        (("--episodes", "1"), "episodes must be between 2"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_exit_code_2(
    tmp_path: Path, options: Sequence[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(("--out", f"{tmp_path / 'new'}", *options))
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_more_episodes_than_memory_holds_are_refused() -> None:
    pytest.importorskip("magent2")
    config = EnvConfig(name="gather", options="position=true")
    with pytest.raises(ValueError, match="do not fit into memory: give fewer --episodes"):
        play_at_random(config, 6, episodes=10**10, seed=3)


def test_a_random_policy_meets_the_same_each_time_and_says_who_is_near() -> None:
    pytest.importorskip("magent2")
    config = EnvConfig(name="gather", options="max_cycles=5,position=true")
    first, second = (play_at_random(config, 6, episodes=2, seed=3) for _ in range(2))
    assert first.observations_ETND.shape[:3] == first.alive_ETN.shape == (2, 5, 6)
    assert (first.observations_ETND == second.observations_ETND).all()
    pairs = first.neighbours_ETNN
    assert pairs.any()
    assert (pairs == pairs.swapaxes(-1, -2)).all()
    assert not pairs.diagonal(axis1=-2, axis2=-1).any()
    other = play_at_random(config, 6, episodes=1, seed=4)
    assert (first.observations_ETND[0, 1:] != other.observations_ETND[0, 1:]).any()
