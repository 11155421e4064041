"""Updates that are recorded and replayed are the updates that run step by step, to the bit.

A GPU's recorder is a CUDA graph; here it is a tape (tests/learner/tape.py) that repeats what such a
graph repeats. What only a GPU can show has the marker `gpu`.
"""

import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.policy import PolicySpec, initialise
from configs.schema import GateConfig, LearnerConfig, RunConfig, SparseConfig
from learner.algorithms.base import Loss
from learner.algorithms.vdn import Vdn
from learner.captured import MOST
from learner.cuda_graph import outsiders
from learner.experience.part import Divisors, Part
from learner.learner import Learner
from tests.learner.tape import TapeRecorder
from tests.learner_helpers import DIMENSIONS, REPLAYED, make_config, make_episode
from tests.scheme_cases import Case, learner_cases

LIFETIMES = (6, 3, 0, 6, 5, 1)
USUAL = Case("sops", "", "causal")
EPISODES = 8

VARIANTS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "predicts states": lambda run: learns(run, aux="predict"),
    "contrasts messages": lambda run: learns(run, aux="contrast"),
    "warms up": lambda run: learns(run, burn_in=2),
    "begins to look far ahead": lambda run: learns(run, td_lambda=0.6, td_lambda_start=25),
    "is sparse": lambda run: replace(
        run, sparse=SparseConfig(method="rigl", sparsity=0.5, period=2)
    ),
}


def learns(run: RunConfig, **changes: object) -> RunConfig:
    changed: LearnerConfig = replace(run.learner, **changes)  # type: ignore[arg-type]  # by name
    return replace(run, learner=changed)


def make_run(case: Case = USUAL, algorithm: str = "qmix") -> RunConfig:
    """Temperature and price move with each episode."""
    settings = LearnerConfig(
        cuda_graph="on",
        algorithm=algorithm,
        batch_size=4,
        learning_starts=4,
        window=4,
        target_update_period=2,
        grad_clip=0.5,
        learning_rate=1e-2,
        reward_scale=0.3,
    )
    gate = GateConfig(
        timing=case.timing, temperature_steps=100, price=0.2, price_start=20, price_steps=30,
        noise_share=0.5, price_loss=1000.0,
    )  # fmt: skip
    run = make_config(comm=case.scheme, learner=settings, gate=gate)
    return replace(run, comm_options=case.options)


def make_learner(run: RunConfig, recorder: TapeRecorder | None = None) -> Learner:
    spec = PolicySpec.of(
        run.network,
        DIMENSIONS.observation_dim,
        DIMENSIONS.num_actions,
        comm=run.comm,
        comm_options=run.comm_options,
    )
    flat = initialise(spec, np.random.default_rng(0)) * np.float32(2.0)
    return Learner(run, spec, DIMENSIONS, flat, "cpu", recorder=recorder)


def train(learner: Learner, **episodes: Any) -> list[dict[str, float]]:
    """An update after each episode, once there are enough."""
    metrics: list[dict[str, float]] = []
    for number in range(1, EPISODES + 1):
        lifetimes = LIFETIMES if number % 2 else None
        learner.add(make_episode(number, lifetimes=lifetimes, **episodes))
        while learner.updates_owed:
            metrics.append(learner.update())
    return metrics


def assert_the_same(run: RunConfig) -> TapeRecorder:
    plain, recorder = make_learner(learns(run, cuda_graph="off")), TapeRecorder()
    captured = make_learner(run, recorder)
    expected, found = train(plain), train(captured)
    assert found == expected
    assert_array_equal(captured.parameters_flat(), plain.parameters_flat())
    assert recorder.replayed > 0
    return recorder


@pytest.mark.parametrize("algorithm", REPLAYED)
def test_replayed_updates_of_any_algorithm_are_the_plain_ones(algorithm: str) -> None:
    recorder = assert_the_same(make_run(algorithm=algorithm))
    assert (recorder.recorded, recorder.replayed) == (1, 3)


@pytest.mark.parametrize("case", learner_cases(), ids=str)
def test_replayed_updates_of_any_scheme_are_the_plain_ones(case: Case) -> None:
    assert_the_same(make_run(case))


@pytest.mark.parametrize("variant", VARIANTS)
def test_replayed_updates_with_any_option_are_the_plain_ones(variant: str) -> None:
    assert_the_same(VARIANTS[variant](make_run()))


@pytest.mark.slow
@pytest.mark.parametrize("case", learner_cases(), ids=str)
@pytest.mark.parametrize("algorithm", REPLAYED)
def test_replayed_updates_of_any_pair_are_the_plain_ones(algorithm: str, case: Case) -> None:
    assert_the_same(make_run(case, algorithm))


class ReadsANumber(Vdn):
    """What must not be done: a value of a schedule goes into the loss as a number."""

    recordable = True

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        loss = super().loss(part, divisors)
        return Loss(loss.total * self.schedules.temperature, loss.sums)


class Looks(Vdn):
    """And neither this."""

    recordable = True

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        loss = super().loss(part, divisors)
        if loss.total.item() < 0.0:
            raise AssertionError("a sum of squares")
        return loss


class SaysNothing(Vdn):
    """A subclass of a recordable one."""


def test_a_number_that_stays_what_it_was_is_found() -> None:
    with pytest.raises(AssertionError):
        assert_the_same(make_run(algorithm=f"{__name__}:ReadsANumber"))


def test_an_update_that_cannot_be_recorded_runs_step_by_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, recorder = make_run(algorithm=f"{__name__}:Looks"), TapeRecorder()
    expected = train(make_learner(learns(run, cuda_graph="off")))
    assert train(make_learner(run, recorder)) == expected
    assert recorder.replayed == 0
    (line,) = caplog.messages
    assert "updates run step by step" in line
    assert "aten::_local_scalar_dense" in line


def test_shapes_that_do_not_come_again_are_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    run, recorder = replace(make_run(), gate=GateConfig()), TapeRecorder()
    learner = make_learner(learns(run, window=0, batch_size=1, learning_starts=1), recorder)
    for number in range(1, 6):
        learner.replay.drop_oldest(len(learner.replay))
        learner.add(make_episode(number, length=3 + number))
        learner.update()
    assert recorder.recorded == 0
    assert not caplog.messages


def test_no_more_shapes_are_recorded_than_there_is_room_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, recorder = replace(make_run(), gate=GateConfig()), TapeRecorder()
    learner = make_learner(learns(run, window=0, batch_size=1, learning_starts=1), recorder)
    for number in range(MOST + 3):
        learner.replay.drop_oldest(len(learner.replay))
        learner.add(make_episode(number, length=3 + number))
        for _ in range(3):
            learner.update()
    assert (recorder.recorded, recorder.replayed) == (MOST, 2 * MOST)
    (line,) = caplog.messages
    assert f"{MOST} shapes are recorded" in line


def test_agents_that_come_back_are_another_recording() -> None:
    run, recorder = replace(make_run(), gate=GateConfig()), TapeRecorder()
    learner = make_learner(learns(run, batch_size=1, learning_starts=1), recorder)
    for reborn in (False, True, False, True):
        learner.replay.drop_oldest(len(learner.replay))
        episode = make_episode(1, length=4)
        episode.alive[2, 0] = not reborn
        learner.add(episode)
        learner.update()
    assert recorder.recorded == 2


def test_noise_that_begins_anew_is_recorded_anew() -> None:
    run, recorder = make_run(), TapeRecorder()
    plain, captured = make_learner(learns(run, cuda_graph="off")), make_learner(run, recorder)
    for learner in (plain, captured):
        train(learner)
        learner.reseed()
    assert train(captured) == train(plain)


@pytest.mark.parametrize("algorithm", ["SaysNothing", "qmix"])
def test_what_speaks_against_recording_is_said_once(
    algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = algorithm if algorithm == "qmix" else f"{__name__}:{algorithm}"
    learner = make_learner(make_run(algorithm=name))
    assert len(train(learner)) == EPISODES - 3
    (line,) = caplog.messages
    assert line == "learner.cuda_graph on: updates run step by step: the learner is on the cpu"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cpu"}, "learner.cuda_graph on needs a GPU"),
        ({"ranks": 2}, "give learner.ranks 1 or learner.cuda_graph off, got 2 ranks"),
    ],
)
def test_what_cannot_go_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnerConfig(cuda_graph="on", **settings)


def test_tensors_from_outside_are_kept() -> None:
    table, made = torch.arange(3.0), list[weakref.ref[torch.Tensor]]()

    def work() -> torch.Tensor:
        doubled = table * 2.0
        made.append(weakref.ref(doubled))
        return doubled[:2] + table[1:]

    (kept,) = outsiders(work)
    assert kept.untyped_storage().data_ptr() == table.untyped_storage().data_ptr()
    gc.collect()
    assert made[0]() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", learner_cases(), ids=str)
@pytest.mark.parametrize("algorithm", REPLAYED)
def test_a_graph_s_updates_are_those_that_run_step_by_step(
    algorithm: str, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[tuple[list[dict[str, float]], Any]] = []
    for cuda_graph in ("off", "on"):
        run = learns(make_run(case, algorithm), cuda_graph=cuda_graph)
        spec = PolicySpec.of(
            run.network, DIMENSIONS.observation_dim, DIMENSIONS.num_actions,
            comm=run.comm, comm_options=run.comm_options,
        )  # fmt: skip
        flat = initialise(spec, np.random.default_rng(0)) * np.float32(2.0)
        learner = Learner(run, spec, DIMENSIONS, flat, "cuda")
        with caplog.at_level(logging.WARNING):
            found.append((train(learner), learner.parameters_flat()))
    assert not caplog.messages
    (expected, parameters), (metrics, replayed) = found
    for before, after in zip(expected, metrics, strict=True):
        assert after == pytest.approx(before, rel=1e-4, abs=1e-5)
    assert_allclose(replayed, parameters, atol=1e-4)
