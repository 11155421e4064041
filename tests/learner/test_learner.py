from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.policy import PolicySpec, initialise, views, write_atomically
from configs.arrays import FloatArray
from configs.schema import AgentsConfig, GateConfig, LearnerConfig, RunConfig
from learner import checkpoint_file
from learner import learner as learner_module
from learner.checkpoint import load_checkpoint, save_checkpoint
from learner.checkpoint_file import CheckpointError, CheckpointProgress, read_progress
from learner.learner import Learner
from learner.ranks import shared_out
from tests.learner_helpers import (
    DIMENSIONS,
    load_part,
    make_config,
    make_episode,
    make_flat,
    make_spec,
)
from tests.scheme_cases import Case, learner_cases

LIFETIMES = (6, 3, 0, 6, 5, 1)


def make_learner(config: LearnerConfig | None = None, run: RunConfig | None = None) -> Learner:
    spec = make_spec()
    flat = make_flat(spec, gain=1.0)
    return Learner(run or make_config(learner=config), spec, DIMENSIONS, flat)


def fill(learner: Learner, count: int = 6) -> None:
    for number in range(count):
        lifetimes = LIFETIMES if number % 2 else None
        learner.add(make_episode(number, lifetimes=lifetimes, terminated=number % 3 == 0))


def settings(
    *,
    algorithm: str = "iql",
    aux: Literal["none", "predict", "contrast"] = "none",
    learning_rate: float = 5e-4,
) -> LearnerConfig:
    return LearnerConfig(
        device="cpu",
        algorithm=algorithm,
        aux=aux,
        batch_size=4,
        learning_starts=1,
        learning_rate=learning_rate,
        target_update_period=10_000,
    )


@pytest.mark.parametrize("algorithm", ["iql", "vdn", "qmix"])
@pytest.mark.parametrize("aux", ["none", "predict", "contrast"])
def test_a_fixed_batch_can_be_learnt_by_heart(
    algorithm: str, aux: Literal["none", "predict", "contrast"]
) -> None:
    learner = make_learner(settings(algorithm=algorithm, aux=aux, learning_rate=1e-2))
    fill(learner, 4)
    metrics = [learner.update() for _ in range(80)]
    assert metrics[-1]["loss"] < 0.6 * metrics[0]["loss"]
    assert all(np.isfinite(list(m.values())).all() for m in metrics)
    assert 0.0 < metrics[0]["open_fraction"] < 1.0
    assert (metrics[0]["aux_loss"] > 0.0) == (aux != "none")


def test_updates_are_owed_for_episodes_once_the_replay_holds_enough() -> None:
    config = LearnerConfig(
        device="cpu", batch_size=4, learning_starts=3, updates_per_episode=0.5, max_backlog=1
    )
    learner = make_learner(config)
    owed: list[int] = []
    for number in range(6):
        learner.add(make_episode(number))
        owed.append(learner.updates_owed)
    assert owed == [0, 0, 0, 1, 1, 2]
    learner.update()
    assert learner.updates_owed == 1
    assert (learner.progress.episodes, learner.progress.env_steps) == (6, 25)


def test_parts_of_a_batch_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients: list[list[FloatArray]] = []
    for limit in (1_000_000, 40):  # all rows at once, one at a time
        monkeypatch.setitem(learner_module.AGENT_STEPS_PER_PART, "cpu", limit)
        run = make_config(gate=GateConfig(mode="open"), learner=settings(aux="predict"))
        learner = make_learner(run=run)
        fill(learner)
        learner.compute_gradient()
        found = [p.grad.numpy().copy() for p in learner.online.parameters() if p.grad is not None]
        gradients.append(found)
    for whole, parts in zip(*gradients, strict=True):
        assert_allclose(parts, whole, rtol=1e-4, atol=1e-6)


def test_threads_that_share_a_batch_take_the_step_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "AGENT_STEPS_FOR_A_THREAD", 1)
    found: list[FloatArray] = []
    for workers in (1, 2, 2):
        run = make_config(gate=GateConfig(mode="open"), learner=settings(aux="predict"))
        learner = Learner(
            run, make_spec(), DIMENSIONS, make_flat(make_spec(), gain=1.0), workers=workers
        )
        fill(learner)
        told: list[int] = []
        for _ in range(3):
            metrics = learner.compute_gradient(lambda told=told: told.append(1))
            learner.apply_gradient(metrics)
        found.append(learner.parameters_flat())
    assert_allclose(found[1], found[0], atol=1e-5)
    assert_array_equal(found[2], found[1], err_msg="two threads come to the same numbers again")


@pytest.mark.parametrize("case", learner_cases(), ids=str)
def test_gradients_of_threads_lie_in_memory_as_their_parameters_do(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's fused Adam would take others for a weight's own, and says nothing."""
    monkeypatch.setattr(learner_module, "AGENT_STEPS_FOR_A_THREAD", 1)
    gate = GateConfig(timing=case.timing)
    run = make_config(comm=case.scheme, gate=gate, learner=settings())
    run = replace(run, comm_options=case.options)
    sizes = (DIMENSIONS.observation_dim, DIMENSIONS.num_actions)
    spec = PolicySpec.of(run.network, *sizes, comm=case.scheme, comm_options=case.options)
    flat = initialise(spec, np.random.default_rng(0))
    learner = Learner(run, spec, DIMENSIONS, flat, workers=2)
    fill(learner)
    learner.compute_gradient()
    for name, parameter in learner.online.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.stride() == parameter.stride(), name


def test_noise_of_parts_side_by_side_does_not_depend_on_who_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learner_module, "AGENT_STEPS_FOR_A_THREAD", 1)
    run = make_config(learner=settings())
    found: list[FloatArray] = []
    for _ in range(4):
        learner = Learner(run, make_spec(), DIMENSIONS, make_flat(make_spec(), gain=1.0), workers=3)
        fill(learner)
        learner.update()
        found.append(learner.parameters_flat())
    for again in found[1:]:
        assert_array_equal(again, found[0])


def test_what_the_dead_and_the_padding_hold_does_not_matter() -> None:
    metrics: list[dict[str, float]] = []
    for junk in (0.0, 7.0):
        learner = make_learner(settings())
        episode = make_episode(1, lifetimes=LIFETIMES)
        dead = ~episode.alive
        episode.rewards[dead[:-1]] = junk
        episode.observations[dead] = junk
        learner.add(episode)
        learner.add(make_episode(2, length=8))
        metrics.append(learner.update())
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-5)


def test_burn_in_masks_only_windows_that_begin_within_an_episode() -> None:
    config = replace(settings(), window=4, burn_in=3, batch_size=1)
    run = make_config(learner=config)
    learner = make_learner(run=run)
    learner.add(make_episode(1, length=12))
    steps: set[tuple[bool, int]] = set()
    for _ in range(30):
        batch = learner.replay.sample(learner.rng, 1, config.window)
        (share,) = shared_out(batch, 1, ranks=1)[0]
        part = load_part(share, learner.generator, run)
        steps.add((bool(batch.starts[0] == 0), int(part.learns_TB.sum())))
    assert steps == {(True, 4), (False, 1)}


def test_the_dead_relay_only_if_told_to() -> None:
    for dead, expected in (("silent", False), ("relay", True)):
        run = make_config(agents=AgentsConfig(dead=dead), learner=settings())  # type: ignore[arg-type]
        learner = make_learner(run=run)
        learner.add(make_episode(1, lifetimes=LIFETIMES))
        (share,) = shared_out(learner.replay.sample(learner.rng, 1), 1, ranks=1)[0]
        part = load_part(share, learner.generator, run)
        assert bool(part.alive.all()) is expected
        assert not part.agent_mask_TBN.all()


def test_the_target_is_copied_every_period() -> None:
    learner = make_learner(replace(settings(algorithm="qmix"), target_update_period=3))
    fill(learner)
    before = learner.algorithm.target_policy.to_flat()
    for _ in range(2):
        learner.update()
    assert_array_equal(learner.algorithm.target_policy.to_flat(), before)
    learner.update()
    assert_array_equal(learner.algorithm.target_policy.to_flat(), learner.parameters_flat())
    mixer, target = learner.online["mixer"], learner.target["mixer"]
    for ours, theirs in zip(mixer.parameters(), target.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_batch_that_is_not_finite_changes_nothing() -> None:
    learner = make_learner(settings())
    episode = make_episode(1)
    episode.rewards[2, 3] = np.float32(3e38)  # its square overflows
    learner.add(episode)
    before = learner.parameters_flat()
    learner.update()
    assert_array_equal(learner.parameters_flat(), before)
    assert (learner.progress.skipped_steps, learner.progress.gradient_steps) == (1, 1)


def test_temperature_falls_with_environment_steps() -> None:
    run = make_config(gate=GateConfig(temperature_steps=100))
    learner = make_learner(run=run)
    assert learner.schedules.temperature == 1.0
    learner.add(make_episode(10))  # 50 steps
    assert learner.schedules.temperature == pytest.approx(0.65)


def test_agents_that_never_speak_do_not_train_their_gate() -> None:
    learner = make_learner(run=make_config(comm="none", learner=settings()))
    fill(learner)
    before = views(make_spec(), learner.parameters_flat())
    learner.update()
    after = views(make_spec(), learner.parameters_flat())
    for name, tensor in after.items():
        unused = name.split(".")[0] in ("query", "key", "beacon", "edge") or "scorer" in name
        assert np.array_equal(tensor, before[name]) is unused, name


@pytest.mark.parametrize("aux", ["predict", "contrast"])
@pytest.mark.parametrize("algorithm", ["iql", "qmix"])
def test_a_resumed_learner_takes_the_steps_the_old_one_would_have_taken(
    algorithm: str, aux: Literal["predict", "contrast"], tmp_path: Path
) -> None:
    config = replace(settings(algorithm=algorithm, aux=aux), target_update_period=4)
    path = tmp_path / "checkpoint.safetensors"
    old = make_learner(config)
    fill(old)
    for _ in range(3):
        old.update()
    save_checkpoint(path, old, version=17, config="seed: 0\n")
    assert read_progress(path) == CheckpointProgress(
        env_steps=25, episodes=6, updates=3, version=17
    )
    fresh = make_learner(config)
    fill(fresh)
    assert load_checkpoint(path, fresh).version == 17
    for _ in range(3):
        expected, found = old.update(), fresh.update()
        assert found == expected
    assert_array_equal(fresh.parameters_flat(), old.parameters_flat())
    assert_array_equal(
        fresh.algorithm.target_policy.to_flat(), old.algorithm.target_policy.to_flat()
    )


def test_a_batch_that_was_drawn_ahead_is_drawn_again_after_a_restart(tmp_path: Path) -> None:
    config = replace(settings(), prefetch="on", updates_per_episode=4.0)
    path = tmp_path / "checkpoint.safetensors"
    old, fresh = make_learner(config), make_learner(config)
    for learner in (old, fresh):
        fill(learner)
    for _ in range(3):
        old.update()
    assert old.updates_owed > 1, "the next batch has been drawn"
    save_checkpoint(path, old, version=1, config="")
    load_checkpoint(path, fresh)
    for _ in range(3):
        assert fresh.update() == old.update()


def test_a_restored_learner_charges_for_open_edges_what_the_old_one_would(tmp_path: Path) -> None:
    gate = GateConfig(price=0.05, price_start=0, price_loss=2.0, noise_share=0.5)
    run = make_config(learner=settings(), gate=gate)
    path = tmp_path / "checkpoint.safetensors"
    old, fresh = make_learner(run=run), make_learner(run=run)
    for learner in (old, fresh):
        fill(learner)
    for _ in range(3):
        old.update()
    assert old.schedules.price > 0.0
    save_checkpoint(path, old, version=1, config="")
    load_checkpoint(path, fresh)
    assert fresh.schedules.price == old.schedules.price
    for _ in range(3):
        assert fresh.update() == old.update()


def test_a_checkpoint_from_before_the_first_step_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    old, fresh = make_learner(settings()), make_learner(settings())
    save_checkpoint(path, old, version=1, config="")
    load_checkpoint(path, fresh)
    for learner in (old, fresh):
        fill(learner)
        learner.update()
    assert_array_equal(fresh.parameters_flat(), old.parameters_flat())


def test_layers_that_never_learn_do_not_keep_a_learner_from_being_resumed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    run = make_config(comm="none", learner=settings())
    old, fresh = make_learner(run=run), make_learner(run=run)
    for learner in (old, fresh):
        fill(learner)
    old.update()
    save_checkpoint(path, old, version=1, config="")
    load_checkpoint(path, fresh)
    assert fresh.update() == old.update()
    assert_array_equal(fresh.parameters_flat(), old.parameters_flat())


def test_a_checkpoint_of_another_learner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, make_learner(settings(algorithm="qmix")), version=1, config="")
    with pytest.raises(CheckpointError, match="another learner"):
        load_checkpoint(path, make_learner(settings()))


def test_a_damaged_or_missing_checkpoint_says_so(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_progress(path)
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path, make_learner(settings()))


def test_a_crash_while_writing_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    learner = make_learner(settings())
    save_checkpoint(path, learner, version=1, config="")

    def crash(target: Path, content: bytes) -> None:
        assert target == path
        target.with_name(target.name + ".tmp").write_bytes(content[: len(content) // 2])
        raise KeyboardInterrupt  # what kill -9 looks like from here

    assert checkpoint_file.write_atomically is write_atomically
    monkeypatch.setattr(checkpoint_file, "write_atomically", crash)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, learner, version=2, config="")
    assert read_progress(path).version == 1
