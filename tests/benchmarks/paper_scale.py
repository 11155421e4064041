"""The whole benchmark and a training at the paper's scale, in pieces that are cut off in time.

    python -m tests.benchmarks.paper_scale --out DIR --piece-minutes 8 [-- more for runtime.launch]

    benchmarks (until all are measured) -> launch -> SIGINT -> launch --resume -> … -> evaluate

Call it again until it says that everything is done (exit code 0; 3 means that there is more). Each
call works for one piece and leaves in DIR, in a few files that are small enough to be carried to
another machine:

    benchmarks.json   all benchmarks, the learner on the GPU
    pieces.jsonl      a line for each piece of training: steps, updates, seconds, return, win rate
    state.tar.gz      the run: checkpoint, counters, logs, and of the journal what there is room for
    summary.json      hours so far, hours at that pace for all steps, the evaluation at the end

The run itself lives in WORK. A machine that has it goes on from there, with the whole journal;
one that does not restores it from the archive.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import tyro

from agents.policy import write_atomically
from configs.run_files import JOURNAL
from configs.schema import EnvName
from learner.checkpoint_file import CheckpointError, CheckpointProgress, read_progress
from runtime.launch import CHECKPOINT
from runtime.record.json_lines import mend, read_records
from tests.benchmarks.machine import ROOT, machine, source

ARCHIVE, PIECES, SUMMARY = "state.tar.gz", "pieces.jsonl", "summary.json"
BENCHMARKS, EVALUATION = "benchmarks.json", "evaluation.json"
DONE, MORE = 0, 3
"""Exit codes."""

LEAVE_S = 25.0
"""Seconds at the end of a piece for stopping the run (five are enough) and for the archive."""
_LOOK_PERIOD_S = 0.5
_LEVEL = 6
_HEADER_BYTES = 256
"""Of a file in a compressed tar, about."""
_INTERRUPTED = 130
"""Exit code of a run that was ended by Ctrl-C."""
SHORTEST_S = 20.0
"""A piece of less is not worth its start."""
_ALWAYS_ARCHIVED = ("config.yaml", CHECKPOINT, "policy.safetensors", "episodes.jsonl", SUMMARY,
                    "metrics.jsonl")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    out: str
    """Folder of what is to be kept; what an earlier piece has left there is gone on from."""

    restore: str = ""
    """Folder that an earlier piece has left, where it cannot be DIR itself."""

    work: str = "runs/paper-scale"
    """Folder of the run itself."""

    piece_minutes: float = 8.0
    """After so long everything has stopped and is in DIR."""

    agents: int = 100
    env: EnvName = "battle"
    steps: int = 5_000_000
    env_copies: int = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"

    benchmarks: bool = True
    """Measure `python -m tests.benchmarks` first, the learner on the same device."""

    evaluation_episodes: int = 100
    """Greedy episodes at the end; 0: none."""

    archive_mib: float = 14.0
    """Largest archive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One piece of training, a line of pieces.jsonl."""

    begun: str
    wall_s: float
    """Start and stop included."""
    env_steps: int
    """Of the whole run, when the piece ended."""
    new_env_steps: int
    updates: int
    return_mean: float | None
    win_rate: float | None
    exit_reason: str
    exit_code: int
    gpu: str
    commit: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """Work for one piece; returns 0 if everything is done, 3 if there is more, 1 for an error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    at = argv.index("--") if "--" in argv else len(argv)
    program = "python -m tests.benchmarks.paper_scale"
    options = tyro.cli(Options, args=argv[:at], prog=program)
    return PaperScale(options, tuple(argv[at + 1 :])).work()


class PaperScale:
    """Goes on from wherever things are.

    Args:
        options: of the command line.
        launch_options: handed on to `runtime.launch`.
    """

    def __init__(self, options: Options, launch_options: tuple[str, ...] = ()) -> None:
        self._options = options
        self._launch_options = launch_options
        self._out, self._work = Path(options.out), Path(options.work)
        self._out.mkdir(parents=True, exist_ok=True)
        self._work.mkdir(parents=True, exist_ok=True)
        if options.restore:
            for earlier in Path(options.restore).iterdir():
                if not (self._out / earlier.name).exists():
                    shutil.copy(earlier, self._out)
        self.deadline_s = time.monotonic() + 60.0 * options.piece_minutes - LEAVE_S
        """Clock reading at which a piece begins to stop; whoever needs the machine may move it."""

    def work(self) -> int:
        """One piece; see `main`."""
        if self._options.benchmarks and not self._benchmarks_done():
            return MORE
        reached = self._restore()
        while not self._is_trained(reached):
            if self._left_s() < SHORTEST_S:
                return MORE
            piece = self._train(reached)
            self._keep(piece)
            if piece.exit_code not in (0, _INTERRUPTED):
                print(f"error: the training ended: {piece.exit_reason}", file=sys.stderr)
                return 1
            reached = piece.env_steps
        if self._options.evaluation_episodes and not self._evaluated():
            return MORE
        self._summarise()
        return DONE

    def _is_trained(self, reached: int) -> bool:
        """Whether the training has come to its end by itself: its checkpoint knows of whole
        episodes only, and those that the end cuts off are missing from its steps.
        """
        pieces = read_pieces(self._out / PIECES)
        ended = bool(pieces) and pieces[-1].exit_reason == "finished"
        return ended or reached >= self._options.steps

    def _left_s(self) -> float:
        return self.deadline_s - time.monotonic()

    # --- benchmarks -------------------------------------------------------------------------------

    def _benchmarks_done(self) -> bool:
        command = [sys.executable, "-m", "tests.benchmarks", "--out", str(self._out / BENCHMARKS)]
        command += ["--minutes", f"{self._left_s() / 60:.2f}", "--resume"]
        command += ["--device", "cpu" if self._options.device == "cpu" else "cuda"]
        return subprocess.run(command, cwd=ROOT, check=False).returncode in (0, 1)

    # --- training ---------------------------------------------------------------------------------

    def _run(self) -> Path | None:
        """The run's folder, if there is one to go on with."""
        runs = sorted(self._work.glob(f"*/{CHECKPOINT}"))
        return runs[-1].parent if runs else None

    def _restore(self) -> int:
        """Environment steps done so far; brings the run back from the archive if it is gone."""
        run = self._run()
        if run is None and (self._out / ARCHIVE).exists():
            restore(self._out / ARCHIVE, self._work)
            run = self._run()
        return 0 if run is None else _progress(run).env_steps

    def _train(self, reached: int) -> Piece:
        """Train until the piece is over, or the training."""
        options, run = self._options, self._run()
        command = [sys.executable, "-m", "runtime.launch"]
        flags: dict[str, object] = {
            "--agents": options.agents,
            "--env": options.env,
            "--steps": options.steps,
            "--env-copies": options.env_copies,
            "--device": options.device,
            "--metrics-port": 0,
            "--evaluation.episodes": 0,
            "--runtime.runs-dir": self._work,
        }
        if run is not None:
            flags["--resume"] = run
        for name, value in flags.items():
            command += [name, str(value)]
        begun, began_s = datetime.now().astimezone(), time.monotonic()
        process = subprocess.Popen([*command, *self._launch_options], cwd=ROOT)
        while process.poll() is None and self._left_s() > 0.0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_PERIOD_S)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # it leaves a checkpoint and its summary behind
            try:
                process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        run = self._run()
        now = CheckpointProgress(env_steps=reached, episodes=0, updates=0, version=0)
        now = now if run is None else _progress(run)
        summary = _summary(run)
        return Piece(
            begun=begun.isoformat(timespec="seconds"),
            wall_s=round(time.monotonic() - began_s, 3),
            env_steps=now.env_steps,
            new_env_steps=now.env_steps - reached,
            updates=now.updates,
            return_mean=summary.get("return_mean"),
            win_rate=summary.get("win_rate"),
            exit_reason=str(summary.get("exit_reason", "no summary")),
            exit_code=process.returncode,
            gpu=str(machine()["gpu"]),
            commit=str(source()["commit"]),
        )

    def _keep(self, piece: Piece) -> None:
        """Everything into the folder that is carried on."""
        mend(self._out / PIECES)
        with (self._out / PIECES).open("a") as file:
            file.write(json.dumps(dataclasses.asdict(piece)) + "\n")
        run = self._run()
        if run is not None:
            archive(run, self._out / ARCHIVE, round(self._options.archive_mib * (1 << 20)))
        self._summarise()

    # --- the end ----------------------------------------------------------------------------------

    def _evaluated(self) -> bool:
        """Whether the trained policy has been played; plays it if there is time."""
        path, run = self._out / EVALUATION, self._run()
        if path.exists():
            return True
        if run is None or self._left_s() < SHORTEST_S:
            return False
        options = self._options
        command = [sys.executable, "-m", "runtime.evaluate", "--json"]
        for name, value in {
            "--policy": run / "policy.safetensors",
            "--env": options.env,
            "--agents": options.agents,
            "--episodes": options.evaluation_episodes,
        }.items():
            command += [name, str(value)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            output, _ = process.communicate(timeout=self._left_s())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            return False
        if process.returncode:
            return False
        write_atomically(path, output.encode())
        return True

    def _summarise(self) -> None:
        pieces = read_pieces(self._out / PIECES)
        evaluation = self._out / EVALUATION
        summary = outlook(pieces, self._options.steps) | {
            "machine": machine(),
            "source": source(),
            "launch_options": list(self._launch_options),
            "evaluation": json.loads(evaluation.read_text()) if evaluation.exists() else None,
        }
        write_atomically(self._out / SUMMARY, json.dumps(summary, indent=1).encode())
        print(json.dumps(outlook(pieces, self._options.steps)), flush=True)


def read_pieces(path: Path) -> list[Piece]:
    """All pieces so far."""
    return [Piece(**record) for record in read_records(path)]


def outlook(pieces: Sequence[Piece], steps: int) -> dict[str, float | int | None]:
    """What it took so far, and what all steps take at that pace, starts and stops included."""
    wall_s, done = sum(piece.wall_s for piece in pieces), pieces[-1].env_steps if pieces else 0
    return {
        "pieces": len(pieces),
        "env_steps": done,
        "of_steps": steps,
        "updates": pieces[-1].updates if pieces else 0,
        "hours": wall_s / 3600,
        "steps_per_s": done / wall_s if wall_s else None,
        "projected_hours": wall_s / 3600 * steps / done if done else None,
    }


def archive(run: Path, path: Path, most_bytes: int) -> int:
    """Pack a run, with as many of its newest journal entries as there is room for; how many."""
    scratch = path.with_name(path.name + ".tmp")
    needed = [run / name for name in _ALWAYS_ARCHIVED if (run / name).exists()]
    size_bytes = sum(_packed_bytes(file) for file in needed)
    newest: list[Path] = []
    for entry in sorted((run / JOURNAL).glob("*"), reverse=True):
        size_bytes += _packed_bytes(entry)
        if size_bytes > most_bytes:
            break
        newest.append(entry)
    with tarfile.open(scratch, "w:gz", compresslevel=_LEVEL) as tar:
        for file in (*needed, *newest):
            tar.add(file, f"{run.name}/{file.relative_to(run)}")
    scratch.replace(path)
    return len(newest)


def _packed_bytes(file: Path) -> int:
    """What a file adds to an archive; of the archive itself it shows only when it is closed."""
    return len(zlib.compress(file.read_bytes(), _LEVEL)) + _HEADER_BYTES


def restore(path: Path, work: Path) -> None:
    """Unpack a run into the folder of runs."""
    with tarfile.open(path) as tar:
        tar.extractall(work, filter="data")


def _progress(run: Path) -> CheckpointProgress:
    try:
        return read_progress(run / CHECKPOINT)
    except CheckpointError as error:
        raise SystemExit(f"error: {error}") from error


def _summary(run: Path | None) -> dict[str, Any]:
    path = run / SUMMARY if run is not None else None
    return json.loads(path.read_text()) if path is not None and path.exists() else {}


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
