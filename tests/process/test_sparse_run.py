"""Sparse policies in real runs: what agents compute, and what crosses the wire."""

from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, load_policy, views
from tests.process.runs import Launched, run_config, undecided_policy
from tests.process.test_parity import hold_against_unroll, record

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SPARSE = ("--sparse.method", "rigl", "--sparse.period", "10", "--learner.publish", "sparse")
RELAY = ("--agents", "8", "--env", "relay", "--env-copies", "8", "--evaluation.episodes", "8")
KEPT = 0.3
"""Share of weights that the parity test leaves: enough that gates still open and close."""


def masked(policy: PolicyFile, *, seed: int = 0) -> PolicyFile:
    """The policy with most weights cut, and the units of a quarter of its Q head cut off whole."""
    rng = np.random.default_rng(seed)
    tensors = views(policy.spec, policy.flat)
    for tensor in tensors.values():
        if tensor.ndim == 2:
            tensor *= rng.random(tensor.shape) < KEPT
            tensor /= KEPT**0.5  # about as loud as before
    tensors["q_out.weight"][:, : policy.spec.hidden // 4] = 0.0
    return policy


def test_agents_with_masked_weights_do_what_the_unroll_does(tmp_path: Path) -> None:
    config = run_config("battle", 8, env_options={"opponent": "scripted"})
    policy = masked(undecided_policy(config))
    zeros = float((policy.flat == 0.0).mean())
    assert zeros > 0.6
    hold_against_unroll(config, policy, record(config, policy, 4, tmp_path))


def test_a_run_at_ninety_per_cent_sends_less_than_a_fifth(tmp_path: Path) -> None:
    with Launched(tmp_path, *RELAY, *SPARSE, "--steps", "4000") as run:
        assert run.finish(150.0) == 0, run.output.read_text()
        summary = run.summary()
        (path,) = tmp_path.glob("runs/*/policy.safetensors")
        policy = load_policy(path)
    weights = [x for x in views(policy.spec, policy.flat).values() if x.ndim == 2]
    left = sum(int(np.count_nonzero(x)) for x in weights) / sum(x.size for x in weights)
    assert left <= 0.1001, "what agents have is the masked network"
    assert summary["topology_evolutions"] >= 3
    assert 0 < summary["version_bytes_mean"] <= 0.2 * policy.flat.nbytes
    by_form = summary["version_bytes_by_form"]
    forms = {"sparse", "sparse_delta", "shared"}
    assert by_form.keys() <= forms, "agents are handed their first policy"
    assert 0 < by_form["sparse_delta"] <= 0.2 * policy.flat.nbytes
