"""MAST's table 1 on our tasks: train what is missing, evaluate it, write tables and pictures.

    python -m runtime.protocol --task relay --out results/mast
    python -m runtime.protocol --task battle --methods dense rigl mast --seeds 0 1 2 --minutes 30
    python -m runtime.protocol --task relay --methods dense mast --ablations --steps 5000 --out ...

    methods × seeds -> cells -> runtime.launch -> runtime.evaluate -> table.csv, table.md, pictures

One cell after the other, each command as a process of its own. Any signal that asks for the end
(runtime/terminal/stop_signals.py) and the end of the minutes let that process write its checkpoint;
the next call goes on from there. Several calls at once share the work: a cell that somebody has is
passed over. `--list` only says how far all is. Tables and pictures are of all that is complete in
the folder, of earlier calls as well.
"""

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from configs.load import ConfigError, exit_with_error, parse_command_line
from learner.studies.cells import Cell, State
from learner.studies.headline import opponents_of, reached_of
from learner.studies.protocol_plan import Job, ProtocolOptions, plan
from learner.studies.protocol_report import report, standings
from runtime.terminal import stop_signals
from runtime.terminal.places import require_folder

_LEAVE_S = 90.0
"""Seconds that a child has for its checkpoint before it is killed."""
_LOOK_S = 0.5
_SAY_S = 60.0
"""Seconds between lines about a training."""
_NOTHING_STARTED = 2
"""Exit code of our commands for what would go wrong again in every other cell."""
_INTERRUPTED = 130
_PR_SET_PDEATHSIG = 1


class Stop:
    """A signal that asks for the end or the end of the time, whichever comes first."""

    def __init__(self, minutes: float) -> None:
        self.signals = 0
        self._until_s = time.monotonic() + 60.0 * minutes if minutes else math.inf

    def install(self) -> None:
        for number in stop_signals.heeded():
            signal.signal(number, self._count)

    def _count(self, *_: object) -> None:
        self.signals += 1

    @property
    def is_due(self) -> bool:
        return self.signals > 0 or time.monotonic() >= self._until_s


class Worker:
    """Brings cells to their end, as far as it is allowed to."""

    def __init__(self, options: ProtocolOptions, stop: Stop) -> None:
        self._options = options
        self._stop = stop
        self._say_which = ""
        """The cell, for messages."""
        self.failures = 0

    def work_off(self, jobs: Sequence[Job]) -> None:
        """Train and evaluate whatever is missing.

        Raises:
            ConfigError: a training could not begin, and would not in the other cells either; or
                another call has meanwhile begun a cell with other settings.
        """
        for number, job in enumerate(jobs, 1):
            if self._stop.is_due:
                return
            with job.cell.locked() as lock:
                if lock is None:
                    _say(f"{job.cell.name}: somebody else is at it")
                    continue
                job.cell.require(job.config)  # somebody may have had it since it was planned
                self._say_which = f"[{number}/{len(jobs)}] {self._options.task}, {job.cell.name}"
                if self._train(job, lock):
                    self._evaluate(job, lock)

    def _train(self, job: Job, lock: int) -> bool:
        """Whether the training is complete."""
        cell, steps = job.cell, job.config.steps
        standing = cell.standing(self._options.task, steps, self._options.episodes)
        if standing.state in (State.TRAINED, State.DONE):
            return True
        if standing.run is None:
            runs = ("--runtime.runs-dir", f"{cell.folder / 'runs'}")
            arguments = (*job.arguments, *runs, "--metrics-port", "0")
            _say(f"{self._say_which}: begins, {steps} steps")
        else:
            # The devices of this call; all else is in the run's folder.
            own = (*self._options.flags, "--steps", f"{steps}")
            arguments = ("--resume", f"{standing.run}", *own)
            _say(f"{self._say_which}: goes on after {standing.env_steps} of {steps} steps")
        code = self._run_child(cell, "runtime.launch", arguments, lock, steps)
        if standing.run is None and code == _NOTHING_STARTED and not self._stop.is_due:
            raise ConfigError(cell.last_line().removeprefix("error: "))
        return self._has_gone_well(code, cell, "training")

    def _evaluate(self, job: Job, lock: int) -> None:
        cell, options = job.cell, self._options
        for opponent in opponents_of(options.task):
            if cell.evaluation(opponent).get("evaluation_episodes", 0) >= options.episodes:
                continue
            if self._stop.is_due:
                return
            arguments = ("--policy", f"{cell.policy()}", "--env", options.task, "--json")
            arguments += ("--agents", f"{job.config.num_agents}")
            arguments += ("--episodes", f"{options.episodes}")
            if opponent:
                arguments += ("--opponent", opponent)
            scratch = cell.evaluation_path(opponent).with_suffix(".tmp")
            code = self._run_child(cell, "runtime.evaluate", arguments, lock, 0, scratch)
            if self._has_gone_well(code, cell, "evaluation"):
                cell.keep_evaluation(opponent, scratch.read_bytes())
                scratch.unlink()
                reached = reached_of(cell.evaluation(opponent), options.task)
                _say(f"{self._say_which}: {reached:.3f}{f' against {opponent}' * bool(opponent)}")

    def _has_gone_well(self, code: int, cell: Cell, what: str) -> bool:
        if code != 0 and not self._stop.is_due:
            self.failures += 1
            _say(f"{self._say_which}: {what} failed with exit code {code}: {cell.last_line()}")
            _say(f"see {cell.output}")
        return code == 0

    def _run_child(
        self,
        cell: Cell,
        module: str,
        arguments: Sequence[str],
        lock: int,
        steps: int,
        figures: Path | None = None,
    ) -> int:
        """Run one of our commands to its end, or until it is time to stop; its exit code.

        Args:
            lock: to be inherited: the cell is taken until the child is gone, too.
            steps: of the training that is reported on; 0 reports nothing.
            figures: file for what it prints; by default its output goes to output.txt.
        """
        with (
            cell.output.open("ab") as output,
            figures.open("wb") if figures else nullcontext(output) as printed,
        ):
            child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=output,
                pass_fds=(lock,),
                # A terminal's Ctrl-C is for us alone, who pass it on once.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
            say_s = time.monotonic() + _SAY_S
            while child.poll() is None and not self._stop.is_due:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_LOOK_S)
                if steps and time.monotonic() >= say_s:
                    say_s += _SAY_S
                    _say(f"{self._say_which}: {cell.progress()} of {steps} steps")
            return self.leave(child)

    def leave(self, child: "subprocess.Popen[bytes]") -> int:
        """Have it end if it has not; a second Ctrl-C does not wait for its checkpoint."""
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            until_s, signals = time.monotonic() + _LEAVE_S, self._stop.signals
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_LOOK_S)
                is_late = time.monotonic() >= until_s
                # Asked once more: a child that has just been waited for has no number any longer.
                if child.poll() is None and (is_late or self._stop.signals > max(signals, 1)):
                    os.killpg(child.pid, signal.SIGKILL)
        return child.wait()


def _end_with_parent() -> None:
    """Between fork and exec: should this process be killed, its child gets a Ctrl-C."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _say(line: str) -> None:
    print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 if a command failed, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(ProtocolOptions, argv, prog="python -m runtime.protocol")
        jobs = plan(options)
        if not options.list:
            require_folder(options.folder, "--out")
        else:
            print("\n".join(standings(options, jobs)))
            return 0
    except ConfigError as error:
        exit_with_error(error)
    stop = Stop(options.minutes)
    stop.install()
    worker = Worker(options, stop)
    try:
        worker.work_off(jobs)
        report(options)
        _say(standings(options, jobs)[-1])
    except ConfigError as error:  # what was wanted does not fit, or a file of a cell is damaged
        exit_with_error(error)
    return _INTERRUPTED if stop.signals else int(worker.failures > 0)
