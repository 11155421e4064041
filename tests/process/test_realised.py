"""The graphs that studies look at are those of real processes, edge by edge."""

from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, load_policy
from configs.schema import RunConfig
from configs.shipped import policy_path
from learner.experience.episode import Episode
from learner.studies.diagnostics.realised import realise
from runtime.evaluate import play
from tests.process.runs import SilentView, run_config

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

EPISODES = 3


def recorded(config: RunConfig, policy: PolicyFile, folder: Path) -> list[Episode]:
    folder.mkdir()
    end, run = play(config, policy, EPISODES, folder, SilentView(), record=True)
    assert end.exit_code == 0, end.reason
    assert run.recorder is not None
    return sorted(run.recorder.episodes, key=lambda episode: episode.number)


def test_edges_of_a_simulation_are_those_that_real_agents_record(tmp_path: Path) -> None:
    """A fight with deaths, in two copies of which one takes a second episode."""
    config = run_config(
        "battle",
        8,
        copies=2,
        env_options={
            "opponent": "scripted",
            "evaluation_opponent": "",
            "max_cycles": 60,
        },
    )
    policy = load_policy(policy_path("shipped", "battle"))
    realised = realise(config, policy, EPISODES)
    played = recorded(config, policy, tmp_path / "run")
    assert len(played) == len(realised.episodes) == EPISODES
    for real, simulated in zip(played, realised.episodes, strict=True):
        opened_TNK = real.columns["gates"][..., None] >> np.arange(len(realised.offsets)) & 1 != 0
        np.testing.assert_array_equal(simulated.alive_TN, real.alive[:-1])
        np.testing.assert_array_equal(simulated.open_TNK, opened_TNK)
    assert sum(int(e.open_TNK.sum()) for e in realised.episodes) > 0
    assert any(not e.alive_TN.all() for e in realised.episodes)
