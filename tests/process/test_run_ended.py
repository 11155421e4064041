"""A scraper that comes regularly hears that a run has ended, and what it has come to."""

import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.process.runs import Launched, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

RUN = ("--agents", "3", "--env", "relay", "--env-copies", "4", "--evaluation.episodes", "4")
LONG = (*RUN, "--steps", "100000000")
PERIOD_S = 1.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Scraper:
    """Asks once a second and keeps the last answer, as Prometheus does."""

    def __init__(self, port: int) -> None:
        self.last: dict[str, float] = {}
        self.answers = 0
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._scrape)
        self._thread.start()

    def _scrape(self) -> None:
        while not self._is_over.wait(PERIOD_S):
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    text: str = answer.read().decode()
            except OSError:
                continue
            self.last = {
                " ".join((sample.name, *sample.labels.values())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            self.answers += 1

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def scraper(port: int) -> Iterator[Scraper]:
    scraper = Scraper(port)
    yield scraper
    scraper.close()


def test_a_run_that_finishes_says_so_and_what_it_has_reached(
    tmp_path: Path, port: int, scraper: Scraper
) -> None:
    with Launched(tmp_path, *RUN, "--steps", "1500", metrics_port=port) as run:
        assert run.finish(240.0) == 0
        assert scraper.last["murmuration_run_ended"] == 1.0
        summary = run.summary()
    by_prometheus = {
        "return_mean": scraper.last["murmuration_episode_return evaluation"],
        "win_rate": scraper.last["murmuration_win_rate evaluation"],
        "train_return_mean": scraper.last["murmuration_episode_return training"],
        "env_steps": scraper.last["murmuration_env_steps_total"],
        "learner_updates": scraper.last["murmuration_learner_updates_total"],
    }
    assert summary["learner_updates"] > 0
    assert by_prometheus == {name: summary[name] for name in by_prometheus}
    assert "murmuration_learner_loss" in scraper.last


@pytest.mark.slow
def test_ctrl_c_is_an_end_as_it_should_be(tmp_path: Path, port: int, scraper: Scraper) -> None:
    with Launched(tmp_path, *LONG, metrics_port=port) as run:
        run.wait_until_training()
        # One that has come once is not known to come regularly.
        wait_for("two scrapes", lambda: scraper.answers >= 2)
        run.process.send_signal(signal.SIGINT)
        assert run.finish(60.0) == 130
    assert scraper.last["murmuration_run_ended"] == 1.0


def test_what_agents_report_as_they_leave_is_scraped_too(
    tmp_path: Path, port: int, scraper: Scraper
) -> None:
    with Launched(tmp_path, *LONG, metrics_port=port) as run:
        run.wait_until_training()
        wait_for("two scrapes", lambda: scraper.answers >= 2)
        agent = run.processes["agent 0"]
        os.kill(agent, signal.SIGSTOP)
        run.process.send_signal(signal.SIGINT)
        wait_for("word of the end", lambda: scraper.last["murmuration_run_ended"] == 1.0)
        os.kill(agent, signal.SIGCONT)
        assert run.finish(60.0) == 130
        summary = run.summary()
    payload = [f"murmuration_payload_bytes_total {agent} message sent" for agent in range(3)]
    scraped = sum(scraper.last.get(name, 0.0) for name in payload)
    assert scraped == summary["message_payload_bytes"] > 0


@pytest.mark.slow
def test_a_run_that_breaks_down_has_not_ended(tmp_path: Path, port: int, scraper: Scraper) -> None:
    with Launched(tmp_path, *LONG, metrics_port=port) as run:
        run.wait_until_training()
        # One that has come once is not known to come regularly.
        wait_for("two scrapes", lambda: scraper.answers >= 2)
        os.kill(run.processes["world"], signal.SIGKILL)
        assert run.finish(60.0) == 1
    assert scraper.last["murmuration_run_ended"] == 0.0
