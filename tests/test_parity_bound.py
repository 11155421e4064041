"""The bound of the parity tests: what float32's own differences do once messages are rounded."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.policy import load_policy
from configs.schema import EnvConfig, GateConfig
from configs.shipped import SHIPPED, policy_path
from envs.registry import make_copies
from learner.comm import messages
from learner.comm.gates import GateRule
from learner.comm.unroll import Carry, UnrollInput, unroll
from learner.network import PolicyNetwork
from tests.process.parity_bound import EPSILON, FLOAT32, bound, gain, most_tips

AGENTS, STEPS = 8, 40
RULE = GateRule.of("sops", GateConfig(timing="causal", mode="learned"))


@pytest.fixture(scope="module")
def trained() -> tuple[PolicyNetwork, UnrollInput]:
    """The shipped Battle policy, and what its agents see while they play."""
    policy = load_policy(policy_path(SHIPPED, "battle"))
    network = PolicyNetwork(policy.spec, AGENTS)
    network.load_flat(policy.flat)
    copies = make_copies(EnvConfig(name="battle", copies=1, opponent="scripted"), AGENTS, 1)
    (now,), carry = copies.reset(), Carry.begin(network, 1)
    seen: list[Tensor] = []
    alive: list[Tensor] = []
    while len(seen) < STEPS:
        seen.append(torch.tensor(now.observations_ND.astype(np.float32))[None, None])
        alive.append(torch.tensor(now.alive_N)[None, None])
        with torch.no_grad():
            output = unroll(network, UnrollInput(seen[-1], alive[-1]), RULE, carry)
        actions_EN = output.q_TBNA[0].argmax(-1).numpy()
        actions_EN[:, ~now.alive_N] = copies.spec.noop_action
        (step,) = copies.step(actions_EN)
        if step.transition.terminated or step.transition.truncated:
            break
        now, carry = step.now, output.carry
    copies.close()
    return network, UnrollInput(torch.cat(seen), torch.cat(alive))


def noisy(
    network: PolicyNetwork, window: UnrollInput, size: float, monkeypatch: pytest.MonkeyPatch
) -> float:
    """Largest change of q among the living when messages move by up to `size` before rounding."""
    generator, exact = torch.Generator().manual_seed(0), messages.tanh_

    def tanh_(x: Tensor) -> Tensor:
        exact(x)
        return x.add_((2 * torch.rand(x.shape, generator=generator) - 1) * size)

    with torch.no_grad():
        before = unroll(network, window, RULE).q_TBNA
        with monkeypatch.context() as patch:
            patch.setattr(messages, "tanh_", tanh_)
            after = unroll(network, window, RULE).q_TBNA
    return float(((after - before).abs().amax(-1) * window.alive_TBN).max())


def test_what_rounding_makes_of_float32_noise_stays_within_the_bound(
    trained: tuple[PolicyNetwork, UnrollInput], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, window = trained
    agent_steps = int(window.alive_TBN.sum())
    limit = bound(network, window, RULE, agent_steps)
    moved = noisy(network, window, EPSILON, monkeypatch)
    assert FLOAT32 < moved < limit, "messages tip, which is why there is a bound"
    assert limit < 1e-3, "a bound that allows anything proves nothing"
    # A difference before rounding that is a thousand times larger is another policy.
    assert noisy(network, window, 1000 * EPSILON, monkeypatch) > limit


def test_unrounded_messages_do_not_tip(
    trained: tuple[PolicyNetwork, UnrollInput], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, window = trained
    spec = network.spec
    network.spec = network.scheme.spec = dataclasses.replace(spec, message_dtype="float32")
    try:
        assert bound(network, window, RULE, 1000) == FLOAT32
        assert noisy(network, window, EPSILON, monkeypatch) < FLOAT32
    finally:
        network.spec = network.scheme.spec = spec


def test_the_gain_is_what_a_q_value_owes_to_one_entry(
    trained: tuple[PolicyNetwork, UnrollInput],
) -> None:
    network, window = trained
    with torch.no_grad():
        layer = network.q_out
        layer.weight *= 2.0
        try:
            doubled = gain(network, window, RULE)
        finally:
            layer.weight /= 2.0
    assert doubled == pytest.approx(2 * gain(network, window, RULE), rel=0.02)


@pytest.mark.parametrize(
    ("mean", "chance", "most"), [(1.0, 0.5, 1), (1.0, 0.02, 3), (0.0, 1e-9, 0), (1.0, 1e-6, 9)]
)
def test_a_count_exceeds_its_limit_with_no_more_than_the_chance(
    mean: float, chance: float, most: int
) -> None:
    assert most_tips(mean, chance) == most
