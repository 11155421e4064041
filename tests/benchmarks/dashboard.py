"""A picture of the dashboard's main panels, from a Prometheus that scrapes a real run.

    python -m tests.benchmarks.dashboard docs/monitoring/dashboard.png

`draw` takes any Prometheus that has watched a run for a while (tests/process/prometheus.py).
"""

import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learner.studies.figure_style import COLOURS, TEXT, canvas, colour, label_ends
from tests.monitoring_helpers import JOB, dashboard
from tests.process.prometheus import Prometheus, skip_reason
from tests.process.runs import Launched

MAIN_PANELS = (
    "Return",
    "Loss",
    "Updates",
    "Bandwidth by class",
    "Bandwidth by host",
    "Messages",
    "Open share by host",
    "Message latency",
    "Newest policy version",
    "Policy lag",
    "Agents up by host",
    "Packets dropped",
)
WHOLE_NUMBERS = ("Newest policy version", "Policy lag", "Agents up by host")
"""Panels of what jumps: there is nothing between two values."""
PORT = 9464
WATCH_S = 90.0

_UNITS: dict[str, tuple[str, float]] = {
    "Bps": ("KiB/s", 1 / 1024),
    "pps": ("packets/s", 1.0),
    "s": ("ms", 1e3),
    "percentunit": ("%", 100.0),
    "ops": ("per s", 1.0),
}


def draw(
    prometheus: Prometheus,
    out: Path,
    *,
    last_s: float,
    title: str,
    panels: Sequence[str] = MAIN_PANELS,
) -> None:
    """Save the last seconds of the panels as a PNG, three in a row, without empty lines."""
    by_title: dict[str, Any] = {panel["title"]: panel for panel in dashboard()["panels"]}
    rows = -(-len(panels) // 3)
    with canvas(out, rows, 3, size=(5.0, 2.3), sharex=True) as places:
        for axes in places[len(panels) :]:
            axes.remove()
        ends = [
            _draw(axes, by_title[name], prometheus, last_s)
            for axes, name in zip(places, panels, strict=False)
        ]
        places[0].set_xlim(-last_s, 0.0)
        figure = places[0].figure
        figure.suptitle(title)
        figure.supxlabel("seconds before the picture", fontsize=9.0)
        figure.canvas.draw()  # names are placed where the curves have come to stand
        for axes, named in zip(places, ends, strict=False):
            label_ends(axes, named)


def _draw(
    axes: Any, panel: dict[str, Any], prometheus: Prometheus, last_s: float
) -> list[tuple[str, float]]:
    """Draw one panel; returns names and last values of its series."""
    name, defaults = panel["title"], panel["fieldConfig"]["defaults"]
    unit, factor = _UNITS.get(defaults["unit"], ("", 1.0))
    ends: list[tuple[str, float]] = []
    for target in panel["targets"]:
        expr = target["expr"].replace("$job", JOB).replace("$instance", ".+")
        for series in prometheus.series(expr, last_s):
            ages_s = [when - time.time() for when, _ in series["values"]]
            values = [factor * float(value) for _, value in series["values"]]
            if not any(values):
                continue
            axes.plot(
                ages_s,
                values,
                color=colour(len(ends)),
                linestyle=_DASHES[len(ends) // len(COLOURS) % len(_DASHES)],
                drawstyle="steps-post" if name in WHOLE_NUMBERS else "default",
                linewidth=1.2,
            )
            ends.append((_legend(target["legendFormat"], series), values[-1]))
    axes.set_title(f"{name}, {unit}" if unit else name, loc="left")
    if not ends:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=TEXT)
        axes.set_yticks([0.0])
    if defaults["custom"]["scaleDistribution"]["type"] == "log" and ends:
        axes.set_yscale("log")
    elif "min" in defaults:
        axes.set_ylim(bottom=0.0)
    return ends


_DASHES = ("-", "--", ":")


def _legend(template: str, series: dict[str, Any]) -> str:
    metric: dict[str, str] = series["metric"]

    def fill(found: re.Match[str]) -> str:
        # One host needs no name, and its address here is nobody's business.
        return "host" if found[1] == "instance" else metric.get(found[1], "")

    return re.sub(r"\{\{(\w+)\}\}", fill, template)


def main() -> None:
    reason = skip_reason()
    if reason is not None:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prometheus").mkdir()
        arguments = ("--agents", "16", "--env", "relay", "--steps", "100000000", "--transport")
        with (
            Launched(folder, *arguments, "tcp", "--metrics-per-edge", metrics_port=PORT) as run,
            Prometheus(folder / "prometheus", [f"127.0.0.1:{PORT}"]) as prometheus,
        ):
            run.wait_until_training()
            time.sleep(WATCH_S)  # a picture of a minute and a half takes as long
            draw(
                prometheus,
                Path(sys.argv[1]),
                last_s=WATCH_S,
                title="Relay, 16 agents on one machine over tcp",
            )


if __name__ == "__main__":
    main()
