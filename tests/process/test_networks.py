"""Networks over real processes: what agents compute, the learner's twin does as well."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from agents.policy import initialise
from configs.schema import RunConfig
from runtime.bodies import Bodies
from tests.process.deployed import Deployed, fresh_policy
from tests.process.runs import Launched, run_config, undecided_policy
from tests.process.test_parity import hold_against_unroll, record

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

IMAGES = "tests.image_task:Spots"
CONV = "channels=[4, 6],divide_by=255"


def with_network(config: RunConfig, name: str, options: str) -> RunConfig:
    network = dataclasses.replace(config.network, name=name, options=options)
    return dataclasses.replace(config, network=network)


@pytest.mark.parametrize(
    ("env", "network", "options"),
    [
        ("battle", "mlp", ""),
        (IMAGES, "conv", CONV),
        pytest.param(IMAGES, "conv", f"{CONV},memory=none", marks=pytest.mark.slow),
    ],
)
def test_processes_do_what_the_unroll_does(
    env: str, network: str, options: str, tmp_path: Path
) -> None:
    config = with_network(run_config(env, 8), network, options)
    policy = undecided_policy(config)
    assert policy.spec.network == network
    hold_against_unroll(config, policy, record(config, policy, 4, tmp_path))


@pytest.mark.slow
def test_a_convolution_trains_on_images_with_masked_layers(tmp_path: Path) -> None:
    """Kernels stay dense, and count with every place at which they are used."""
    with Launched(
        tmp_path, "--env", IMAGES, "--agents", "4", "--steps", "200", "--network", "conv",
        "--network.options", CONV, "--network.hidden", "16", "--sparse.method", "set",
        "--sparse.sparsity", "0.5", "--learner.learning-starts", "2", "--evaluation.episodes", "2",
    ) as run:  # fmt: skip
        assert run.finish(120.0) == 0, run.output.read_text()
        summary = run.summary()
    assert summary["learner_updates"] > 0
    kernels = 36 * (2 * 27 - 1) * 4 + 16 * (2 * 36 - 1) * 6
    assert summary["inference_flops"] > kernels, json.dumps(summary)


def test_a_memoryless_policy_is_deployed(tmp_path: Path) -> None:
    fresh = fresh_policy(6, 4)
    spec = dataclasses.replace(fresh.spec, network="mlp", network_options="layers=3")
    flat = initialise(spec, np.random.default_rng(0))
    with Deployed(tmp_path, dataclasses.replace(fresh, spec=spec, flat=flat), 2) as deployed:
        deployed.wait_until_ready()
        with Bodies(deployed.body, range(2), 20.0) as bodies:
            row = np.ones(6, np.float32)
            for step in range(5):
                seen = dict.fromkeys(range(2), row)
                bodies.act(seen, step=step, first=step == 0, patience_s=5.0)
        assert deployed.total("agent_steps") == 10
        deployed.stop()
    assert "ERROR" not in deployed.logs()
