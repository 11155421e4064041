"""A host's /metrics as a test reads it: scraped inside the host, looked up by name and labels.

page = scrape(host, 9464)
page("tcp_bytes_total", agent="2", direction="sent")
"""

import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.process.namespaces import Host

_PREFIX = "murmuration_"


class MetricsPage:
    """One answer of an exporter; names go without the common prefix."""

    def __init__(self, text: str) -> None:
        self._values = {
            (sample.name.removeprefix(_PREFIX), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one series.

        Raises:
            KeyError: there is none.
        """
        return self._values[name, frozenset(labels.items())]

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is a series of that name with at least these labels."""
        return bool(self.all(name, **labels))

    def sum(self, name: str, **labels: str) -> float:
        """Over all series of that name with at least these labels; 0.0 if there are none."""
        return sum(self.all(name, **labels).values())

    def all(self, name: str, **labels: str) -> Mapping[frozenset[tuple[str, str]], float]:
        """Values of these series by all of their labels."""
        return {
            found: value
            for (series, found), value in self._values.items()
            if series == name and labels.items() <= dict(found).items()
        }


def scrape(host: Host, port: int, timeout_s: float = 10.0) -> MetricsPage:
    """Read what the exporter on the host's loopback says now.

    Raises:
        OSError: nobody listens there, or not any more.
    """
    with (
        host.inside(),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout_s) as answer,
    ):
        return MetricsPage(answer.read().decode())
