"""Masks in the learner: gradients, moments, evolution, targets, checkpoints, what is published."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from agents.policy import views
from configs.schema import LearnerConfig, RunConfig, SparseConfig, SparseLayer
from learner.checkpoint import load_checkpoint, save_checkpoint
from learner.learner import Learner
from learner.sparse.layers import GROUPS
from learner.sparse.topology import Topology
from tests.learner_helpers import DIMENSIONS, make_config, make_episode, make_flat, make_spec

Method = Literal["static", "set", "rigl"]
LIFETIMES = (6, 3, 0, 6, 5, 1)
WAYS: tuple[Literal["dense", "scaled"], ...] = ("dense", "scaled")
RIGL = SparseConfig(method="rigl", sparsity=0.8, period=2)


def make_run(
    sparse: SparseConfig = RIGL,
    *,
    algorithm: str = "qmix",
    target_update_period: int = 3,
    target_rate: float = 1.0,
) -> RunConfig:
    learner = LearnerConfig(
        device="cpu",
        algorithm=algorithm,
        aux="predict",
        batch_size=4,
        learning_starts=1,
        learning_rate=1e-2,
        target_update_period=target_update_period,
        target_rate=target_rate,
    )
    return replace(make_config(learner=learner), sparse=sparse)


def make_learner(run: RunConfig | None = None) -> Learner:
    spec = make_spec()
    learner = Learner(run or make_run(), spec, DIMENSIONS, make_flat(spec, gain=1.0))
    for number in range(6):
        learner.add(make_episode(number, lifetimes=LIFETIMES if number % 2 else None))
    return learner


def topology(learner: Learner) -> Topology:
    assert learner.topology is not None
    return learner.topology


def array(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().numpy().copy()


def masks(learner: Learner) -> dict[str, NDArray[np.bool_]]:
    return {name: array(mask) for name, mask in topology(learner).masks.items()}


def assert_nothing_exists_outside_the_masks(
    learner: Learner, stepped_with: dict[str, NDArray[np.bool_]]
) -> None:
    """The last gradient is masked as the weights were before an evolution."""
    parameters = dict(learner.online.named_parameters())
    for name, mask in masks(learner).items():
        layer = parameters[name]
        assert layer.grad is not None
        assert not array(layer.grad)[~stepped_with[name]].any(), f"gradient of {name}"
        moments = {m: learner.optimiser.state[layer][m] for m in ("exp_avg", "exp_avg_sq")}
        for what, tensor in {"weight": layer, **moments}.items():
            # Bits: -0.0 is something else on the wire.
            assert not array(tensor)[~mask].view(np.uint32).any(), f"{what} of {name}"


@pytest.mark.parametrize("method", ["static", "set", "rigl"])
@pytest.mark.parametrize("pattern", ["unstructured", "block", "n:m"])
def test_links_are_constant_in_number_and_all_else_is_zero(
    method: Method, pattern: Literal["unstructured", "block", "n:m"]
) -> None:
    learner = make_learner(make_run(replace(RIGL, method=method, pattern=pattern)))
    before = masks(learner)
    if pattern == "unstructured":
        total = sum(mask.size for mask in before.values())
        assert sum(mask.sum() for mask in before.values()) == round(0.2 * total)
    now = before
    for _ in range(7):
        stepped_with = now
        learner.update()
        assert_nothing_exists_outside_the_masks(learner, stepped_with)
        now = masks(learner)
        assert {n: m.sum() for n, m in now.items()} == {n: m.sum() for n, m in before.items()}
    assert topology(learner).evolutions == (0 if method == "static" else 3)
    same = all(np.array_equal(now[name], before[name]) for name in before)
    assert same == (method == "static")


@pytest.mark.parametrize("algorithm", ["iql", "qmix", "wqmix", "facmac"])
def test_every_matrix_is_masked_and_no_bias_nor_the_auxiliary_network_is(
    algorithm: str,
) -> None:
    learner = make_learner(make_run(algorithm=algorithm))
    matrices = {n for n, p in learner.online.named_parameters() if p.ndim == 2}
    assert {n for n in matrices if not n.startswith("auxiliary.")} == set(masks(learner))
    assert "policy.gru.weight_hh_l0" in masks(learner)
    assert ("mixer.hyper_w_1.2.weight" in masks(learner)) == (algorithm != "iql")
    assert ("central_mixer.net.0.weight" in masks(learner)) == (algorithm == "wqmix")


def test_between_evolutions_the_topology_stays() -> None:
    learner = make_learner(make_run(replace(RIGL, period=3)))
    seen = [masks(learner)]
    for _ in range(7):
        learner.update()
        seen.append(masks(learner))
    moved = [
        any(not np.array_equal(after[name], before[name]) for name in before)
        for before, after in pairwise(seen)
    ]
    assert moved == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_what_grows_starts_at_zero_and_what_stays_keeps_its_weight_and_moments(
    method: Method,
) -> None:
    learner = make_learner(make_run(replace(RIGL, method=method, period=4)))
    for _ in range(3):
        learner.update()
    metrics = learner.compute_gradient()
    parameters = {n: p for n, p in learner.online.named_parameters() if n in masks(learner)}
    before = masks(learner)
    # The same step without an evolution.
    twin = make_learner(make_run(replace(RIGL, method="static")))
    for _ in range(4):
        twin.update()
    learner.apply_gradient(metrics)
    after, grown = masks(learner), 0
    stepped = dict(twin.online.named_parameters())
    for name, layer in parameters.items():
        new = after[name] & ~before[name]
        stayed = after[name] & before[name]
        grown += int(new.sum())
        state, state_of_twin = learner.optimiser.state[layer], twin.optimiser.state[stepped[name]]
        for tensor, other in (
            (layer, stepped[name]),
            *((state[m], state_of_twin[m]) for m in ("exp_avg", "exp_avg_sq")),
        ):
            assert not array(tensor)[new].any(), name
            assert_array_equal(array(tensor)[stayed], array(other)[stayed], err_msg=name)
    links = sum(mask.sum() for mask in after.values())
    assert grown > 0
    assert topology(learner).moved == pytest.approx(grown / links)


def test_rigl_grows_where_the_dense_gradient_is_largest() -> None:
    learner = make_learner(make_run(replace(RIGL, period=1)))
    before = masks(learner)
    metrics = learner.compute_gradient()
    name = "mixer.hyper_w_1.2.weight"
    gradient = np.abs(array(learner.dense[name]))
    learner.apply_gradient(metrics)
    grown = masks(learner)[name] & ~before[name]
    empty = ~masks(learner)[name] & ~before[name]
    assert grown.sum() > 20
    assert gradient[grown].min() >= gradient[empty].max() > 0.0


def test_set_grows_wherever_chance_wants_to() -> None:
    layer = torch.nn.Parameter(torch.randn(40, 50, generator=torch.Generator().manual_seed(0)))
    masked = Topology(replace(RIGL, method="set"), [("policy.encoder.weight", layer)], seed=0)
    before = array(masked.masks["policy.encoder.weight"])
    gradient = torch.zeros(40, 50)
    gradient[:20] = 1.0
    moments: dict[torch.Tensor, dict[str, torch.Tensor]] = {}
    moments[layer] = {name: torch.zeros(40, 50) for name in ("exp_avg", "exp_avg_sq")}
    masked.evolve({"policy.encoder.weight": gradient}, moments, 0.5, gradient_steps=2)
    grown = array(masked.masks["policy.encoder.weight"]) & ~before
    # About 180 of 200 do not come straight back; rigl would have grown all of them above.
    assert 60 < grown[:20].sum() < 120
    assert 60 < grown[20:].sum() < 120


def test_a_grown_link_is_trained_from_then_on() -> None:
    learner = make_learner(make_run(replace(RIGL, period=3)))
    before = masks(learner)
    for _ in range(4):
        learner.update()
    name = "policy.gru.weight_hh_l0"
    grown = masks(learner)[name] & ~before[name]
    weights = array(dict(learner.online.named_parameters())[name])
    assert grown.any()
    assert weights[grown].all()


def test_targets_lie_within_the_masks_of_their_last_copy() -> None:
    # A target that follows would keep what is left of links that were dropped.
    learner = make_learner(make_run(algorithm="wqmix", target_update_period=1, target_rate=0.3))
    targets = (
        ("policy", learner.target["policy"]),
        ("mixer", learner.target["mixer"]),
        ("central_agent", learner.target["central_agent"]),
        ("central_mixer", learner.target["central_mixer"]),
    )

    def assert_masked() -> None:
        for part, target in targets:
            assert target is not None
            for name, parameter in target.named_parameters():
                mask = masks(learner).get(f"{part}.{name}")
                if mask is not None:
                    assert not array(parameter)[~mask].any(), name

    assert_masked()
    for _ in range(5):
        learner.update()
        assert_masked()
    assert topology(learner).moved > 0.0


def test_a_batch_that_is_not_finite_moves_nothing() -> None:
    learner = make_learner(make_run(replace(RIGL, period=1)))
    before = masks(learner)
    metrics = learner.compute_gradient()
    learner.apply_gradient(metrics | {"loss": float("nan")})
    for name, mask in masks(learner).items():
        assert_array_equal(mask, before[name])
    assert topology(learner).evolutions == 0


def test_layers_without_a_gradient_keep_their_links() -> None:
    run = replace(make_run(replace(RIGL, period=1), algorithm="iql"), comm="none")
    learner = make_learner(run)
    before = masks(learner)
    learner.update()
    after = masks(learner)
    for name in ("policy.query.weight", "policy.scorer_hidden.weight"):
        assert_array_equal(after[name], before[name])
    assert not np.array_equal(after["policy.encoder.weight"], before["policy.encoder.weight"])


def test_evolution_ends_when_it_is_told_to_or_with_the_run() -> None:
    learner = make_learner(make_run(replace(RIGL, period=2, end=4)))
    shares = [topology(learner).share(step, 0.9) for step in range(1, 7)]
    assert shares == pytest.approx([0.0, 0.25, 0.0, 0.0, 0.0, 0.0])
    learner = make_learner(make_run())
    assert topology(learner).share(2, 0.5) == pytest.approx(0.25)
    assert topology(learner).share(2000, 1.0) == 0.0


def test_layers_and_groups_stay_dense_if_asked_to() -> None:
    sparse = replace(RIGL, dense=("scorer", "messages", "hyper_w_1", "gru"))
    learner = make_learner(make_run(sparse))
    spared = ("beacon", "edge", "scorer_", "query", "key", "value", "message", "gru", "hyper_w_1.")
    assert set(masks(learner)) == {
        name for name in masks(make_learner()) if not name.partition(".")[2].startswith(spared)
    }
    links = topology(learner).figures()
    assert links["sparsity"] == pytest.approx(0.8, abs=1e-3)


def test_every_layer_has_a_name_under_which_it_can_stay_dense() -> None:
    known = set(get_args(SparseLayer)) - set(GROUPS)
    learner = make_learner(make_run(algorithm="wqmix"))
    assert {name.split(".")[1] for name in masks(learner)} == known
    mixers = make_learner(make_run(replace(RIGL, dense=("mixer",)), algorithm="wqmix"))
    assert {name.split(".")[0] for name in masks(mixers)} == {"policy", "central_agent"}


def test_one_total_or_one_for_agents_and_one_for_mixers() -> None:
    def sparsity(learner: Learner, parts: str | tuple[str, ...]) -> float:
        chosen = [mask for name, mask in masks(learner).items() if name.startswith(parts)]
        return 1.0 - sum(m.sum() for m in chosen) / sum(m.size for m in chosen)

    both = make_learner(make_run(replace(RIGL, sparsity=0.5, policy=0.7), algorithm="wqmix"))
    assert sparsity(both, ("policy", "central_agent")) == pytest.approx(0.7, abs=1e-3)
    assert sparsity(both, ("mixer", "central_mixer")) == pytest.approx(0.5, abs=1e-3)
    one = make_learner()
    assert sparsity(one, "") == pytest.approx(0.8, abs=1e-3)
    assert sparsity(one, "policy") < 0.7, "small layers get more of one total"


def test_scaled_initial_weights_make_up_for_the_inputs_that_a_unit_has_lost() -> None:
    dense, scaled = (make_learner(make_run(replace(RIGL, initial=way))) for way in WAYS)
    before = dict(dense.online.named_parameters())
    for name, mask in masks(scaled).items():
        weights, plain = array(dict(scaled.online.named_parameters())[name]), array(before[name])
        gains = [math.sqrt(row.size / max(row.sum(), 1)) for row in mask]
        assert_allclose(weights, plain * np.array(gains)[:, None], rtol=1e-6)
        assert_array_equal(plain[~mask], 0.0)
    # Targets begin where the networks do, and nothing else is touched.
    assert_array_equal(scaled.algorithm.target_policy.to_flat(), scaled.parameters_flat())
    for name, bias in before.items():
        if name not in masks(scaled):
            assert_array_equal(array(dict(scaled.online.named_parameters())[name]), array(bias))


def test_a_trained_policy_is_not_scaled() -> None:
    run = replace(make_run(replace(RIGL, initial="scaled")), policy="somewhere")
    learner = make_learner(run)
    mask = learner.mask_flat()
    assert_array_equal(learner.parameters_flat()[mask], make_flat(make_spec(), gain=1.0)[mask])


def test_a_trained_policy_keeps_its_largest_weights() -> None:
    learner = make_learner(replace(make_run(), policy="some.safetensors"))
    flat = views(make_spec(), make_flat(make_spec(), gain=1.0))
    weights, mask = np.abs(flat["message.weight"]), masks(learner)["policy.message.weight"]
    assert weights[mask].min() > weights[~mask].max()


def test_a_policy_file_has_no_mixer_so_that_one_begins_as_without() -> None:
    run = make_run(replace(RIGL, initial="scaled"), algorithm="wqmix")
    after = make_learner(replace(run, policy="somewhere"))
    weights = dict(after.online.named_parameters())
    plain = dict(make_learner(replace(run, sparse=SparseConfig())).online.named_parameters())
    for name, mask in masks(after).items():
        ours, dense = np.abs(array(weights[name])), np.abs(array(plain[name]))
        by_magnitude = not mask.all() and dense[mask].min() >= dense[~mask].max()
        assert by_magnitude == (name.startswith("policy.") and not mask.all()), name
        if not name.startswith("policy."):
            gains = np.sqrt(mask.shape[1] / np.maximum(mask.sum(1), 1))[:, None]
            assert_allclose(ours[mask], (dense * gains)[mask], rtol=1e-6, err_msg=name)


def test_a_pattern_that_misses_the_sparsity_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reached = topology(make_learner(make_run(replace(RIGL, pattern="n:m")))).figures()["sparsity"]
    assert abs(reached - 0.8) > 0.005
    assert f"sparsity is {reached:.3f}, 0.800 was asked for: n:m with groups of 4" in caplog.text
    caplog.clear()
    make_learner()
    assert not caplog.records


def test_if_every_layer_is_to_stay_dense_that_is_refused() -> None:
    everything = ("mixer", "messages", "scorer", "encoder", "gru", "q_hidden", "q_out")
    with pytest.raises(ValueError, match="leaves nothing to be masked"):
        make_learner(make_run(replace(RIGL, dense=everything)))


def test_the_mask_of_what_is_published_names_every_zero() -> None:
    learner = make_learner(make_run(replace(RIGL, dense=("q_out",))))
    for _ in range(4):
        learner.update()
    mask, flat = learner.mask_flat(), learner.parameters_flat()
    assert mask is not None
    assert not flat[~mask].view(np.uint32).any()
    by_name = views(make_spec(), mask)  # type: ignore[arg-type]
    for name, tensor in by_name.items():
        if name.endswith("weight") and name != "q_out.weight":
            assert_array_equal(tensor, masks(learner)[f"policy.{name}"], err_msg=name)
        elif "gru.weight" not in name:
            assert tensor.all(), name
    assert_array_equal(by_name["gru.weight_ih"], masks(learner)["policy.gru.weight_ih_l0"])
    assert make_learner(make_run(SparseConfig())).mask_flat() is None


@pytest.mark.parametrize("method", ["static", "set", "rigl"])
def test_a_resumed_learner_goes_on_bit_for_bit(method: Method, tmp_path: Path) -> None:
    run = make_run(replace(RIGL, method=method))
    path = tmp_path / "checkpoint.safetensors"
    old = make_learner(run)
    for _ in range(3):
        old.update()
    save_checkpoint(path, old, version=1, config="")
    # Another seed would draw other masks: those of the checkpoint are what counts.
    fresh = make_learner(run)
    for mask in topology(fresh).masks.values():
        mask.fill_(True)
    load_checkpoint(path, fresh)
    assert topology(fresh).figures() == topology(old).figures()
    for _ in range(4):
        assert fresh.update() == old.update()
    for name, mask in masks(old).items():
        assert_array_equal(masks(fresh)[name], mask, err_msg=name)
    assert_array_equal(fresh.parameters_flat(), old.parameters_flat())
    assert_array_equal(
        fresh.algorithm.target_policy.to_flat(), old.algorithm.target_policy.to_flat()
    )
    assert topology(fresh).figures() == topology(old).figures()


def test_figures_count_links_and_units_that_have_none() -> None:
    learner = make_learner()
    for mask in topology(learner).masks.values():
        mask.fill_(True)
    mask = topology(learner).masks["policy.q_out.weight"]
    mask[1], mask[:, 3], mask[:, 5] = False, False, False
    size = sum(mask.numel() for mask in topology(learner).masks.values())
    topology(learner).resume(evolutions=5, moved=0.25)
    assert topology(learner).figures() == pytest.approx(
        {
            "active_weights": size - 8 - 2 * 3,
            "sparsity": 14 / size,
            "topology_moved": 0.25,
            "topology_evolutions": 5,
            "dead_outputs": 1,
            "dead_inputs": 2,
        }
    )
