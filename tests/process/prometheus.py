"""A real Prometheus for tests: the Debian package, and a server that scrapes what it is told.

    docs/monitoring/prometheus.yml, with other targets ─▶ prometheus ◀─ queries (HTTP API)
                                                              └─ scrapes ─▶ /metrics of every target

With a prefix of command words such as ("ip", "netns", "exec", "host-a") both Prometheus and the
queries run inside that network namespace.
"""

import json
import math
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests import debian
from tests.monitoring_helpers import MONITORING, Query

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0

_FREE_PORT = "import socket; print(socket.create_server(('127.0.0.1', 0)).getsockname()[1])"
_FETCH = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=10)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(answer.read().decode())
"""


def require_prometheus() -> None:
    """Install the Debian package if need be; skip the running test, with the reason, if not."""
    reason = skip_reason()
    if reason is not None:
        pytest.skip(reason)


def skip_reason() -> str | None:
    """Why `prometheus` and `promtool` are not to be had here; None if they are, by now."""
    return debian.skip_reason(("prometheus", "promtool"), ("prometheus",))


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end; what it found is in the exit code and in the output."""
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


class Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float


class Prometheus:
    """One server with a data folder and a port of its own, gone when the `with` block is left."""

    def __init__(self, folder: Path, targets: Sequence[str], *, prefix: Sequence[str] = ()) -> None:
        """Nothing runs yet.

        Args:
            folder: exists; gets configuration, data and log.
            targets: "address:port" of every exporter.
            prefix: command words in front of every program, to run it somewhere else.
        """
        self._folder = folder
        self._targets = list(targets)
        self._prefix = list(prefix)
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""
        self.config = folder / "prometheus.yml"

    def __enter__(self) -> "Prometheus":
        self._write_config()
        checked = promtool("check", "config", self.config)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        address = f"127.0.0.1:{int(self._python(_FREE_PORT))}"
        self._url = f"http://{address}"
        log = self._folder / "prometheus.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *self._prefix,
                    "prometheus",
                    f"--config.file={self.config}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait(_START_TIMEOUT_S, self._is_ready, lambda: f"not ready: {log.read_text()}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def query(self, expr: str) -> list[Sample]:
        """What the expression is now.

        Raises:
            AssertionError: it is no vector, or cannot be evaluated, with Prometheus's reason.
        """
        data = self._api("query", query=expr)
        assert data["resultType"] == "vector", f"{expr} is a {data['resultType']}"
        return [Sample(found["metric"], float(found["value"][1])) for found in data["result"]]

    def value(self, expr: str) -> float:
        """What an expression of exactly one series is now."""
        (sample,) = self.query(expr)
        return sample.value

    def series(self, expr: str, last_s: float, step_s: float = 1.0) -> list[dict[str, Any]]:
        """The last seconds of an expression: "metric" and "values" ([unix time, text] each)."""
        now = time.time()
        data = self._api("query_range", query=expr, start=now - last_s, end=now, step=step_s)
        return data["result"]

    def targets_up(self) -> set[str]:
        """Addresses of the exporters that answered the last scrape."""
        active = self._api("targets", state="active")["activeTargets"]
        return {target["labels"]["instance"] for target in active if target["health"] == "up"}

    def faulty_rules(self) -> dict[str, str]:
        """Rules whose last evaluation failed, and why; or that have not been evaluated yet."""
        groups = self._api("rules")["groups"]
        assert groups, "no rules are loaded"
        return {
            rule["name"]: rule.get("lastError") or rule["health"]
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        }

    def firing(self) -> list[Mapping[str, str]]:
        """Labels of the alerts that fire, `alertname` among them."""
        alerts = self._api("alerts")["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]

    def unanswered(
        self,
        queries: Iterable[Query],
        timeout_s: float,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> list[Query]:
        """Ask again and again; what has had no number, or none with its labels, by the deadline.

        Args:
            meanwhile: called between two rounds, for whoever keeps the figures moving.
        """
        left = list(queries)
        deadline = time.monotonic() + timeout_s
        while left and time.monotonic() < deadline:
            left = [query for query in left if not self._answers(query)]
            meanwhile()
            time.sleep(0.2)
        return left

    def _answers(self, query: Query) -> bool:
        samples = self.query(query.expr)
        return any(math.isfinite(sample.value) for sample in samples) and all(
            query.labels <= sample.labels.keys() for sample in samples
        )

    def _write_config(self) -> None:
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": self._targets}]
        self.config.write_text(yaml.safe_dump(config), encoding="utf-8")

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
        try:
            return "Ready" in self._fetch(f"{self._url}/-/ready")
        except (OSError, AssertionError):  # nobody listens yet
            return False

    def _api(self, what: str, **parameters: Any) -> Any:
        answer = json.loads(
            self._fetch(f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}")
        )
        assert answer["status"] == "success", f"{parameters}: {answer['error']}"
        return answer["data"]

    def _fetch(self, url: str) -> str:
        if self._prefix:
            return self._python(_FETCH, url)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.read().decode()

    def _python(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [*self._prefix, sys.executable, "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _wait(timeout_s: float, condition: Callable[[], bool], complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.05)  # the state of another process has no event
