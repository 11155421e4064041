"""How all pictures of this project look.

    with canvas(out, columns=2) as panels: draw_curve(panels[0], …); label_ends(panels[0], …)

The first seven colours are those of Okabe and Ito (2008), the others of Tol's muted scheme: people
with any kind of colour blindness tell them apart; series differ by marker as well. A line stands
for a mean. Its band says how sure that mean is, and the picture says how: 95 % confidence over many
episodes, the standard error over a few seeds. Series carry their names themselves, so that nobody
has to match colours with a legend.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#882255", "#999933", "#332288", "#AA4499", "#44AA99"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "h", "*", ">", "p")
BACKGROUND = "#BBBBBB"
"""Of what is there to compare with."""
TEXT = "#333333"
DPI = 120

_STYLE: Mapping[str, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}
_LINE_HEIGHT = 1.25
"""Distance of two labels, in heights of their letters."""


@contextmanager
def canvas(
    out: Path,
    rows: int = 1,
    columns: int = 1,
    size: tuple[float, float] = (7.0, 4.0),
    **options: Any,
) -> Generator[list[Any]]:
    """Panels from left to right and top to bottom, written to a file in the end.

    Args:
        out: picture to write; the ending decides the format.
        size: width and height of a panel in inches.
        options: of `matplotlib.pyplot.subplots`, such as `sharex`.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    pyplot: Any = plt  # matplotlib is typed in part only
    with pyplot.rc_context({**_STYLE}):
        figure, grid = pyplot.subplots(
            rows,
            columns,
            figsize=(size[0] * columns, size[1] * rows),
            layout="constrained",
            squeeze=False,
            **options,
        )
        try:
            yield list(grid.flat)
            figure.savefig(out, dpi=DPI)
        finally:
            pyplot.close(figure)


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def standard_error(values: ArrayLike) -> NDArray[np.float64]:
    """Of the mean over the first axis; zero where there is one value, which has none."""
    array = np.asarray(values, dtype=np.float64)
    number = len(array)
    if number < 2:
        return np.zeros(array.shape[1:])
    return array.std(axis=0, ddof=1) / np.sqrt(number)


def draw_curve(
    axes: Any, x: ArrayLike, mean: ArrayLike, error: ArrayLike, index: int, **options: Any
) -> None:
    """A mean, and a band of so much above and below it."""
    middle, width = np.asarray(mean), np.asarray(error)
    axes.fill_between(
        x, middle - width, middle + width, color=colour(index), alpha=0.18, linewidth=0
    )
    axes.plot(x, middle, color=colour(index), **options)


def label_steps(axes: Any) -> None:
    """Environment steps along the bottom, in thousands and millions: whole numbers would overlap
    in a narrow panel."""
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def label_ends(axes: Any, ends: Sequence[tuple[str, float]]) -> None:
    """Write the names of curves to the right of their ends, apart from one another.

    Args:
        ends: name and last value, in the order of colours; limits and scale of the axes are final.
    """
    if not ends:
        return
    figure = axes.figure
    height = _LINE_HEIGHT * 8.0 * figure.dpi / 72.0
    order = sorted(range(len(ends)), key=lambda index: ends[index][1])
    wanted = [
        float(axes.get_yaxis_transform().transform((0.0, ends[index][1]))[1]) for index in order
    ]
    _, bottom = axes.transAxes.transform((0.0, 0.0))
    _, top = axes.transAxes.transform((0.0, 1.0))
    places = apart(wanted, height, float(bottom), float(top))
    for index, place in zip(order, places, strict=True):
        name, value = ends[index]
        share = (place - bottom) / (top - bottom)
        axes.annotate(
            name,
            xy=(1.0, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.04, share),
            textcoords="axes fraction",
            color=TEXT,
            fontsize=8.0,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour(index),
                "linewidth": 0.8,
                "relpos": (0.0, 0.5),
                "shrinkA": 1.0,
                "shrinkB": 0.0,
            },
        )


def apart(wanted: Sequence[float], height: float, bottom: float, top: float) -> list[float]:
    """Places in ascending order, near the wanted ones, at least `height` from one another and, if
    there is room, between bottom and top.
    """
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + height) if places else max(place, bottom))
    for index in range(len(places) - 1, -1, -1):
        limit = top if index == len(places) - 1 else places[index + 1] - height
        places[index] = min(places[index], limit)
    return places


def label_points(axes: Any, labels: Sequence[tuple[str, float, float]]) -> None:
    """Write a name beside each point, where it covers neither another point nor another name.

    Args:
        labels: name, x and y; limits and scale of the axes are final.
    """
    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    points = [tuple(axes.transData.transform((x, y))) for _, x, y in labels]
    taken: list[tuple[float, float, float, float]] = [
        (x - 6.0, y - 6.0, x + 6.0, y + 6.0) for x, y in points
    ]
    for name, x, y in labels:
        best: tuple[float, Any, tuple[float, float, float, float]] | None = None
        for cost, (dx, dy, across, along) in enumerate(_BESIDE):
            text = axes.annotate(
                name,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=across,
                va=along,
                fontsize=8.0,
                color=TEXT,
            )
            extent = text.get_window_extent(renderer)
            box = (extent.x0, extent.y0, extent.x1, extent.y1)
            outside = not (frame.x0 <= box[0] and box[2] <= frame.x1)
            outside |= not (frame.y0 <= box[1] and box[3] <= frame.y1)
            total = cost + 100.0 * sum(_meet(box, other) for other in taken) + 1000.0 * outside
            if best is None or total < best[0]:
                if best is not None:
                    best[1].remove()
                best = (total, text, box)
            else:
                text.remove()
        assert best is not None
        taken.append(best[2])


_BESIDE: tuple[tuple[float, float, str, str], ...] = (
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (6, 6, "left", "bottom"),
    (6, -6, "left", "top"),
    (-6, 6, "right", "bottom"),
    (-6, -6, "right", "top"),
    (6, 16, "left", "bottom"),
    (6, -16, "left", "top"),
    (-6, 16, "right", "bottom"),
    (-6, -16, "right", "top"),
)
"""Places of a label: x and y from the point, and which part of it stands there."""


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
