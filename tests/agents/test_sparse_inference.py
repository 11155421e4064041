"""A network without its dead units against the same network with all of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from agents import version as versions
from agents.dead_units import LivingUnits, without_dead_units
from agents.policy import PolicySpec, views
from agents.version import PolicyVersion
from configs.arrays import FloatArray
from tests.agents_helpers import (
    OFFSETS,
    SPEC,
    acted,
    dense,
    make_agent,
    make_flat,
    make_network,
    make_rules,
    observation,
    sops,
)

COPIES, STEPS, TOKENS = 3, 8, 4
TOLERANCE = 1e-6
"""Sums of a few terms of size 1 in another order."""


def make_policy(seed: int = 0) -> FloatArray:
    """An untrained policy without the gain that tests of rounding want, so that q is of size 1."""
    return make_flat(seed=seed) / np.float32(3.0)


class Output(NamedTuple):
    """Everything that leaves an agent in a step."""

    beacon_EZ: FloatArray
    scores_EK: FloatArray
    message_EM: FloatArray
    q_EA: FloatArray


def play(network: PolicyVersion) -> list[Output]:
    """An episode from its first step; messages and beacons of others are the same for everybody."""
    rng = np.random.default_rng(5)
    hidden_EH = network.begin(COPIES)
    outputs: list[Output] = []
    for _ in range(STEPS):
        observation_ED, tokens_ETM, peers_EKZ = (
            rng.normal(size=shape).astype(np.float32)
            for shape in (
                (COPIES, SPEC.observation_dim),
                (COPIES, TOKENS, SPEC.message),
                (COPIES, OFFSETS, SPEC.beacon),
            )
        )
        hidden_EH = network.recur(observation_ED, hidden_EH, network.parts(hidden_EH))
        parts_EP = network.parts(hidden_EH)
        beacon_EZ = sops(network).beacon(parts_EP)
        message_EM = sops(network).message_of(
            parts_EP, sops(network).attend(parts_EP, tokens_ETM, None)
        )
        outputs.append(
            Output(
                beacon_EZ,
                sops(network).scorer(beacon_EZ, peers_EKZ),
                message_EM,
                network.q_values(parts_EP, message_EM),
            )
        )
    return outputs


def with_all_units(flat: FloatArray, monkeypatch: pytest.MonkeyPatch) -> PolicyVersion:
    def keep_all(_spec: PolicySpec, tensors: Mapping[str, FloatArray]) -> LivingUnits:
        return LivingUnits(tensors, np.arange(SPEC.hidden))

    with monkeypatch.context() as patch:
        patch.setattr(versions, "without_dead_units", keep_all)
        return make_network(flat=flat)


@pytest.fixture
def plays_as_before(monkeypatch: pytest.MonkeyPatch) -> "PlaysAsBefore":
    return PlaysAsBefore(monkeypatch)


class PlaysAsBefore:
    """Checks that a policy acts with its living units as with all, and says how many live."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, flat: FloatArray) -> dict[str, int]:
        shrunk, whole = play(make_network(flat=flat)), play(with_all_units(flat, self._monkeypatch))
        for ours, theirs in zip(shrunk, whole, strict=True):
            for name, value in ours._asdict().items():
                assert_allclose(value, getattr(theirs, name), rtol=0, atol=TOLERANCE, err_msg=name)
        tensors, hidden_H = without_dead_units(SPEC, views(SPEC, flat))
        layers = ("encoder", "q_hidden", "scorer_hidden")
        sizes = {layer: tensors[f"{layer}.bias"].size for layer in layers}
        return {**sizes, "hidden": hidden_H.size}


ALL = {"encoder": 8, "q_hidden": 8, "scorer_hidden": 9, "hidden": 8}


def gru(tensors: Mapping[str, FloatArray], side: str) -> FloatArray:
    """[gate, unit, input]"""
    weight = tensors[f"gru.weight_{side}"]
    return weight.reshape(3, SPEC.hidden, -1)


def unread(tensors: Mapping[str, FloatArray], unit: int) -> None:
    """Let nobody read this hidden unit, but for the other hidden units."""
    for layer in ("query", "message", "q_hidden", "beacon"):
        tensors[f"{layer}.weight"][:, unit] = 0.0


# --- random masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.4, 0.2, 0.1, 0.05])
@pytest.mark.parametrize("seed", range(6))
def test_random_masks(plays_as_before: PlaysAsBefore, density: float, seed: int) -> None:
    rng, flat = np.random.default_rng(seed), make_policy(seed=seed)
    for name, tensor in views(SPEC, flat).items():
        if "weight" in name:
            tensor *= rng.random(tensor.shape) < density
    sizes = plays_as_before(flat)
    assert density > 0.1 or sum(sizes.values()) < sum(ALL.values())


@pytest.mark.parametrize("seed", range(4))
def test_units_that_die_in_every_layer_one_way_or_the_other(
    plays_as_before: PlaysAsBefore, seed: int
) -> None:
    flat = make_policy(seed=seed)
    t = views(SPEC, flat)
    for layer, reader in (("q_hidden", "q_out"), ("scorer_hidden", "scorer_out")):
        t[f"{layer}.weight"][[0, 3]] = 0.0
        t[f"{reader}.weight"][:, [3, 5]] = 0.0
    t["encoder.weight"][[1, 2]] = 0.0
    t["gru.weight_ih"][:, [2, 6]] = 0.0
    for unit in (0, 4):
        unread(t, unit)
        t["gru.weight_hh"][:, unit] = 0.0
    sizes = plays_as_before(flat)
    assert sizes == {"encoder": 5, "q_hidden": 5, "scorer_hidden": 6, "hidden": 6}


def test_a_dense_policy_loses_nothing_and_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shrunk, whole = (
        play(make_network(flat=make_policy())),
        play(with_all_units(make_policy(), monkeypatch)),
    )
    for ours, theirs in zip(shrunk, whole, strict=True):
        for name, value in ours._asdict().items():
            assert_array_equal(value, getattr(theirs, name))


def test_a_policy_of_nothing_but_biases_still_acts(plays_as_before: PlaysAsBefore) -> None:
    flat = make_policy()
    for name, tensor in views(SPEC, flat).items():
        if "weight" in name:
            tensor[...] = 0.0
    assert plays_as_before(flat) == dict.fromkeys(ALL, 0)


# --- hidden units ---------------------------------------------------------------------------------


def test_hidden_units_that_only_read_themselves_and_each_other_are_dead(
    plays_as_before: PlaysAsBefore,
) -> None:
    flat = make_policy()
    t = views(SPEC, flat)
    for unit in (2, 5, 6):
        unread(t, unit)
        readers = [u for u in range(SPEC.hidden) if u not in {2: {2}, 5: {6}, 6: {5, 6}}[unit]]
        gru(t, "hh")[:, readers, unit] = 0.0
    assert plays_as_before(flat) == {**ALL, "hidden": 5}
    assert_array_equal(without_dead_units(SPEC, t).hidden, [0, 1, 3, 4, 7])


@pytest.mark.parametrize("gate", [0, 1, 2])
def test_a_hidden_unit_lives_by_one_gate_of_a_unit_that_lives(
    plays_as_before: PlaysAsBefore, gate: int
) -> None:
    flat = make_policy()
    t = views(SPEC, flat)
    for unit, reader in ((2, 3), (3, 4)):  # 2 is heard through 3, and 3 through 4
        unread(t, unit)
        others = [u for u in range(SPEC.hidden) if u != reader]
        gru(t, "hh")[:, others, unit] = 0.0
        gru(t, "hh")[[g for g in range(3) if g != gate], reader, unit] = 0.0
    assert plays_as_before(flat) == ALL


@pytest.mark.parametrize("layer", ["query", "message", "q_hidden", "beacon"])
def test_a_hidden_unit_lives_by_any_one_reader(plays_as_before: PlaysAsBefore, layer: str) -> None:
    flat = make_policy()
    t = views(SPEC, flat)
    kept = t[f"{layer}.weight"][:, 2].copy()
    unread(t, 2)
    gru(t, "hh")[:, :, 2] = 0.0
    assert plays_as_before(flat)["hidden"] == 7
    t[f"{layer}.weight"][:, 2] = kept
    assert plays_as_before(flat) == ALL


def test_a_hidden_unit_without_inputs_is_no_constant(plays_as_before: PlaysAsBefore) -> None:
    flat = make_policy()
    t = views(SPEC, flat)
    gru(t, "ih")[:, 2] = gru(t, "hh")[:, 2] = 0.0
    assert plays_as_before(flat) == ALL
    first, second, *_ = play(make_network(flat=flat))
    assert (first.beacon_EZ != second.beacon_EZ).any()


def test_a_hidden_unit_whose_only_reader_is_dead_is_dead(plays_as_before: PlaysAsBefore) -> None:
    flat = make_policy()
    t = views(SPEC, flat)
    for unit in (1, 2):
        unread(t, unit)
        gru(t, "hh")[:, :, unit] = 0.0
    t["q_hidden.weight"][4, 1] = t["query.weight"][0, 2] = 1.0
    assert plays_as_before(flat) == ALL
    t["q_out.weight"][:, 4] = 0.0  # nobody reads unit 4 of the Q head
    t["key.weight"][0] = 0.0  # no key answers that part of a query
    assert plays_as_before(flat) == {**ALL, "q_hidden": 7, "hidden": 6}


def test_an_encoder_unit_that_only_dead_hidden_units_read_is_dead(
    plays_as_before: PlaysAsBefore,
) -> None:
    flat = make_policy()
    t = views(SPEC, flat)
    unread(t, 2)
    gru(t, "hh")[:, :, 2] = 0.0
    gru(t, "ih")[:, [u for u in range(SPEC.hidden) if u != 2], 5] = 0.0
    assert plays_as_before(flat) == {**ALL, "hidden": 7, "encoder": 7}


# --- constants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [-2.0, 2.0])
@pytest.mark.parametrize("layer", ["encoder", "q_hidden", "scorer_hidden"])
def test_a_unit_without_inputs_moves_into_its_readers_biases(
    plays_as_before: PlaysAsBefore, layer: str, bias: float
) -> None:
    flat = make_policy()
    t = views(SPEC, flat)
    t[f"{layer}.weight"][3] = 0.0
    t[f"{layer}.bias"][3] = bias
    assert plays_as_before(flat) == {**ALL, layer: ALL[layer] - 1}


def test_loading_leaves_the_vector_as_it_is() -> None:
    flat = make_policy()
    views(SPEC, flat)["encoder.weight"][3] = 0.0
    before = flat.copy()
    make_network(flat=flat)
    assert_array_equal(flat, before)


# --- from one version to the next -----------------------------------------------------------------


def without_hidden(unit: int, seed: int = 0) -> FloatArray:
    flat = make_policy(seed=seed)
    t = views(SPEC, flat)
    unread(t, unit)
    gru(t, "hh")[:, :, unit] = 0.0
    return flat


def test_the_hidden_state_goes_over_to_a_version_with_other_units() -> None:
    first, second = make_network(flat=without_hidden(2)), make_network(flat=without_hidden(5))
    hidden_EH = np.arange(1, 8, dtype=np.float32)[None]  # of units 0 1 3 4 5 6 7
    assert_array_equal(second.adopt(hidden_EH, first), [[1, 2, 0, 3, 4, 6, 7]])
    assert_array_equal(
        make_network(flat=make_policy()).adopt(hidden_EH, first), [[1, 2, 0, 3, 4, 5, 6, 7]]
    )
    assert make_network(flat=without_hidden(2, seed=1)).adopt(hidden_EH, first) is hidden_EH


def test_an_agent_goes_on_through_versions_with_other_units() -> None:
    rules = make_rules(copies=2, record_q=True)
    agent = make_agent(rules, flat=without_hidden(2))
    for tick, flat in enumerate([None, without_hidden(5), make_policy(), without_hidden(0)]):
        if flat is not None:
            assert agent.handle(dense(flat, tick + 1)) == []
        commands = agent.handle(observation(rules, tick, steps=tick))
        assert acted(commands).policy_version == tick + 1
