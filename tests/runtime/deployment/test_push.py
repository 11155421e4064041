"""What an update is judged by; tests/process/test_update.py pushes some."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.deployment import push
from runtime.deployment.bundle import Book, Bundle, DeployOptions
from runtime.deployment.hosts import spread
from runtime.deployment.push import Nodes, Push, PushFailed, Terms, missed_share, what_is_worse
from runtime.net import wire


def figures(steps: float, missed: float) -> dict[str, float]:
    return {"agent_steps": steps, "ticks_missed": missed}


def test_missed_ticks_are_a_share_of_those_between_two_looks() -> None:
    assert missed_share(figures(100, 900), figures(130, 910)) == 0.25
    assert missed_share(figures(100, 900), figures(100, 900)) == 0.0, "nobody has a body"


def test_a_host_that_misses_more_ticks_than_before_is_named() -> None:
    usual = {"a": 0.0, "b": 0.5}
    assert what_is_worse(usual, {"a": 0.05, "b": 0.55}) == ""
    says = "host b: 75% of ticks were missed, 50% before"
    assert what_is_worse(usual, {"a": 0.05, "b": 0.75}) == says


_AFTER = {"offer": ("offered", 1), "swap": ("swapped", 2), "keep": ("kept", 2), "back": ("idle", 1)}


class ObedientNodes(Nodes):
    """Two hosts of two agents each that do what they are told, but for what a test changes."""

    def __init__(self, happens: Callable[["ObedientNodes", str], None]) -> None:
        self.happens = happens
        self.phase, self.version = dict.fromkeys("ab", "idle"), dict.fromkeys("ab", 1)
        self.restarts, self.refusal = dict.fromkeys("ab", 0), dict.fromkeys("ab", "")
        self.orders: list[str] = []

    def offer(self, content: bytes, terms: Terms) -> dict[str, wire.UpdateState | str]:
        return self._obey("offer")

    def order(self, name: str, terms: Terms, tick: int = 0) -> dict[str, wire.UpdateState | str]:
        return self._obey(name)

    def _obey(self, name: str) -> dict[str, wire.UpdateState | str]:
        self.orders.append(name)
        if name in _AFTER:
            phase, version = _AFTER[name]
            self.phase, self.version = dict.fromkeys("ab", phase), dict.fromkeys("ab", version)
        self.happens(self, name)
        return {host: self._state(host) for host in "ab"}

    def _state(self, host: str) -> wire.UpdateState:
        version = self.version[host]
        figures = {"agents_ready": 2.0, "agents_reporting": 2.0, "restarts": self.restarts[host],
                   "policy_version_min": version, "policy_version_max": version,
                   "agent_steps": 0.0, "ticks_missed": 0.0}  # fmt: skip
        return wire.UpdateState(1, 1, self.phase[host], version, self.refusal[host], figures)


def push_to(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_patience(num_agents: int) -> float:
        return 0.0 * num_agents

    monkeypatch.setattr(push, "report_period_s", no_patience)
    hosts = spread({"a": ("10.0.0.1", 7400), "b": ("10.0.0.2", 7400)}, 4)
    book, options = Book("feed", hosts, {}), DeployOptions(comm="sops", gate_mode="learned")
    bundle = Bundle(Path(), hosts["a"], book, {}, None, options)
    Push(nodes, bundle, Terms(watch_s=0.0, timeout_s=1.0), print).run(b"", 2)


def test_hosts_are_asked_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = ObedientNodes(lambda nodes, name: None)
    push_to(nodes, monkeypatch)
    assert nodes.orders == ["offer", "look", "swap", "look", "keep", "done"]


@pytest.mark.parametrize(
    ("asked_for", "last"), [("look", "back"), ("swap", "back"), ("keep", "back"), ("done", "done")]
)
def test_ctrl_c_takes_a_version_back_until_all_hosts_have_kept_it(
    asked_for: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(nodes: ObedientNodes, name: str) -> None:
        if name == asked_for:
            raise KeyboardInterrupt

    nodes = ObedientNodes(interrupt)
    if last == "done":
        push_to(nodes, monkeypatch)
    else:
        with pytest.raises(KeyboardInterrupt):
            push_to(nodes, monkeypatch)
    assert nodes.orders[-1] == last


def test_an_agent_that_dies_at_its_first_step_by_the_new_version_is_missed_by_no_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(nodes: ObedientNodes, name: str) -> None:
        nodes.restarts["b"] += name == "swap"  # and it is up again before anybody looks

    nodes = ObedientNodes(die)
    with pytest.raises(PushFailed, match="host b: an agent was started again") as error:
        push_to(nodes, monkeypatch)
    assert (error.value.swapped, error.value.certain) == (True, True)
    assert nodes.orders[-1] == "back"


def test_a_host_that_has_kept_it_and_was_started_again_is_not_said_to_have_gone_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def restart(nodes: ObedientNodes, name: str) -> None:
        if name == "keep":
            nodes.refusal["b"] = "no room"
        if name == "back":
            nodes.version["a"] = 2

    with pytest.raises(PushFailed, match="host b: no room; host a acts by version 2") as error:
        push_to(ObedientNodes(restart), monkeypatch)
    assert not error.value.certain
