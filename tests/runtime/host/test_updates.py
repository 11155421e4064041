"""A host's part of an update, without sockets: what it refuses, and where it goes back to."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, save_policy, views
from runtime.deployment import update_file
from runtime.deployment.update_file import UpdateFile, addressed, newest_policy
from runtime.host.updates import FIGURES, Moment, TakeUp, Updates
from runtime.net import wire
from runtime.net.errors import SetupError
from tests.agents_helpers import make_flat, make_rules

RULES = make_rules()
SPEC = RULES.spec
DEPLOYMENT = "deployment"
PUSH, OTHER = 11, 12
LEASE_S = 40.0
RATE_HZ = 10.0
WALL_S = 1000.0
SOON = 10_005
"""A tick that comes half a second after WALL_S."""


class Host:
    """A host of three agents that act by version 3."""

    def __init__(self, folder: Path, rate_hz: float = RATE_HZ) -> None:
        self.folder = folder
        self.bundled = PolicyFile(SPEC, make_flat(), 3, {})
        self.updates = Updates(RULES, 3, rate_hz, DEPLOYMENT, self.bundled, UpdateFile(folder))
        self.now_s = 50.0
        self.ready = 3
        self.taken_up: list[TakeUp] = []
        self._sequence = 0

    def content(self, policy: PolicyFile) -> bytes:
        path = self.folder / "desk.safetensors"
        save_policy(path, policy)
        return path.read_bytes()

    def offer(self, policy: PolicyFile | bytes, push: int = PUSH) -> wire.UpdateState:
        content = policy if isinstance(policy, bytes) else self.content(policy)
        octets = np.frombuffer(content, np.uint8)
        return self._hand(wire.PolicyOffer(push, self._next(), LEASE_S, octets))

    def order(self, name: str, tick: int = SOON, push: int = PUSH) -> wire.UpdateState:
        return self._hand(wire.UpdateOrder(push, self._next(), name, tick))

    def orders(self, *names: str) -> None:
        for name in names:
            assert self.order(name).refusal == ""

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        take_up = self.updates.due(self.now_s)
        if take_up is not None:
            self.taken_up.append(take_up)

    @property
    def taken(self) -> list[tuple[int, int | None]]:
        """Versions that agents were told to take up, and from which tick on."""
        return [(change.policy.version, change.tick) for change in self.taken_up]

    @property
    def after_a_restart(self) -> int:
        return newest_policy(self.folder, DEPLOYMENT, self.bundled).version

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _hand(self, packet: wire.PolicyOffer | wire.UpdateOrder) -> wire.UpdateState:
        figures = {**dict.fromkeys(FIGURES, 0.0), "agents_ready": float(self.ready)}
        state, take_up = self.updates.handle(packet, Moment(self.now_s, WALL_S, figures))
        if take_up is not None:
            self.taken_up.append(take_up)
        assert (state.push, state.sequence) == (packet.push, packet.sequence)
        return state


def policy(version: int = 7, seed: int = 1) -> PolicyFile:
    return addressed(PolicyFile(SPEC, make_flat(seed=seed), version, {}), DEPLOYMENT, version)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_version_is_taken_up_at_its_tick_and_kept(host: Host) -> None:
    offered = host.offer(policy())
    assert (offered.refusal, offered.phase, offered.version) == ("", "offered", 3)
    assert host.taken == []
    assert host.order("swap").version == 7
    assert host.taken == [(7, SOON)]
    assert host.after_a_restart == 3, "not before it has proved itself"
    assert host.order("keep").phase == "kept"
    assert host.after_a_restart == 7
    assert host.order("done").phase == "idle"
    assert host.taken == [(7, SOON)]
    assert (host.updates.updates, host.updates.rollbacks) == (1, 0)


def test_without_a_rate_agents_go_over_with_their_next_observation(tmp_path: Path) -> None:
    host = Host(tmp_path, rate_hz=0.0)
    host.offer(policy())
    host.orders("swap")
    assert host.taken == [(7, None)]


def test_who_is_asked_twice_does_it_once(host: Host) -> None:
    for _ in range(2):
        assert host.offer(policy()).phase == "offered"
    host.orders("swap", "swap", "keep", "keep")
    assert host.taken == [(7, SOON)]
    assert host.updates.updates == 1


def other_layout(host: Host) -> bytes:
    spec = replace(SPEC, hidden=SPEC.hidden + 1)
    return host.content(addressed(PolicyFile(spec, make_flat(spec), 7, {}), DEPLOYMENT, 7))


def not_finite(host: Host) -> bytes:
    """A file whose own checksum is right."""
    flat = make_flat(seed=1)
    flat[3] = np.nan
    return host.content(replace(policy(), flat=flat))


def overflowing(host: Host) -> bytes:
    found = policy()
    views(SPEC, found.flat)["q_out.weight"][...] = 3e38
    return host.content(found)


def damaged(host: Host) -> bytes:
    content = bytearray(host.content(policy()))
    content[-1] ^= 1
    return bytes(content)


def garbage(host: Host) -> bytes:
    return b"no policy"


def older(host: Host) -> bytes:
    return host.content(policy(version=2))


def of_the_same_number(host: Host) -> bytes:
    return host.content(policy(version=3))


def of_another_deployment(host: Host) -> bytes:
    return host.content(addressed(policy(), "other", 7))


@pytest.mark.parametrize(
    ("offer", "says"),
    [
        (other_layout, f"hidden is {SPEC.hidden + 1}, deployed is {SPEC.hidden}"),
        (not_finite, "holds values that are not finite"),
        (overflowing, "its values do not stay finite"),
        (damaged, "checksum does not match"),
        (garbage, "cannot be read"),
        (older, "version 2 is not newer than 3, which is in use"),
        (of_the_same_number, "version 3 is not newer than 3, which is in use"),
        (of_another_deployment, "it was pushed to another deployment"),
    ],
)
def test_what_agents_cannot_act_by_is_refused_and_changes_nothing(
    host: Host, offer: Callable[[Host], bytes], says: str
) -> None:
    state = host.offer(offer(host))
    assert says in state.refusal
    assert (state.phase, state.version) == ("idle", 3)
    assert "no update is under way" in host.order("swap").refusal
    assert "no update is under way" in host.order("keep").refusal
    assert host.taken == []
    assert host.after_a_restart == 3
    assert not list(host.folder.glob("*update*")), "nothing is left behind"


def test_an_old_update_cannot_be_pushed_again(host: Host) -> None:
    for version in (7, 8):
        host.offer(policy(version, seed=version))
        host.orders("swap", "keep", "done")
    assert "version 7 is not newer than 8" in host.offer(policy(7, seed=7)).refusal
    assert host.order("look").version == 8


def test_a_host_that_has_the_version_already_goes_along(host: Host) -> None:
    """What mends a deployment whose hosts have come to differ."""
    host.offer(policy())
    host.orders("swap", "keep", "done")
    assert host.offer(policy(), push=OTHER).refusal == ""
    for name in ("swap", "keep", "done"):
        assert host.order(name, push=OTHER).refusal == ""
    assert host.taken == [(7, SOON)]


def test_agents_that_are_not_all_up_take_nothing_up(host: Host) -> None:
    host.ready = 2
    assert host.offer(policy()).refusal == "2 of 3 agents are up"


@pytest.mark.parametrize("tick", [10_000, 9_000, 20_000])
def test_a_tick_that_cannot_be_meant_is_refused(host: Host, tick: int) -> None:
    host.offer(policy())
    assert "do the hosts' clocks agree?" in host.order("swap", tick=tick).refusal
    assert host.taken == []


@pytest.mark.parametrize("after", [(), ("swap",), ("swap", "keep")], ids=["offer", "swap", "keep"])
def test_a_host_that_is_told_goes_back_from_anywhere(host: Host, after: Sequence[str]) -> None:
    host.offer(policy())
    host.orders(*after, "back")
    state = host.order("look")
    assert (state.phase, state.version) == ("idle", 3)
    assert host.taken == ([(7, SOON), (3, None)] if after else [])
    assert host.after_a_restart == 3
    assert host.updates.rollbacks == bool(after)
    # What was taken back may be tried again.
    assert host.offer(policy()).refusal == ""
    # But not something else in its name: agents may have it still.
    host.orders("back")
    is_refused = "was another policy here" in host.offer(policy(seed=2)).refusal
    assert is_refused == bool(after)


def test_going_back_once_more_goes_to_the_version_that_was_kept(host: Host) -> None:
    host.offer(policy(7))
    host.orders("swap", "keep", "done")
    host.offer(policy(8, seed=8))
    host.orders("swap", "keep", "back")
    assert host.order("look").version == 7
    assert host.after_a_restart == 7


@pytest.mark.parametrize("after", [(), ("swap",)], ids=["offer", "swap"])
def test_a_host_goes_back_by_itself_if_it_hears_nothing_more(
    host: Host, after: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    host.offer(policy())
    host.orders(*after)
    host.wait(LEASE_S - 1.0)
    host.orders("look")
    host.wait(LEASE_S - 1.0)
    assert host.order("look").phase != "idle"
    with caplog.at_level(logging.WARNING):
        host.wait(LEASE_S + 1.0)
    assert host.order("look").version == 3
    assert host.taken == ([(7, SOON), (3, None)] if after else [])
    assert ("policy version 7 is taken back, 3 is in use" in caplog.text) == bool(after)


def test_what_was_kept_stays_if_nothing_more_is_heard(host: Host) -> None:
    host.offer(policy())
    host.orders("swap", "keep")
    host.wait(LEASE_S + 1.0)
    state = host.order("look")
    assert (state.phase, state.version) == ("idle", 7)
    assert host.after_a_restart == 7


def test_two_who_push_at_once_do_not_get_in_each_others_way(host: Host) -> None:
    host.offer(policy(7))
    under_way = "another update is under way here (version 7)"
    assert host.offer(policy(8), push=OTHER).refusal == under_way
    for name in ("swap", "keep", "back", "done"):
        assert host.order(name, push=OTHER).refusal == under_way
    assert host.order("swap").version == 7


def test_a_version_of_another_deployment_is_not_begun_with(host: Host) -> None:
    save_policy(host.folder / update_file.NAME, addressed(policy(), "the one before", 9))
    assert host.after_a_restart == 3
    save_policy(host.folder / update_file.NAME, addressed(policy(), DEPLOYMENT, 9))
    assert host.after_a_restart == 9


def test_a_damaged_version_is_said_and_how_to_do_without_it(host: Host) -> None:
    (host.folder / update_file.NAME).write_bytes(damaged(host))
    with pytest.raises(SetupError, match="remove it to begin with the bundle's own version"):
        assert host.after_a_restart
