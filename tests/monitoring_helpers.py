"""What docs/monitoring/ asks Prometheus for: every query by its place."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

MONITORING = Path(__file__).parents[1] / "docs" / "monitoring"

JOB = "murmuration"

DEPLOYED = "Deployed agents"
BETWEEN_HOSTS = "Between hosts"
"""Rows of the dashboard that stay empty in training, and on a single machine."""

_METRIC = re.compile(r"[a-zA-Z_][a-zA-Z0-9_:]*")
_TEXT = re.compile(r'"[^"]*"')
_AND = re.compile(r"\s+and(?:\s+on\s*\([^)]*\))?\s+")
_THRESHOLD = re.compile(r"\s+(?:==|!=|<=|>=|<|>)\s+-?[\d.]+$")


class Query(NamedTuple):
    place: str
    """Where it stands, for people."""
    expr: str
    labels: frozenset[str] = frozenset()
    """What every series of the answer is called by."""


def dashboard() -> dict[str, Any]:
    return json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries(*, without_rows: tuple[str, ...] = ()) -> list[Query]:
    """Of every panel, with variables at what Grafana puts in for all hosts of the job."""
    found: list[Query] = []
    row = ""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        elif row not in without_rows:
            for target in panel["targets"]:
                expr = target["expr"].replace("$job", JOB).replace("$instance", ".+")
                labels = frozenset(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                found.append(Query(f"panel {panel['title']}", expr, labels))
    return found


def annotation_queries() -> list[Query]:
    """Of what the dashboard marks on all its panels: mostly there is nothing to mark."""
    annotations = dashboard()["annotations"]["list"]
    return [Query(f"annotation {a['name']}", a["expr"]) for a in annotations if "expr" in a]


def record_queries() -> list[Query]:
    return [Query(rule["record"], rule["expr"]) for rule in rules() if "record" in rule]


def alert_queries() -> list[Query]:
    return [Query(rule["alert"], rule["expr"]) for rule in rules() if "alert" in rule]


def without_thresholds(alert: Query) -> list[Query]:
    """The figures that an alert compares with its thresholds.

    `a - b > 60 and on (job) c > 0` has two: `a - b` and `c`.
    """
    figures: list[Query] = []
    for part in _AND.split(alert.expr):
        figure, thresholds = _THRESHOLD.subn("", part.strip())
        assert thresholds == 1, f"{alert.place}: {part} is no comparison with a number"
        figures.append(Query(alert.place, figure))
    return figures


def metrics_in(expr: str) -> set[str]:
    """Names of our metrics and recording rules in an expression."""
    return {name for name in _METRIC.findall(_TEXT.sub('""', expr)) if "murmuration_" in name}
