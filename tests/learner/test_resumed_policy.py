"""A resumed run begins with its own policy, and with all the steps that were played."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.policy import PolicyFile, PolicySpec, load_policy, save_policy
from configs.arrays import FloatArray
from configs.load import ConfigError, dump_run_config, load_run_config, parse_run_config
from configs.run_files import JOURNAL, POLICY, RESOLVED
from configs.schema import EnvName, LearnerConfig, RunConfig
from envs.registry import spec_of
from learner.checkpoint import save_checkpoint
from learner.checkpoint_file import CheckpointError, read_checkpoint
from learner.experience.episode import Dimensions
from learner.experience.journal import Journal, steps_played
from learner.learner import Learner
from learner.resumed_policy import resumed_policy
from runtime.launch import CHECKPOINT, make_plan
from runtime.net.errors import SetupError
from tests.learner_helpers import make_episode
from tests.process.runs import run_config, undecided_policy

VERSION = 7


@dataclass(frozen=True)
class Stopped:
    """A run that was interrupted between two published versions."""

    folder: Path
    config: RunConfig
    spec: PolicySpec
    published: FloatArray
    """What agents had under VERSION."""
    trained: FloatArray
    """What the checkpoint holds, some updates later."""


def stop(
    path: Path,
    name: EnvName,
    agents: int,
    env_steps: int,
    comm: str = "sops",
    comm_options: str = "",
) -> Stopped:
    policy, runs = path / "begun-with.safetensors", path / "runs"
    config = run_config(
        name, agents, steps=800, policy=str(policy), comm=comm, comm_options=comm_options
    )
    config = replace(
        config,
        network=replace(config.network, hidden=8, message=6),
        runtime=replace(config.runtime, runs_dir=str(runs)),
    )
    first = undecided_policy(config)
    trained, published = first.flat + np.float32(0.5), first.flat + np.float32(0.25)
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / RESOLVED).write_text(dump_run_config(config))
    env = spec_of(config.env, agents)
    sizes = Dimensions(
        num_agents=agents,
        observation_dim=env.observation_dim,
        num_actions=env.num_actions,
        state_dim=env.state_dim,
    )
    learner = Learner(
        replace(config, learner=LearnerConfig(device="cpu")), first.spec, sizes, trained
    )
    learner.progress.env_steps = env_steps
    save_checkpoint(folder / CHECKPOINT, learner, VERSION, dump_run_config(config))
    save_policy(folder / POLICY, PolicyFile(first.spec, published, VERSION, {}))
    return Stopped(folder, config, first.spec, published, trained)


@pytest.fixture
def stopped(tmp_path: Path) -> Stopped:
    return stop(tmp_path, "relay", 4, env_steps=400)


def resumed(stopped: Stopped, *flags: str) -> RunConfig:
    return load_run_config(["--resume", str(stopped.folder), *flags])


def test_a_resumed_run_begins_with_its_policy_though_the_file_it_began_with_is_gone(
    stopped: Stopped,
) -> None:
    assert not Path(stopped.config.policy).exists()
    plan = make_plan(resumed(stopped))
    assert plan.version == VERSION
    assert_array_equal(plan.parameters, stopped.published)
    assert plan.played_before.env_steps == 400


def test_every_resume_is_another_life_which_the_folder_remembers(stopped: Stopped) -> None:
    for life in (1, 2, 3):
        assert make_plan(resumed(stopped)).config.life == life
        kept = (stopped.folder / RESOLVED).read_text()
        assert parse_run_config(kept).life == life
    assert "life" not in kept.replace("\nlife: 3\n", "")


def test_a_run_that_ray_has_no_hosts_for_stays_as_it_was(stopped: Stopped) -> None:
    before = (stopped.folder / RESOLVED).read_text()
    by_ray = ("--placer", "ray", "--hosts-count", "2", "--ray-address", "nowhere")
    with pytest.raises(SetupError, match="--ray-address nowhere"):
        make_plan(resumed(stopped, *by_ray))
    assert (stopped.folder / RESOLVED).read_text() == before


@pytest.mark.parametrize(
    ("options", "asked", "others"),
    [
        ("neighbours=true", "neighbours=false", "their neighbours of each step"),
        ("", "neighbours=true", "everybody"),
    ],
)
def test_agents_go_on_with_those_they_have_exchanged_with(
    tmp_path: Path, options: str, asked: str, others: str
) -> None:
    """The journal's masks of edges would stand for other agents, whatever the network."""
    stopped = stop(tmp_path, "gather", 4, env_steps=400, comm="full", comm_options=options)
    assert make_plan(resumed(stopped)).played_before.env_steps == 400
    with pytest.raises(SetupError, match=f"agents exchange with {others}: leave it out"):
        make_plan(resumed(stopped, "--comm.options", asked))
    assert make_plan(resumed(stopped)).config.comm_options == options


def test_a_new_run_cannot_begin_in_a_later_life(stopped: Stopped, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("env: {name: relay}\nlife: 2\n")
    with pytest.raises(ConfigError, match="life counts how often a run was resumed: leave it out"):
        load_run_config(["--config", str(path)])
    with pytest.raises(ConfigError, match="--life"):
        resumed(stopped, "--life", "5")


@pytest.mark.parametrize("harm", ["missing", "damaged", "older", "smaller"])
def test_a_checkpoint_alone_is_enough(stopped: Stopped, harm: str) -> None:
    path = stopped.folder / POLICY
    match harm:
        case "missing":
            path.unlink()
        case "damaged":
            content = bytearray(path.read_bytes())
            content[-100:] = bytes(100)
            path.write_bytes(content)
        case "older":  # a power cut between the two files
            save_policy(path, PolicyFile(stopped.spec, stopped.published, VERSION - 1, {}))
        case _:
            small = replace(stopped.spec, hidden=4)
            flat = np.zeros(small.size, dtype=np.float32)
            save_policy(path, PolicyFile(small, flat, VERSION, {}))
    plan = make_plan(resumed(stopped))
    assert plan.version == VERSION
    assert_array_equal(plan.parameters, stopped.trained)


def test_a_checkpoint_of_another_network_is_refused(stopped: Stopped) -> None:
    (stopped.folder / POLICY).unlink()
    content = read_checkpoint(stopped.folder / CHECKPOINT)
    with pytest.raises(CheckpointError, match=r"policy encoder.weight is of shape \(8, 6\)"):
        resumed_policy(stopped.folder, content, replace(stopped.spec, hidden=9))


def test_another_policy_for_a_resumed_run_is_refused(stopped: Stopped) -> None:
    with pytest.raises(ConfigError, match="--policy shipped cannot be combined with --resume"):
        resumed(stopped, "--policy", "shipped")


def test_a_teacher_may_be_gone_when_its_time_is_over_and_not_before(tmp_path: Path) -> None:
    for taught_for, stays in ((400, 0.0), (401, 0.0), (400, 0.25)):
        folder = tmp_path / f"{taught_for}-{stays}"
        folder.mkdir()
        stopped = stop(folder, "battle", 6, env_steps=400)
        learner = replace(
            stopped.config.learner,
            teacher="gone",
            teacher_steps=taught_for,
            teacher_coef_end=stays,
        )
        config = replace(stopped.config, learner=learner)
        (stopped.folder / RESOLVED).write_text(dump_run_config(config))
        if taught_for <= 400 and not stays:
            assert make_plan(resumed(stopped)).config.learner.teacher == ""
        else:
            with pytest.raises(SetupError, match="gone"):
                make_plan(resumed(stopped))


def test_steps_that_were_acknowledged_after_the_checkpoint_count_as_played(
    stopped: Stopped,
) -> None:
    journal = Journal(stopped.folder / JOURNAL, 100)
    for number in (90, 100, 120):
        journal.append(number, make_episode(number, length=5))
    torn = stopped.folder / JOURNAL / "0000000121-0000000121.episode"
    torn.write_bytes(b"MURMJRN1 and no more")
    assert steps_played(stopped.folder / JOURNAL) == 600
    plan = make_plan(resumed(stopped))
    assert plan.played_before.env_steps == 600
    assert plan.played_before.episodes > 121
    # All steps are played, and the learner still owes its updates for them.
    assert make_plan(resumed(stopped, "--steps", "500")).played_before.env_steps == 600
    with pytest.raises(SetupError, match="has already done 400 of 400 steps"):
        make_plan(resumed(stopped, "--steps", "400"))


def test_the_folders_policy_is_not_touched_by_planning(stopped: Stopped) -> None:
    make_plan(resumed(stopped))
    assert_array_equal(load_policy(stopped.folder / POLICY).flat, stopped.published)
