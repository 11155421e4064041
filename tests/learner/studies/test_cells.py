"""A cell says itself how far it is, whose it is, and what it was begun with."""

import dataclasses
import json
from pathlib import Path

import pytest

from configs.load import ConfigError, dump_run_config, load_run_config
from configs.run_files import CHECKPOINT, RESOLVED
from configs.schema import EnvConfig, RunConfig
from learner.checkpoint_file import CheckpointContent, CheckpointProgress, write_checkpoint
from learner.studies.cells import Cell, Evaluation, State, Wanted, folder_name

STEPS = 1000
ALONE = Evaluation()


def begin(cell: Cell, env_steps: int, run: str = "20260101-000000-relay") -> Path:
    """A run that has come so far."""
    folder = cell.folder / "runs" / run
    folder.mkdir(parents=True)
    progress = CheckpointProgress(env_steps=env_steps, episodes=1, updates=1, version=1)
    write_checkpoint(folder / CHECKPOINT, CheckpointContent(progress, {}, {}, ""))
    return folder


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return Cell(tmp_path / "relay-8-sops-00000000" / "seed-5")


def test_a_cell_is_as_far_as_its_files_say(cell: Cell) -> None:
    def standing(episodes: int = 100, steps: int = STEPS) -> tuple[State, int]:
        found = cell.standing(Wanted(steps, (ALONE,), episodes))
        return found.state, found.env_steps

    assert cell.seed == 5
    assert standing() == (State.MISSING, 0)
    died_at_once = cell.folder / "runs" / "20260101-000000-relay"
    died_at_once.mkdir(parents=True)
    assert standing() == (State.MISSING, 0)
    (died_at_once / CHECKPOINT).write_bytes(b"half a checkpoint")
    assert standing() == (State.MISSING, 0)

    run = begin(cell, 400, "20260101-000001-relay")
    (run / "summary.json").write_text(json.dumps({"exit_reason": "interrupted"}))
    assert standing() == (State.HALF_DONE, 400)
    assert cell.run() == run
    # Interrupted within its last evaluation: the steps are done.
    assert standing(steps=400) == (State.TRAINED, 400)
    (run / "summary.json").write_text(json.dumps({"exit_reason": "finished"}))
    assert standing() == (State.TRAINED, 400)

    cell.evaluation_path(ALONE).write_text(json.dumps({"evaluation_episodes": 50}))
    assert standing(episodes=50) == (State.DONE, 400)
    assert standing(episodes=51) == (State.TRAINED, 400), "fewer episodes than are asked for"


def test_every_size_and_opponent_must_have_been_met(cell: Cell) -> None:
    begin(cell, STEPS)
    each = (Evaluation(None, "idqn"), Evaluation(64, "idqn"), Evaluation(64))
    wanted = Wanted(STEPS, each)
    for evaluation in each:
        assert cell.standing(wanted).state is State.TRAINED
        cell.keep_evaluation(evaluation, b'{"evaluation_episodes": 100}', simulated=False)
    assert cell.standing(wanted).state is State.DONE
    assert sorted(path.name for path in cell.folder.glob("evaluation*")) == [
        "evaluation-at-64-idqn.json",
        "evaluation-at-64.json",
        "evaluation-idqn.json",
    ]


def test_a_simulated_evaluation_does_where_no_bytes_are_asked_for(cell: Cell) -> None:
    begin(cell, STEPS)
    cell.keep_evaluation(ALONE, b'{"evaluation_episodes": 100}', simulated=True)
    assert cell.standing(Wanted(STEPS, (ALONE,))).state is State.TRAINED
    assert cell.standing(Wanted(STEPS, (ALONE,), simulate=True)).state is State.DONE


def test_an_evaluation_is_of_the_run_that_lies_there(cell: Cell) -> None:
    begin(cell, STEPS)
    cell.keep_evaluation(ALONE, b'{"evaluation_episodes": 100}', simulated=False)
    assert cell.standing(Wanted(STEPS, (ALONE,))).state is State.DONE
    begin(cell, STEPS, "20260202-000000-relay")
    assert cell.standing(Wanted(STEPS, (ALONE,))).state is State.TRAINED


def test_memory_is_the_largest_of_all_sittings(cell: Cell) -> None:
    assert cell.memory() == {}
    cell.folder.mkdir(parents=True)
    cell.keep_memory({"processes": 10.0, "pss_mb": 300.0, "learner_rss_mb": 200.0})
    cell.keep_memory({"processes": 9.0, "learner_rss_mb": 250.0})
    assert cell.memory() == {"processes": 10.0, "learner_rss_mb": 250.0}, "a sum that nobody knows"


def test_what_was_begun_with_other_settings_is_not_gone_on_with(cell: Cell) -> None:
    wanted = load_run_config(("--env", "relay", "--agents", "4", "--steps", "800"))
    resumed = dataclasses.replace(wanted, life=2)
    (begin(cell, 100) / RESOLVED).write_text(dump_run_config(resumed))
    cell.require(wanted)
    learner, runtime = wanted.learner, wanted.runtime
    elsewhere = dataclasses.replace(wanted, learner=dataclasses.replace(learner, device="cpu"))
    cell.require(dataclasses.replace(elsewhere, runtime=dataclasses.replace(runtime, serial=True)))
    for other, name in (
        (dataclasses.replace(wanted, steps=900), "steps"),
        (dataclasses.replace(wanted, num_agents=8), "num_agents"),
        (dataclasses.replace(wanted, learner=dataclasses.replace(learner, gamma=0.5)), "learner."),
    ):
        with pytest.raises(ConfigError, match=f"was begun with other {name}"):
            cell.require(other)


def test_the_same_result_has_the_same_folder_and_another_one_has_not() -> None:
    def name(*words: str) -> str:
        return folder_name(load_run_config(("--env", "relay", "--agents", "4", *words)))

    assert name().startswith("relay-4-sops-")
    assert name("--serial", "--device", "cpu", "--learner.threads", "1", "--seed", "3") == name()
    assert name("--gate.budget", "0") == name(), "which it is anyway"
    assert len({name(), name("--gate.budget", "1"), name("--steps", "900")}) == 3
    # A name that later versions would not find again would orphan trainings of days.
    bare = RunConfig(num_agents=4, steps=900, comm="none", env=EnvConfig(name="relay"))
    assert folder_name(bare) == "relay-4-none-4f9ab510"


def test_a_cell_that_somebody_works_on_is_taken(cell: Cell) -> None:
    with cell.locked() as first:
        assert first is not None
        with cell.locked() as second:
            assert second is None
    with cell.locked() as third:
        assert third is not None


def test_seconds_of_all_sittings_count(cell: Cell) -> None:
    assert cell.seconds() is None
    run = begin(cell, 10)
    times = [1.0, 5.0, 40.0, 2.0, 3.5, 0.25]
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({"t_s": t_s, "env_steps": 7}) + "\n" for t_s in times)
    )
    assert cell.seconds() == 40.0 + 3.5 + 0.25
    assert cell.progress() == 7


def test_damaged_files_are_named_or_done_without(cell: Cell) -> None:
    run = begin(cell, STEPS)
    log = run / "metrics.jsonl"
    log.write_text('{"t_s": 1.0, "env_steps": 7}\n{"t_s": 3.0, "env_st')
    assert (cell.seconds(), cell.progress()) == (1.0, 7)
    (run / "summary.json").write_text('{"exit_reason": "fin')
    with pytest.raises(ConfigError, match=r"summary\.json is damaged .* remove it"):
        cell.summary()
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: No such file"):
        cell.require(load_run_config(("--env", "relay")))


def test_a_damaged_line_in_the_middle_of_a_cells_log_is_named(cell: Cell) -> None:
    log = begin(cell, STEPS) / "metrics.jsonl"
    log.write_text(
        '{"t_s": 1.0, "env_st{"t_s": 0.5, "env_steps": 3}\n{"t_s": 1.5, "env_steps": 7}\n'
    )
    with pytest.raises(ConfigError, match=r"metrics\.jsonl, line 1 is damaged"):
        cell.seconds()
    assert cell.progress() == 7, "which the newest line says"
