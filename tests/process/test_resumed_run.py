"""A run is killed before its second checkpoint, resumed, and goes on where it stood."""

import os
import signal
from pathlib import Path

import pytest

from configs.run_files import JOURNAL
from configs.schema import RunConfig
from envs.registry import spec_of
from learner.experience.episode import Dimensions, Episode
from learner.experience.journal import Journal
from tests.process.runs import Launched, run_config, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(580)]

RELAY = ("--agents", "4", "--env", "relay", "--env-copies", "4")
WITHOUT = ("--evaluation.interval-steps", "0", "--evaluation.episodes", "0")
ONLY_DICE = ("--agents.epsilon-start", "1", "--agents.epsilon-end", "1")
KEEPS_ALL = ("--learner.journal-episodes", "100000", "--learner.checkpoint-period-s", "86400")


def journaled(folder: Path) -> list[Episode]:
    config: RunConfig = run_config("relay", 4)
    env = spec_of(config.env, 4)
    sizes = Dimensions(
        num_agents=4,
        observation_dim=env.observation_dim,
        num_actions=env.num_actions,
        state_dim=env.state_dim,
    )
    return [episode for _, episode in Journal(folder / JOURNAL, 100_000).load(sizes)]


def test_a_killed_run_keeps_its_episodes_and_does_not_play_them_again(tmp_path: Path) -> None:
    endless = ("--steps", "100000000")
    with Launched(tmp_path, *RELAY, *WITHOUT, *ONLY_DICE, *KEEPS_ALL, *endless) as run:
        episodes = f"runs/*/{JOURNAL}/*"
        wait_for("a journal", lambda: len(list(tmp_path.glob(episodes))) >= 60, 200.0)
        os.killpg(run.process.pid, signal.SIGKILL)
        wait_for("the end of all", lambda: not run.processes)
    (folder,) = tmp_path.glob("runs/*")
    before = journaled(folder)
    assert len(before) >= 60
    steps = sum(episode.length for episode in before)
    goal = str(steps + 400)
    with Launched(tmp_path, "--resume", str(folder), "--steps", goal) as run:
        assert run.finish(200.0) == 0, run.output.read_text()
        summary = run.summary()
        newest = run.newest_metrics()
    after = journaled(folder)
    kept = {episode.number for episode in before}
    assert kept <= {episode.number for episode in after}, "what was acknowledged is still there"
    assert newest["learner/replay_episodes"] == min(len(after), 2000)
    later = [episode for episode in after if episode.number not in kept]
    assert len(later) >= 60
    assert steps + 400 <= summary["env_steps"] < 2 * steps + 400, "played steps count as played"
    # All actions are dice: an agent whose stream began again would throw the same ones again.
    thrown = [episode.actions.tobytes() for episode in sorted(before, key=lambda e: e.number)]
    again = {episode.actions.tobytes() for episode in later}
    assert not again & set(thrown)
