"""Agents that are dead in a whole window are left out where nobody asks for them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from configs.schema import AgentsConfig, GateConfig, LearnerConfig, RunConfig
from learner.experience import device_batch
from learner.experience.device_batch import Transfer
from learner.learner import Learner
from tests.learner_helpers import DIMENSIONS, array, make_config, make_episode, make_flat, make_spec

LIFETIMES = (6, 2, 0, 6, 3, 1)
SETTINGS = LearnerConfig(
    device="cpu", batch_size=3, window=4, learning_starts=1, aux="predict", gamma=0.9
)


@pytest.fixture(autouse=True)
def small_batches_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_batch, "_WORTH_LEAVING_OUT", 1)
    monkeypatch.setattr(device_batch, "_ROWS_TOGETHER", 2)


def learner_of(run: RunConfig, *, everybody: bool = False) -> Learner:
    spec = replace(make_spec(), scheme=run.comm)
    learner = Learner(run, spec, DIMENSIONS, make_flat(spec, gain=1.0))
    if everybody:
        learner._transfer = Transfer(learner.device)  # pyright: ignore[reportPrivateUsage]
    for number in range(4):
        learner.add(make_episode(number, length=6, lifetimes=LIFETIMES))
    return learner


def rows_of(learner: Learner) -> int | None:
    _, (share,) = learner._draw()  # pyright: ignore[reportPrivateUsage]
    assert share.on_device is not None
    living_R = share.on_device.living_R
    if living_R is None:
        return None
    alive_R = share.batch.alive.any(axis=0).ravel()
    assert np.isin(np.flatnonzero(alive_R), array(living_R)).all()
    return len(living_R)


@pytest.mark.parametrize(
    "run",
    [
        *(
            make_config(learner=replace(SETTINGS, algorithm=algorithm))
            for algorithm in ("iql", "vdn", "qmix")
        ),
        make_config(learner=SETTINGS, comm="full"),
        make_config(learner=SETTINGS, comm="none"),
        make_config(learner=SETTINGS, gate=GateConfig(timing="paper", price=0.1, budget=2)),
        make_config(learner=SETTINGS, gate=GateConfig(mode="open")),
    ],
    ids=["iql", "vdn", "qmix", "full", "none", "paper", "open"],
)
def test_an_update_is_the_same_without_the_dead(run: RunConfig) -> None:
    some, all_ = learner_of(run), learner_of(run, everybody=True)
    left_out = [rows_of(some) for _ in range(5)]
    assert all(rows is not None and rows < 18 for rows in left_out)
    assert rows_of(all_) is None
    some, all_ = learner_of(run), learner_of(run, everybody=True)
    for _ in range(3):
        found, expected = some.update(), all_.update()
        assert found == pytest.approx(expected, rel=1e-4)
    assert_allclose(some.parameters_flat(), all_.parameters_flat(), atol=1e-5)


@pytest.mark.parametrize(
    "run",
    [
        make_config(learner=replace(SETTINGS, dead_in_loss=True)),
        make_config(learner=SETTINGS, agents=AgentsConfig(dead="relay")),
        make_config(learner=replace(SETTINGS, algorithm="wqmix")),
    ],
    ids=["dead in the loss", "dead that relay", "an algorithm that does not say so"],
)
def test_everybody_is_computed_where_the_dead_may_matter(run: RunConfig) -> None:
    assert rows_of(learner_of(run)) is None


@pytest.mark.parametrize("comm", ["expocomm-static", "expocomm-one-peer"])
def test_a_scheme_that_does_not_say_so_is_given_everybody(comm: str) -> None:
    run = make_config(learner=replace(SETTINGS, aux="none"), comm=comm)
    assert rows_of(learner_of(run)) is not None
    some, all_ = learner_of(run), learner_of(run, everybody=True)
    for _ in range(2):
        assert some.update() == all_.update()
