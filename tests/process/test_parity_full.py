"""Everybody hears everybody: real processes over real sockets against the unroll."""

from pathlib import Path

import pytest

from runtime.net.topology import complete
from tests.process.runs import run_config, undecided_policy
from tests.process.test_parity import hold_against_unroll, record

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.mark.parametrize("num_agents", [6, 20, pytest.param(70, marks=pytest.mark.slow)])
def test_processes_do_what_the_unroll_does(num_agents: int, tmp_path: Path) -> None:
    """Six agents of which some die; and twenty and seventy, whose masks need 64 bits and more."""
    config = run_config("battle", num_agents, comm="full", env_options={"opponent": "scripted"})
    policy = undecided_policy(config)
    assert policy.spec.scheme == "full"
    episodes = record(config, policy, 2, tmp_path)
    hold_against_unroll(config, policy, episodes)
    bits = complete(num_agents).edge_bits
    opened = [bits.unpack(episode.columns["gates"]) for episode in episodes]
    assert max(int(open_TNK.sum(axis=-1).max()) for open_TNK in opened) == num_agents - 1
