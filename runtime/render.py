"""One episode to look at: as a GIF, an MP4, or a page that plays it step by step.

    python -m runtime.render runs/20261128-081115-battle --out episode.gif
    python -m runtime.render --policy shipped --env battle --agents 20 --out episode.html

RUN or options -> configuration and policy (as runtime.evaluate) -> trace -> film or page

Greedy actions, deterministic gates, one process: the episode that `runtime.evaluate` plays first
with the same seed.
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long

import dataclasses
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

from agents.policy import PolicyFile
from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line, read_resolved
from configs.ranges import between, check_ranges, within
from configs.run_files import POLICY
from configs.schema import (
    MAX_AGENTS,
    MAX_CYCLES,
    MAX_OFFSETS,
    MAX_SEED,
    EnvName,
    GateMode,
    RunConfig,
)
from envs.copies import EnvFailure
from runtime.evaluate import EvaluateOptions, resolve, without_effect
from runtime.seeing import film, looks
from runtime.seeing.film import FilmError, Pace
from runtime.seeing.page import write_page
from runtime.seeing.trace import Trace, trace_episode
from runtime.terminal.places import require_file

PAGE = ".html"
_USUAL_ENV = "battle"


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderOptions:
    """Play one episode and show it: the swarm, its health, and the edges that are open."""

    run: Annotated[str, tyro.conf.Positional] = ""
    """Folder of a run: its policy, environment, agents and opponent, unless options say
    otherwise."""

    policy: str = ""
    """Policy file, or a word: shipped for the one that comes with the environment, untrained for a
    fresh one. Needed without a run."""

    env: EnvName = ""
    """Environment: a name that runtime.launch --help lists, pettingzoo:MODULE or
    package.module:callable. Without a run the default is battle."""

    env_options: Annotated[str, tyro.conf.arg(name="env.options")] = ""
    """What the environment itself takes: name=value,name=value."""

    agents: Annotated[int | None, between(2, MAX_AGENTS)] = None
    """Number of agents N; unset takes the run's, or what runtime.evaluate takes."""

    opponent: str = ""
    """The other team, where there is one: scripted, idqn, random or a file in Battle."""

    seed: Annotated[int, between(0, MAX_SEED)] = 1_000_000
    """Root seed of the episode."""

    gate_mode: Annotated[GateMode | None, tyro.conf.arg(name="gate.mode")] = None
    """Mode of the gate; unset takes what the policy was trained with."""

    gate_budget: Annotated[
        int | None, tyro.conf.arg(name="gate.budget"), between(0, MAX_OFFSETS)
    ] = None
    """Edges an agent may open in one step, 0 without limit; unset takes what the policy was trained
    with."""

    steps: Annotated[int, between(0, MAX_CYCLES)] = 0
    """Steps to show at most; 0 shows the whole episode."""

    out: Path = Path("episode.gif")
    """File to write, replaced if it is there: .gif, .mp4, or .html for a page that plays it."""

    size: Annotated[int, between(160, 2048)] = 480
    """Width of a film in pixels."""

    fps: Annotated[int, between(1, 50)] = 12
    """Pictures in a second of a film; units glide from step to step."""

    speed: Annotated[float, within(0.1, 50.0)] = 4.0
    """Steps in a second of a film."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.run and not self.policy:
            raise ValueError(
                "nothing to play: give the folder of a run, or --policy FILE (or shipped)"
            )
        if self.out.suffix not in (film.GIF, film.MP4, PAGE):
            raise ValueError(
                f"--out {self.out} is neither film nor page: its name ends with .gif, .mp4 or .html"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(RenderOptions, argv, prog="python -m runtime.render")
        if options.out.suffix != PAGE:
            film.require(options.out.suffix)
        require_file(options.out, "--out")
        config, policy, remarks = what_to_play(options)
    except (UserError, ValueError) as error:
        exit_with_error(error)
    for line in remarks:
        print(f"warning: {line}", file=sys.stderr)
    try:
        with _shown("playing", options.steps) as progress:
            trace = trace_episode(config, policy, max_steps=options.steps, progress=progress)
        if all(scene is None for scene in trace.scenes):
            print(
                f"warning: {trace.env} shows no picture of itself: its agents stand on a circle",
                file=sys.stderr,
            )
        _write(trace, options)
    except (EnvFailure, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        said = error.strerror or str(error)
        print(f"error: --out {options.out} cannot be written: {said}", file=sys.stderr)
        return 1
    print(f"{looks.title(trace)}: {trace.steps} steps, {looks.outcome(trace)}")
    print(f"{options.out}: {options.out.stat().st_size / 1000:,.0f} kB")
    return 0


def what_to_play(options: RenderOptions) -> tuple[RunConfig, PolicyFile, list[str]]:
    """Configuration and policy of the episode, and a line for each option without effect.

    Raises:
        UserError, ValueError: one clear line.
    """
    before = None
    if options.run:
        folder = Path(options.run)
        if not folder.is_dir():
            raise FilmError(
                f"{folder} is no folder of a run: give one below runs/, or --policy FILE"
            )
        before, _ = read_resolved(folder)
    of_run = before if before is not None and options.env in ("", before.env.name) else None
    wanted = EvaluateOptions(
        policy=options.policy or str(Path(options.run) / POLICY),
        env=options.env or (before.env.name if before is not None else _USUAL_ENV),
        env_options=options.env_options or (of_run.env.options if of_run is not None else ""),
        agents=options.agents or (of_run.num_agents if of_run is not None else None),
        opponent=options.opponent,
        seed=options.seed,
        gate_mode=options.gate_mode,
        gate_budget=options.gate_budget,
        episodes=1,
        simulate=True,
    )
    config, policy = resolve(wanted)
    if of_run is not None:
        opponents = (
            {"opponent": options.opponent, "evaluation_opponent": ""} if options.opponent else {}
        )
        env = dataclasses.replace(of_run.env, options=wanted.env_options, copies=1, **opponents)
        config = dataclasses.replace(config, env=env)
    return config, policy, without_effect(wanted, config)


def _write(trace: Trace, options: RenderOptions) -> None:
    if options.out.suffix == PAGE:
        write_page(trace, options.out)
        return
    pace = Pace(fps=options.fps, speed=options.speed)
    with _shown("drawing", pace.number_of_pictures(trace.steps)) as progress:
        film.write_film(trace, options.out, size=options.size, pace=pace, progress=progress)


@contextmanager
def _shown(doing: str, total: int) -> Generator[film.Progress]:
    """How far something has come, in a terminal; a pipe gets what was made, and nothing else.

    Args:
        total: 0: not known.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=total or None)
        yield lambda done: bar.update(task, completed=done)


if __name__ == "__main__":
    run_command(main)
