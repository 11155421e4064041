"""What a resumed run reads back is verified; what stands in its way is named before it starts."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, PolicySpec, initialise, save_policy
from configs.load import (
    ConfigError,
    dump_run_config,
    load_run_config,
    preset_for,
    read_resolved,
    resolved_text,
)
from configs.run_files import CHECKPOINT, EPISODES, METRICS, RESOLVED
from configs.schema import RunConfig
from envs.registry import spec_of
from learner.checkpoint_file import (
    CheckpointContent,
    CheckpointError,
    CheckpointProgress,
    read_checkpoint,
    read_progress,
    write_checkpoint,
)
from runtime.launch import main, make_plan
from runtime.net.errors import SetupError
from runtime.record.run_folder import LEARNER_LOCK, LOCK, check, held, learner_held, take_lock

PROGRESS = CheckpointProgress(env_steps=700, episodes=9, updates=5, version=3)


def relay() -> RunConfig:
    preset = preset_for("relay")
    return dataclasses.replace(preset, num_agents=4, steps=800)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder after 700 of 800 steps."""
    config = relay()
    env = spec_of(config.env, config.num_agents)
    spec = PolicySpec.of(config.network, env.observation_dim, env.num_actions)
    flat = initialise(spec, np.random.default_rng(0))
    run = tmp_path / "20260101-000000-relay"
    run.mkdir()
    (run / RESOLVED).write_text(resolved_text(config))
    arrays = {"online": flat, "step": np.array(5.0, np.float32), "mask": np.ones((3, 2), bool)}
    content = CheckpointContent(PROGRESS, arrays, {"device": "cpu"}, dump_run_config(config))
    write_checkpoint(run / CHECKPOINT, content)
    save_policy(run / "policy.safetensors", PolicyFile(spec, flat, 3, {}))
    (run / EPISODES).write_text('{"t_s": 1.0, "episode": 41, "env_steps": 600}\n')
    (run / METRICS).write_text('{"t_s": 1.0, "env_steps": 600}\n')
    return run


def resume(run: Path) -> None:
    main(["--resume", str(run), "--steps", "1600", "--metrics-port", "0"])


def content(folder: Path) -> dict[str, bytes | None]:
    """All that lies there, the locks excepted."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name not in (LOCK, LEARNER_LOCK)
    }


def overwrite(path: Path, at: float, length: int = 1000) -> None:
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * at))
        file.write(b"\x55" * length)


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "checkpoint overwritten": (CHECKPOINT, lambda path: overwrite(path, 0.5)),
    "one byte of the checkpoint": (CHECKPOINT, lambda path: overwrite(path, 0.9, 1)),
    "checkpoint's header overwritten": (CHECKPOINT, lambda path: overwrite(path, 0.01, 100)),
    "checkpoint cut": (CHECKPOINT, lambda path: cut(path, 0.5)),
    "checkpoint empty": (CHECKPOINT, lambda path: cut(path, 0.0)),
    "no checkpoint": (CHECKPOINT, Path.unlink),
    "checkpoint a folder": (CHECKPOINT, lambda path: replace_by(path, Path.mkdir)),
    "config cut": (RESOLVED, lambda path: cut(path, 0.5)),
    "config without its last letters": (RESOLVED, lambda path: cut(path, 0.999)),
    "config empty": (RESOLVED, lambda path: cut(path, 0.0)),
    "config with a key less": (
        RESOLVED,
        lambda path: path.write_text(path.read_text().replace("num_agents: 4\n", "")),
    ),
    "config of NULs": (RESOLVED, lambda path: path.write_bytes(bytes(path.stat().st_size))),
    "a bad line": (EPISODES, lambda path: path.write_text("what?\n" + path.read_text())),
    "episodes without numbers": (EPISODES, lambda path: path.write_text('{"t_s": 1.0}\n')),
    "episodes a pipe": (EPISODES, lambda path: replace_by(path, os.mkfifo)),
    "metrics a folder": (METRICS, lambda path: replace_by(path, Path.mkdir)),
    "logs a file": ("logs", Path.touch),
    "journal a file": ("journal", Path.touch),
    "tensorboard a file": ("tensorboard", Path.touch),
    "lock a folder": (LOCK, Path.mkdir),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGE.values(), ids=DAMAGE.keys())
def test_what_is_damaged_is_named_in_one_line_and_nothing_is_changed(
    run: Path,
    name: str,
    damage: Callable[[Path], object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(run / name)
    before = content(run)
    with pytest.raises(SystemExit) as stop:
        resume(run)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(run / name) in error
    assert content(run) == before


def test_a_checkpoint_comes_back_as_it_was_written(run: Path) -> None:
    found = read_checkpoint(run / CHECKPOINT)
    assert found.is_verified
    assert found.progress == PROGRESS == read_progress(run / CHECKPOINT)
    assert found.arrays["step"].shape == ()
    assert found.arrays["mask"].dtype == np.bool_


@pytest.mark.parametrize("at", [0.02, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_no_byte_of_a_checkpoint_can_change_unseen(run: Path, at: float) -> None:
    overwrite(run / CHECKPOINT, at, 1)
    with pytest.raises(CheckpointError, match=r"checkpoint .*checkpoint\.safetensors"):
        read_checkpoint(run / CHECKPOINT)


def as_before_checksums(run: Path) -> None:
    """Turn the files into those of an older version."""
    path = run / CHECKPOINT
    whole = path.read_bytes().replace(b"murmuration-checkpoint/2", b"murmuration-checkpoint/1")
    at = whole.index(b'"crc32":"')
    end = whole.index(b'"', at + len(b'"crc32":"')) + 1
    end += whole[end : end + 1] == b","
    length = int.from_bytes(whole[:8], "little") - (end - at)
    header = (whole[8:at] + whole[end : length + 8 + end - at]).replace(b",}", b"}")
    path.write_bytes(len(header).to_bytes(8, "little") + header + whole[length + 8 + end - at :])
    (run / RESOLVED).write_text((run / RESOLVED).read_text().split("\n", 1)[1])


def test_files_without_checksums_are_taken_with_a_line_for_each(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_before_checksums(run)
    plan = make_plan(load_run_config(["--resume", str(run), "--steps", "1600"]))
    assert (plan.played_before.env_steps, plan.config.num_agents) == (700, 4)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"warning: {run / RESOLVED} has no checksum")
    assert second.startswith(f"warning: {run / CHECKPOINT} has no checksum")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_config_without_checksum_must_be_there_to_its_last_key(run: Path, share: float) -> None:
    as_before_checksums(run)
    cut(run / RESOLVED, share)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_resolved(run)


def test_a_resolved_config_comes_back_and_says_that_it_is_verified(run: Path) -> None:
    assert read_resolved(run) == (relay(), True)


def test_values_that_were_changed_by_hand_are_taken_once_the_checksum_is_gone(run: Path) -> None:
    path = run / RESOLVED
    path.write_text(path.read_text().replace("seed: 0", "seed: 5"))
    with pytest.raises(ConfigError, match="remove the file's first line to take it as it is"):
        read_resolved(run)
    path.write_text(path.read_text().split("\n", 1)[1])
    config, is_verified = read_resolved(run)
    assert (config.seed, is_verified) == (5, False)


def test_a_torn_log_and_stray_files_do_not_keep_a_run_from_going_on(run: Path) -> None:
    with (run / EPISODES).open("ab") as file:
        file.write(b'{"t_s": 2.0, "epis' + b"\0" * 500)
    journal = run / "journal"
    journal.mkdir()
    for name in ("notes.episode", "1.episode", "-.episode", "x-y.episode", "README"):
        (journal / name).write_text("not ours")
    (journal / "0000000003-0000000099.episode").mkdir()
    (journal / "0000000002-0000000077.episode").write_bytes(b"")
    plan = make_plan(load_run_config(["--resume", str(run), "--steps", "1600"]))
    assert plan.played_before.episodes == 77 + 1 + plan.config.env.copies


def test_a_folder_that_is_no_runs_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        resume(tmp_path)
    assert stop.value.code == 2
    assert f"{tmp_path / RESOLVED} cannot be read: No such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- whose folder it is ---------------------------------------------------------------------------


def started(code: str) -> "subprocess.Popen[str]":
    """A Python process that has said that it holds a lock."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@contextlib.contextmanager
def held_elsewhere(path: Path) -> Generator["subprocess.Popen[str]"]:
    """Another process, which has locked a file and written its number into it."""
    code = (
        "import fcntl, os, time\n"
        f"file = open({str(path)!r}, 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(os.getpid(), file=file, flush=True)\n"
        "print('held', flush=True)\n"
        "time.sleep(1000)\n"
    )
    with started(code) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_in_use_is_refused_before_anything_changes(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(run)
    with held_elsewhere(run / LOCK) as other:
        with pytest.raises(SystemExit) as stop:
            resume(run)
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error == (
            f"error: {run} is in use by another run, process {other.pid}: wait until it has ended, "
            "or stop it\n"
        )
        assert content(run) == before


def test_a_lock_dies_with_its_process_although_its_child_lives_on(run: Path) -> None:
    note = run / "child.pid"
    code = (
        "import pathlib, subprocess, time\n"
        "from runtime.record.run_folder import take_lock\n"
        f"descriptor = take_lock(pathlib.Path({str(run / LOCK)!r}))\n"
        "quiet = {'stdout': subprocess.DEVNULL, 'close_fds': False}\n"
        "child = subprocess.Popen(['sleep', '1000'], **quiet)\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "print('held', flush=True)\n"
        "time.sleep(1000)\n"
    )
    with started(code) as process:
        child = int(note.read_text())
        process.kill()
        process.wait()
        try:
            os.kill(child, 0)  # it is there
            with held(run):
                pass
        finally:
            os.kill(child, 9)


def test_a_resume_waits_for_the_learner_that_still_saves(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_elsewhere(run / LEARNER_LOCK) as learner:
        leaves = threading.Timer(0.5, learner.kill)
        leaves.start()
        with held(run):
            assert learner.wait() == -9
        leaves.join()
        error = capsys.readouterr().err
        assert error == f"waiting for the last checkpoint of the learner, process {learner.pid}\n"


def test_a_learner_that_never_leaves_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.record.run_folder.LEARNER_LEAVES_S", 0.2)
    with held_elsewhere(run / LEARNER_LOCK) as learner:
        with pytest.raises(SetupError, match=rf"in use by a learner, process {learner.pid} that"):
            held(run).__enter__()
        descriptor = take_lock(run / LOCK)
        assert descriptor is not None, "what was taken is given back"
        os.close(descriptor)


def test_launcher_and_learner_of_one_run_do_not_lock_each_other_out(run: Path) -> None:
    with held(run), learner_held(run):
        assert take_lock(run / LOCK) is None
        assert take_lock(run / LEARNER_LOCK) is None
    with held(run):
        pass


def test_a_folder_that_cannot_be_written_is_named() -> None:
    folder = Path(tempfile.mkdtemp(prefix="run-"))
    try:
        folder.chmod(0o777)
        (folder / "logs").mkdir()
        for path in (folder / "logs", folder):
            path.chmod(0o555)
            with as_nobody(), pytest.raises(SetupError, match=f"{path} cannot be written"):
                check(folder)
            path.chmod(0o777)
        (folder / METRICS).touch(mode=0o444)
        with as_nobody(), pytest.raises(SetupError, match=f"{folder / METRICS} cannot be written"):
            check(folder)
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def as_nobody() -> Generator[None]:
    """Root may write everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
