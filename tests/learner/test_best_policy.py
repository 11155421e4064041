"""The policy of the best evaluation: which one is kept, and that a resumed run knows it."""

import logging
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

from agents.policy import load_policy
from configs.run_files import BEST_POLICY
from learner.best_policy import BestPolicy
from learner.process import make_learner
from learner.publish import Publisher
from learner.setup import LearnerSetup
from runtime.net import wire
from tests.learner_helpers import DIMENSIONS, make_config, make_flat, make_spec


def make_setup(folder: Path) -> LearnerSetup:
    return LearnerSetup(
        config=make_config(),
        dimensions=DIMENSIONS,
        initial=make_flat(make_spec()),
        initial_version=0,
        incarnation=0,
        launcher_endpoint="",
        bind_endpoint="",
        checkpoint=folder / "checkpoint.safetensors",
        resume=False,
        run_dir=folder,
        logs=folder / "logs",
    )


class Training:
    """A policy that changes, and evaluations of it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / BEST_POLICY
        setup = make_setup(folder)
        learner = make_learner(setup)
        self.publisher = Publisher(learner.parameters_flat(), "dense", 1)
        self.best = BestPolicy(setup, learner, self.publisher)

    def evaluated(self, reached: float, at: int) -> None:
        self.publisher.publish(self.publisher.flat + 1.0)
        self.best.evaluated(wire.Evaluated(at, reached))

    @property
    def kept(self) -> tuple[int, str, str]:
        policy = load_policy(self.file)
        said = policy.trained
        return policy.version, said["evaluation_reached"], said["evaluated_at"]


def test_the_best_evaluation_s_policy_is_kept_and_the_later_one_of_two_that_are_as_good(
    tmp_path: Path,
) -> None:
    training = Training(tmp_path)
    assert not training.file.exists()
    kept: list[tuple[int, str, str]] = []
    for at, reached in ((0, -2.5), (100, 0.75), (200, 0.5), (300, 0.75), (400, 0.0)):
        training.evaluated(reached, at)
        kept.append(training.kept)
    assert kept == [
        (2, "-2.5", "0"), (3, "0.75", "100"), (3, "0.75", "100"),
        (5, "0.75", "300"), (5, "0.75", "300"),
    ]  # fmt: skip


def test_what_is_kept_is_the_policy_that_agents_have(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.evaluated(1.0, 100)
    assert_array_equal(load_policy(training.file).flat, training.publisher.flat)


def test_a_learner_that_was_started_again_knows_what_is_to_be_beaten(tmp_path: Path) -> None:
    Training(tmp_path).evaluated(0.75, 100)
    again = Training(tmp_path)
    again.evaluated(0.5, 200)
    assert again.kept == (2, "0.75", "100")
    again.evaluated(0.8, 300)
    assert again.kept == (3, "0.8", "300")


def test_a_file_that_says_nothing_is_replaced_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / BEST_POLICY).write_bytes(b"half a file")
    with caplog.at_level(logging.WARNING):
        training = Training(tmp_path)
    assert BEST_POLICY in caplog.text
    training.evaluated(-9.0, 100)
    assert training.kept == (2, "-9.0", "100")


def test_a_disk_that_is_full_costs_the_file_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(tmp_path)
    blocker = tmp_path / (BEST_POLICY + ".tmp")
    blocker.mkdir()  # where the file is written before it gets its name
    training.evaluated(0.75, 100)
    assert "could not be written" in caplog.text
    blocker.rmdir()
    training.evaluated(0.5, 200)
    assert training.kept == (3, "0.5", "200"), "what was not written is not to be beaten"
