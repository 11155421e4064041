"""Masks over training, and connections per unit, as pictures.

    python -m runtime.mask_plot runs/A --layers policy.gru.weight_hh_l0 --out masks.png

    runs/A/masks/*.npz -> a row for each layer: its mask at a few points of the run (figures 11 and
                          20 to 22), links per input and output in descending order (19, 23 to 25)

A light pixel in row i and column j is a link from input j to output i.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from configs.arrays import BoolArray
from configs.load import ConfigError, exit_with_error, parse_command_line
from configs.ranges import between, check_ranges
from configs.run_files import MASKS
from learner.sparse.snapshots import MaskSnapshot, read_snapshots
from learner.studies.figure_style import canvas, colour
from runtime.terminal.places import require_picture

_MAIN = ("policy.encoder.weight", "policy.gru.weight_hh_l0", "mixer.hyper_w_1.0.weight")
"""Input layer, hidden layer of the GRU, hypernetwork: those of figures 20 to 22."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskOptions:
    """Draw the masks of a sparse run, and print how many links its layers and units have."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""

    layers: tuple[str, ...] = ()
    """Layers to draw; by default input layer, GRU and, if there is one, hypernetwork."""

    points: Annotated[int, between(2, 100)] = 4
    """Points of the run at which masks are drawn, the first and the last among them."""

    out: Path = Path("masks.png")
    """Picture to write; the ending decides the format."""

    def __post_init__(self) -> None:
        check_ranges(self)


def choose(snapshots: Sequence[MaskSnapshot], points: int) -> list[MaskSnapshot]:
    """So many of them at even distances, with the first and the last; all if there are fewer."""
    number = min(points, len(snapshots))
    places = np.linspace(0, len(snapshots) - 1, number).round().astype(int)
    return [snapshots[place] for place in places]


def links_per_unit(mask: BoolArray, axis: int) -> NDArray[np.int64]:
    """In descending order; axis 0 counts those of each input, 1 of each output."""
    return np.sort(mask.sum(axis=axis))[::-1]


def table(snapshots: Sequence[MaskSnapshot]) -> str:
    """The first and the last masks as Markdown, layer by layer."""
    first, last = snapshots[0], snapshots[-1]
    lines = [
        "| layer | shape | links | of them from the start | inputs without a link | outputs |",
        "|---|---|---|---|---|---|",
    ]
    for name, mask in last.masks.items():
        kept = int((mask & first.masks[name]).sum())
        dead = [int((~mask.any(axis=axis)).sum()) for axis in (0, 1)]
        before = [int((~first.masks[name].any(axis=axis)).sum()) for axis in (0, 1)]
        lines.append(
            f"| {name} | {mask.shape[0]} × {mask.shape[1]} | {int(mask.sum())} "
            f"| {kept / max(int(mask.sum()), 1):.0%} | {before[0]} → {dead[0]} "
            f"| {before[1]} → {dead[1]} |"
        )
    return "\n".join(lines)


def draw(snapshots: Sequence[MaskSnapshot], layers: Sequence[str], points: int, out: Path) -> None:
    """Write the picture."""
    chosen = choose(snapshots, points)
    columns = len(chosen) + 2
    with canvas(out, len(layers), columns, size=(2.6, 2.6)) as panels:
        for place, name in enumerate(layers):
            row = panels[place * columns : (place + 1) * columns]
            for axes, snapshot in zip(row, chosen, strict=False):
                axes.grid(visible=False)
                mask = snapshot.masks[name]
                axes.imshow(mask, cmap="cividis", aspect="auto", interpolation="nearest")
                axes.set_title(f"{snapshot.env_steps:,} steps")
                axes.set_xlabel("input")
            row[0].set_ylabel(f"{name}\noutput")
            for axes, axis, unit in ((row[-2], 0, "input"), (row[-1], 1, "output")):
                for index, snapshot in enumerate((chosen[0], chosen[-1])):
                    counts = links_per_unit(snapshot.masks[name], axis)
                    label = f"{snapshot.env_steps:,} steps"
                    axes.plot(
                        counts, color=colour(index), linestyle=("-", "--")[index], label=label
                    )
                axes.set_title(f"links per {unit}, sorted")
                axes.legend()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(MaskOptions, argv, prog="python -m runtime.mask_plot")
        require_picture(options.out)
        snapshots = read_snapshots(options.run)
        if not snapshots:
            raise ConfigError(f"{options.run} has no {MASKS}: it is not the run of a sparse method")
        known = snapshots[0].masks
        layers = options.layers or tuple(name for name in _MAIN if name in known)
        if unknown := [name for name in layers if name not in known]:
            raise ConfigError(f"no masks of {', '.join(unknown)}: choose from {', '.join(known)}")
    except ValueError as error:  # ConfigError, or a damaged file
        exit_with_error(error)
    draw(snapshots, layers, options.points, options.out)
    print(table(snapshots))
    return 0
