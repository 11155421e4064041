"""Everybody hears everybody: real processes over real sockets against the unroll."""

from pathlib import Path

import numpy as np
import pytest

from tests.process.runs import run_config, undecided_policy
from tests.process.test_parity import hold_against_unroll, record

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.mark.parametrize("num_agents", [6, 20])
def test_processes_do_what_the_unroll_does(num_agents: int, tmp_path: Path) -> None:
    """Six agents of which some die, and twenty whose 19 edges need the wider masks."""
    config = run_config("battle", num_agents, comm="full", env_options={"opponent": "scripted"})
    policy = undecided_policy(config)
    assert policy.spec.scheme == "full"
    episodes = record(config, policy, 2, tmp_path)
    hold_against_unroll(config, policy, episodes)
    most = max(int(np.bitwise_count(episode.columns["gates"]).max()) for episode in episodes)
    assert most == num_agents - 1
