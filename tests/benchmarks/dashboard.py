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

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.monitoring_helpers import JOB, dashboard
from tests.process.prometheus import Prometheus, skip_reason
from tests.process.runs import Launched

MAIN_PANELS = (
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
PORT = 9464
WATCH_S = 90.0

_UNITS: dict[str, tuple[str, float]] = {
    "Bps": ("KiB/s", 1 / 1024),
    "pps": ("packets/s", 1.0),
    "s": ("ms", 1e3),
    "percentunit": ("%", 100.0),
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
    mpl.use("Agg")
    pyplot: Any = plt  # matplotlib is typed in part only
    rows = -(-len(panels) // 3)
    figure, grid = pyplot.subplots(rows, 3, figsize=(15, 3.2 * rows), squeeze=False)
    for axes, name in zip(grid.flat, panels, strict=False):
        panel = by_title[name]
        unit, factor = _UNITS.get(panel["fieldConfig"]["defaults"]["unit"], ("", 1.0))
        for target in panel["targets"]:
            expr = target["expr"].replace("$job", JOB).replace("$instance", ".+")
            for series in prometheus.series(expr, last_s):
                ages_s = [when - time.time() for when, _ in series["values"]]
                values = [factor * float(value) for _, value in series["values"]]
                if any(values):
                    axes.plot(ages_s, values, label=_legend(target["legendFormat"], series), lw=1)
        axes.set_title(f"{name}, {unit}" if unit else name, fontsize=10)
        scale = panel["fieldConfig"]["defaults"]["custom"]["scaleDistribution"]["type"]
        if scale == "log" and axes.lines:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        if axes.lines:
            axes.legend(fontsize=7, frameon=False, loc="best")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.supxlabel("seconds before the picture")
    figure.tight_layout()
    figure.savefig(out, dpi=80)
    pyplot.close(figure)


def _legend(template: str, series: dict[str, Any]) -> str:
    metric: dict[str, str] = series["metric"]

    def fill(found: re.Match[str]) -> str:
        return metric.get(found[1], "")

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
