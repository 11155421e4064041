"""How far the protocol is, and what has come of it.

cells in the folder -> standings, table.md, table.csv, sizes.png, curves.png, seeds.png
"""

from collections.abc import Sequence
from contextlib import suppress

from agents.policy import write_atomically
from configs.load import ConfigError
from learner.studies.cells import Cell, State
from learner.studies.methods import METHODS, Method, ablations, resolve
from learner.studies.protocol_plan import Job, ProtocolOptions, jobs_of
from learner.studies.protocol_plot import draw_curves, draw_seeds, draw_sizes
from learner.studies.protocol_table import markdown, rows_of, write_csv


def standings(options: ProtocolOptions, jobs: Sequence[Job]) -> list[str]:
    """A line for each cell, and one for all."""
    lines: list[str] = []
    counts = dict.fromkeys(State, 0)
    for job in jobs:
        steps = job.config.steps
        standing = job.cell.standing(options.task, steps, options.episodes)
        counts[standing.state] += 1
        far = f", {standing.env_steps} of {steps} steps" * (standing.state is State.HALF_DONE)
        lines.append(f"{job.cell.name:<32} {standing.state.value}{far}")
    total = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    return [*lines, f"{options.task}: {total}"]


def complete_cells(options: ProtocolOptions) -> list[Cell]:
    """All that lie complete in the folder and have these settings, in the order of the tables."""
    folders: dict[str, list[int]] = {}
    for path in options.folder.glob("*/seed-*"):
        seed = path.name.removeprefix("seed-")
        if seed.isdecimal():
            folders.setdefault(path.parent.name, []).append(int(seed))
    by_name: dict[str, Method] = {}
    for name in folders:
        with suppress(ConfigError):  # a folder of somebody else's
            method = resolve(options.task, name, options.steps)
            if method.name == name:
                by_name[name] = method
    known = [*METHODS, *(method.name for method in ablations(options.task, options.steps))]
    base = {name: name.partition("@")[0] for name in by_name}
    complete: list[Cell] = []
    for name in sorted(by_name, key=lambda name: (known.index(base[name]), name)):
        for job in jobs_of(options, by_name[name], sorted(folders[name])):
            try:
                job.cell.require(job.config)
                standing = job.cell.standing(options.task, job.config.steps, options.episodes)
            except ConfigError as error:
                print(f"not in the table: {error}")
                continue
            if standing.state is State.DONE:
                complete.append(job.cell)
    return complete


def report(options: ProtocolOptions) -> None:
    """Write tables and pictures of whatever is complete."""
    complete = complete_cells(options)
    if not complete:
        print("nothing is complete yet: no table")
        return
    rows = rows_of(complete, options.task)
    text = markdown(rows, ablations(options.task, options.steps), options.task)
    write_atomically(options.folder / "table.md", text.encode())
    write_csv(rows, options.folder / "table.csv")
    draw_sizes(rows, options.task, options.folder / "sizes.png")
    draw_curves(complete, options.task, options.folder / "curves.png")
    draw_seeds(complete, options.task, options.folder / "seeds.png")
    print(text)
    print(f"in {options.folder}: table.md, table.csv, sizes.png, curves.png, seeds.png")
