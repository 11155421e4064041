"""Cells brought to their end, several at once, each command a process of its own.

    jobs -> cell locked -> runtime.launch (begun or resumed) -> runtime.evaluate … -> next job

Several calls at once share the work: a cell that somebody has is passed over. A cell that fails is
one line, and the others go on.
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from configs.load import ConfigError
from learner.studies.cells import Evaluation, State
from learner.studies.child import LOST, Stop
from learner.studies.memory_watch import MemoryWatch
from learner.studies.plan import Job
from learner.studies.pool import Here, Pool, Work

_TRAINING = "runtime.launch"
_LOOK_S = 0.2
_MOST_MACHINES = 4
"""That may be lost under a training before it counts as failed."""
SAY_S = 60.0
"""Seconds between lines about what goes on."""


class _Command(NamedTuple):
    """What a cell needs next."""

    module: str
    arguments: tuple[str, ...]
    lock: int
    figures: Path | None = None


_Course = Generator[_Command, int, None]
"""A cell on its way: yields commands, and is sent their exit codes."""


@dataclass(slots=True)
class _AtWork:
    job: Job
    course: _Course
    command: _Command
    child: Work
    watch: MemoryWatch | None = None

    @property
    def far(self) -> str:
        """How far it is, for a person."""
        if self.command.module != _TRAINING:
            return "in its final evaluations"
        return f"{self.job.cell.progress():,} of {self.job.wanted.steps:,} steps"


class Scheduler:
    """Works off jobs.

    Args:
        at_once: cells.
        say: told a line now and then.
        flags: options of runtime.launch for cells that are resumed: the devices of this call.
        environment: variables of the trainings.
        pool: where commands run; None: on this machine.
    """

    def __init__(
        self,
        stop: Stop,
        at_once: int = 1,
        say: Callable[[str], None] = lambda line: print(line, flush=True),
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        pool: Pool | None = None,
    ) -> None:
        self._pool = Here() if pool is None else pool
        self._stop = stop
        self._at_once = at_once
        self._say = say
        self._flags = tuple(flags)
        self._environment = environment
        self.failures = 0

    def work_off(self, jobs: Sequence[Job]) -> None:
        """Train and evaluate whatever is missing."""
        numbered = {job.label: f"[{n}/{len(jobs)}] {job.label}" for n, job in enumerate(jobs, 1)}
        self._names = numbered
        clock = _TimeLeft(jobs)
        waiting, at_work = list(jobs), list[_AtWork]()
        say_s = time.monotonic() + SAY_S
        while at_work or (waiting and not self._stop.is_due):
            while len(at_work) < self._at_once and not self._stop.is_due:
                job = _free(waiting, at_work)
                if job is None:
                    break
                waiting.remove(job)
                taken = self._take_up(job)
                at_work += [] if taken is None else [taken]
            time.sleep(_LOOK_S if at_work else 0.0)
            if self._stop.is_due:
                for each in at_work:
                    each.child.leave(self._stop)
            at_work = [each for each in at_work if self._goes_on(each)]
            if time.monotonic() >= say_s and at_work:
                say_s = time.monotonic() + SAY_S
                for each in at_work:
                    self._say(f"{self._names[each.job.label]}: {each.far}")
                self._say(clock.line(at_work, waiting))

    def _take_up(self, job: Job) -> _AtWork | None:
        """None: there is nothing to do in this cell."""
        course = self._course(job)
        command = self._next(job, course, None)
        if command is None:
            return None
        child = self._start(job, command)
        looks = job.memory and command.module == _TRAINING
        return _AtWork(job, course, command, child, MemoryWatch(child.session) if looks else None)

    def _goes_on(self, each: _AtWork) -> bool:
        code = each.child.poll()
        if each.watch is not None:
            each.watch.look_now_and_then()
        if code is None:
            return True
        if each.watch is not None and each.watch.figures:
            each.job.cell.keep_memory(each.watch.figures)
            each.watch = None
        command = self._next(each.job, each.course, code)
        if command is None:
            return False
        each.command, each.child = command, self._start(each.job, command)
        return True

    def _start(self, job: Job, command: _Command) -> Work:
        return self._pool.start(
            command.module,
            command.arguments,
            command.lock,
            job.cell.output,
            command.figures,
            self._environment if command.module == _TRAINING else None,
        )

    def _next(self, job: Job, course: _Course, code: int | None) -> _Command | None:
        """What the cell needs now; None: it has come to an end, or to a failure."""
        try:
            return next(course) if code is None else course.send(code)
        except StopIteration:
            return None
        except (ConfigError, OSError) as error:
            self._fail(job, str(error))
            return None

    def _course(self, job: Job) -> _Course:
        """Everything that is missing in a cell, one command after the other."""
        cell, name = job.cell, self._names[job.label]
        with cell.locked() as lock:
            if lock is None:
                self._say(f"{name}: somebody else is at it")
                return
            cell.require(job.config)  # somebody may have had it since it was planned
            if cell.standing(job.wanted).state is State.DONE:
                return
            if not (yield from self._training(job, lock)):
                return
            for evaluation in job.wanted.evaluations:
                if self._stop.is_due:
                    return
                if cell.lacks(evaluation, job.wanted) and not (
                    yield from self._evaluation(job, evaluation, lock)
                ):
                    return
            cell.keep_failure("")
            self._say(f"{name}: done")

    def _training(self, job: Job, lock: int) -> Generator[_Command, int, bool]:
        """Whether the cell is trained; where its machine is lost, it goes on elsewhere."""
        cell, name, code = job.cell, self._names[job.label], 0
        for _ in range(_MOST_MACHINES):
            standing = cell.standing(job.wanted)
            if standing.state not in (State.MISSING, State.HALF_DONE):
                return True
            if standing.run is None:
                runs = ("--runtime.runs-dir", f"{cell.folder / 'runs'}")
                arguments = (*job.arguments, *runs, "--metrics-port", "0")
                self._say(f"{name}: begins, {job.wanted.steps:,} steps")
            else:
                own = (*self._flags, "--steps", f"{job.wanted.steps}")
                arguments = ("--resume", f"{standing.run}", *own)
                self._say(f"{name}: goes on after {standing.env_steps:,} steps")
            code = yield _Command(_TRAINING, arguments, lock)
            if code != LOST or self._stop.is_due:
                break
            self._say(f"{name}: the machine is lost that it was on")
        return self._has_gone_well(job, code, "training")

    def _evaluation(
        self, job: Job, evaluation: Evaluation, lock: int
    ) -> Generator[_Command, int, bool]:
        """Whether it has gone well."""
        cell = job.cell
        scratch = cell.evaluation_path(evaluation).with_suffix(".tmp")
        code = yield _Command("runtime.evaluate", job.evaluate(evaluation), lock, scratch)
        if not self._has_gone_well(job, code, "evaluation"):
            return False
        cell.keep_evaluation(evaluation, scratch.read_bytes(), simulated=job.wanted.simulate)
        scratch.unlink()
        return True

    def _has_gone_well(self, job: Job, code: int, what: str) -> bool:
        if code != 0 and not self._stop.is_due:
            why = job.cell.last_line()
            self._fail(job, f"{what} failed with exit code {code}: {why} (see {job.cell.output})")
        return code == 0

    def _fail(self, job: Job, why: str) -> None:
        self.failures += 1
        job.cell.keep_failure(why)
        self._say(f"{self._names[job.label]}: {why}")


def _free(waiting: Iterable[Job], at_work: Iterable[_AtWork]) -> Job | None:
    """The next job whose cell is not at work: two arms may be the same training."""
    taken = {each.job.cell for each in at_work}
    return next((job for job in waiting if job.cell not in taken), None)


class _TimeLeft:
    """How long trainings will take, by how fast those of this call have been."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._begun_s = time.monotonic()
        self._jobs = jobs
        self._at_first = self._done()

    def _done(self) -> int:
        """Environment steps on disk."""
        steps = (job.cell.standing(job.wanted) for job in self._jobs)
        return sum(
            job.wanted.steps
            if standing.state in (State.TRAINED, State.DONE)
            else standing.env_steps
            for job, standing in zip(self._jobs, steps, strict=True)
        )

    def line(self, at_work: Sequence[_AtWork], waiting: Sequence[Job]) -> str:
        """Cells and minutes left."""
        done = self._done() - self._at_first
        # What lies on disk is as old as the last checkpoint.
        for each in at_work:
            if each.command.module != _TRAINING:
                continue  # no step of it is left
            behind = each.job.cell.standing(each.job.wanted).env_steps
            done += max(each.job.cell.progress() - behind, 0)
        left = max(sum(job.wanted.steps for job in self._jobs) - self._at_first - done, 0)
        ahead = f"{len(at_work)} at work, {len(waiting)} waiting"
        if done <= 0:
            return f"all: {ahead}"
        minutes = left / done * (time.monotonic() - self._begun_s) / 60.0
        return f"all: {ahead}, about {minutes:,.0f} min of training left"
