"""An update makes the host wait for the device once, where its metrics are read.

On a CPU a counter of all that would wait (tests/host_syncs.py); on a GPU torch itself refuses.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.policy import PolicySpec, initialise
from configs.schema import AgentsConfig, GateConfig, LearnerConfig, RunConfig, SparseConfig
from learner import learner as learner_module
from learner.algorithms.vdn import Vdn
from learner.experience.part import Divisors, Part
from learner.learner import Learner
from tests.benchmarks.learner_update import make_learner as make_update
from tests.benchmarks.update_case import UpdateCase
from tests.host_syncs import HostSyncs
from tests.learner.algorithms.test_guided import Stage
from tests.learner.algorithms.test_ppo import collected, learner_of
from tests.learner_helpers import DIMENSIONS, REPLAYED, make_config, make_episode
from tests.scheme_cases import Case, learner_cases

LIFETIMES = (6, 3, 0, 6, 5, 1)
USUAL = Case("sops", "", "causal")

GATES = {
    "free": GateConfig(),
    "priced": GateConfig(price=0.1, price_loss=5.0, noise_share=0.5),
    "within a budget": GateConfig(budget=2),
    "open": GateConfig(mode="open", budget=2),
}
VARIANTS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "predicts states": lambda run: learns(run, aux="predict"),
    "contrasts messages": lambda run: learns(run, aux="contrast"),
    "looks far ahead": lambda run: learns(run, td_lambda=0.6, huber=1.0),
    "looks n steps ahead": lambda run: learns(run, n_step=3, operator="mellowmax"),
    "warms up": lambda run: learns(run, window=4, burn_in=2),
    "ends on time": lambda run: learns(run, timeout_is_terminal=True, dead_in_loss=True),
    "relays when dead": lambda run: replace(run, agents=AgentsConfig(dead="relay")),
    "holds beacons": lambda run: replace(run, network=replace(run.network, beacon_delta=0.2)),
    "is sparse": lambda run: replace(
        run, sparse=SparseConfig(method="rigl", sparsity=0.5, period=1000)
    ),
    "looks for distant episodes": lambda run: learns(run, replay_distance=0.5),
    **{
        f"has {name} gates": lambda run, gate=gate: replace(run, gate=gate)
        for name, gate in GATES.items()
    },
}


def learns(run: RunConfig, **changes: object) -> RunConfig:
    changed: LearnerConfig = replace(run.learner, **changes)  # type: ignore[arg-type]  # by name
    return replace(run, learner=changed)


def make_run(case: Case = USUAL, algorithm: str = "qmix") -> RunConfig:
    settings = LearnerConfig(
        device="cpu", algorithm=algorithm, batch_size=4, learning_starts=1, updates_per_episode=2.0
    )
    gate = GateConfig(timing=case.timing)
    run = make_config(comm=case.scheme, learner=settings, gate=gate)
    return replace(run, comm_options=case.options)


def make_learner(run: RunConfig, device: str = "cpu") -> Learner:
    spec = PolicySpec.of(
        run.network,
        DIMENSIONS.observation_dim,
        DIMENSIONS.num_actions,
        comm=run.comm,
        comm_options=run.comm_options,
    )
    flat = initialise(spec, np.random.default_rng(0))
    learner = Learner(run, spec, DIMENSIONS, flat, device)
    for number in range(6):
        learner.add(make_episode(number, lifetimes=LIFETIMES if number % 2 else None))
    return learner


def syncs_of_an_update(learner: Learner) -> list[str]:
    learner.update()  # tables that are made once
    with HostSyncs() as syncs:
        learner.update()
    return syncs.places


def assert_reads_its_metrics_and_nothing_else(places: list[str]) -> None:
    (place,) = places
    assert "learner/learner.py" in place
    assert place.endswith("gradient_of: cpu")


@pytest.mark.parametrize("algorithm", REPLAYED)
def test_an_update_of_any_algorithm_waits_for_the_device_once(algorithm: str) -> None:
    learner = make_learner(make_run(algorithm=algorithm))
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(learner))


@pytest.mark.parametrize("algorithm", ["ippo", "mappo"])  # happo also looks whose turn it is
def test_an_update_from_a_rollout_waits_for_the_device_once(algorithm: str) -> None:
    run, episodes = collected()
    learner = learner_of(run, algorithm, f"episodes={len(episodes)},epochs=2,minibatches=1")
    for episode in episodes:
        learner.add(episode)
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(learner))


@pytest.mark.parametrize("algorithm", ["sable", "mat", "magpo", "ctds"])
def test_an_update_with_a_guide_waits_for_the_device_once(algorithm: str) -> None:
    stage = Stage(algorithm, ",epochs=2")
    for episode in stage.episodes():
        stage.learner.add(episode)
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(stage.learner))


@pytest.mark.parametrize("case", learner_cases(), ids=str)
def test_an_update_of_any_scheme_waits_for_the_device_once(case: Case) -> None:
    learner = make_learner(make_run(case))
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(learner))


@pytest.mark.slow
@pytest.mark.parametrize("case", learner_cases(), ids=str)
@pytest.mark.parametrize("algorithm", REPLAYED)
def test_an_update_of_any_pair_waits_for_the_device_once(algorithm: str, case: Case) -> None:
    learner = make_learner(make_run(case, algorithm))
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(learner))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_option_adds_a_wait(variant: str) -> None:
    learner = make_learner(VARIANTS[variant](make_run()))
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(learner))


@pytest.mark.parametrize("option", ["variant=qatten", "variant=qatten,weighted_head=false"])
def test_options_of_qplex_add_no_wait(option: str) -> None:
    learner = make_learner(learns(make_run(algorithm="qplex"), options=option))
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(learner))


def test_battle_with_its_teacher_and_its_price_adds_no_wait() -> None:
    learner = make_update(UpdateCase(agents=12, batch=2, steps=6, as_trained=True))
    places = syncs_of_an_update(learner)
    assert_reads_its_metrics_and_nothing_else(places)


def test_agents_that_come_back_add_no_wait() -> None:
    learner = make_learner(make_run())
    for number in range(6):
        episode = make_episode(number)
        episode.alive[2] = False
        learner.add(episode)
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(learner))


def test_a_batch_in_several_parts_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(learner_module.AGENT_STEPS_PER_PART, "cpu", 40)
    learner = make_learner(make_run())
    assert_reads_its_metrics_and_nothing_else(syncs_of_an_update(learner))


class Looks(Vdn):
    """What must not be done: its loss is read on the host."""

    def loss(self, part: Part, divisors: Divisors):  # type: ignore[no-untyped-def]  # as its base
        loss = super().loss(part, divisors)
        if loss.total.item() < 0.0:
            raise AssertionError("a sum of squares")
        return loss


class Picks(Vdn):
    """And neither this: how many numbers are true is for the host to know."""

    def loss(self, part: Part, divisors: Divisors):  # type: ignore[no-untyped-def]  # as its base
        loss = super().loss(part, divisors)
        loss.sums["states"] = part.states[:-1][part.learns_TB].sum()
        return loss


@pytest.mark.parametrize(
    ("algorithm", "found"),
    [("Looks", "loss: aten::_local_scalar_dense"), ("Picks", "loss: aten::index by bools")],
)
def test_a_look_at_a_number_within_a_loss_is_found(algorithm: str, found: str) -> None:
    run = make_run(algorithm=f"{__name__}:{algorithm}")
    places = syncs_of_an_update(make_learner(run))
    assert [place for place in places if place.endswith(found)]
    assert len(places) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", learner_cases(), ids=str)
@pytest.mark.parametrize("algorithm", REPLAYED)
def test_torch_sees_no_wait_but_that_for_the_metrics(
    algorithm: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(make_run(case, algorithm), "cuda")
    learner.update()
    read = torch.Tensor.cpu

    def allowed(tensor: torch.Tensor) -> torch.Tensor:
        torch.cuda.set_sync_debug_mode("default")
        try:
            return read(tensor)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(torch.Tensor, "cpu", allowed)
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
