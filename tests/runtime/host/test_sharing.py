"""What the node shares, and what it does where it cannot."""

import logging
import os
import resource
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import pytest

from agents.parameters import Outcome, ParameterStore
from agents.segment import SLOTS, Segment
from agents.shared_parameters import HostParameters
from runtime.host.sharing import Sharing
from tests.agents_helpers import SPEC, dense, make_flat, make_rules

RULES = make_rules()


@contextmanager
def files_of_at_most(size: int) -> Generator[None]:
    """The kernel refuses longer files, memory among them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_host_without_memory_for_it_says_so_once_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with files_of_at_most(4096):
        sharing = Sharing.where_possible(RULES, ParameterStore(make_flat(), 1))
    assert sharing is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "over sockets to every agent" in record.message
    assert "File too large" in record.message
    assert len(os.listdir("/proc/self/fd")) == before


def test_agents_follow_what_the_node_has(caplog: pytest.LogCaptureFixture) -> None:
    store = ParameterStore(make_flat(), 1)
    sharing = Sharing.where_possible(RULES, store)
    assert sharing is not None
    try:
        agent = HostParameters(Segment(sharing.handle), SPEC)
        for version in range(2, 30):
            store.apply(dense(make_flat(seed=version), version))
            said = sharing.share(store)
            assert said is not None
            assert sharing.newest == said
            agent.apply(said)
            assert agent.version == version
    finally:
        sharing.close()
    assert not caplog.records


def test_a_sparse_policy_may_grow_dense(caplog: pytest.LogCaptureFixture) -> None:
    flat = np.zeros(SPEC.size, dtype=np.float32)
    flat[::50] = 1.0
    store = ParameterStore(flat, 1)
    sharing = Sharing(RULES, store)
    try:
        store.apply(dense(make_flat(), 2))
        assert sharing.share(store) is not None
    finally:
        sharing.close()
    assert not caplog.records


def test_a_version_without_a_place_is_said_once_and_the_next_one_may_have_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = ParameterStore(make_flat(), 1)
    sharing = Sharing(RULES, store)
    try:
        agents = [HostParameters(Segment(sharing.handle), SPEC)]
        for version in range(2, SLOTS + 1):  # each of them stays with another one
            store.apply(dense(make_flat(seed=version), version))
            assert sharing.share(store) is not None
            agents.append(HostParameters(Segment(sharing.handle), SPEC))
        for version in (SLOTS + 1, SLOTS + 2):
            store.apply(dense(make_flat(seed=version), version))
            assert sharing.share(store) is None
            assert sharing.newest is None
        (record,) = caplog.records
        assert f"policy version {SLOTS + 1} goes over sockets" in record.message
        assert agents[0].apply(store.snapshot()).name == "APPLIED"
        store.apply(dense(make_flat(seed=99), 99))
        said = sharing.share(store)
        assert said is not None
        assert agents[1].apply(said).name == "APPLIED"
    finally:
        sharing.close()


def test_a_version_that_is_taken_back_is_found_by_nobody_who_begins_later() -> None:
    store = ParameterStore(make_flat(), 3)
    sharing = Sharing(RULES, store)
    try:
        agent = HostParameters(Segment(sharing.handle), SPEC)
        store.replace(make_flat(seed=1), 7)
        said = sharing.share_instead(store)
        assert said is not None
        assert agent.apply(said) is Outcome.APPLIED
        newer = agent.policy(SPEC, RULES.num_agents)
        store.replace(make_flat(), 3)
        said = sharing.share_instead(store)
        assert said is not None
        assert HostParameters(Segment(sharing.handle), SPEC).version == 3
        assert agent.apply(said) is Outcome.OLD, "nobody has said that an older one comes"
        agent.expect(3)
        assert agent.apply(said) is Outcome.APPLIED
        assert agent.version == 3
        assert agent.policy(SPEC, RULES.num_agents) is not newer
    finally:
        sharing.close()
