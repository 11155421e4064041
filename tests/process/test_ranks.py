"""Learners that share updates, as processes: torchrun, gloo, two ranks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from learner.checkpoint import capture
from learner.checkpoint_file import CheckpointContent, read_checkpoint
from tests.process.ranks_update import UPDATES, Sparse, learn, make_learner
from tests.process.runs import Launched, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
RELAY = ("--agents", "6", "--env", "relay", "--env-copies", "4")
ENDLESS = (*RELAY, "--steps", "100000000", "--evaluation.interval-steps", "0")


@pytest.mark.parametrize(
    ("algorithm", "sparse"),
    [
        pytest.param("iql", "none", marks=pytest.mark.slow),
        pytest.param("qmix", "none", marks=pytest.mark.slow),
        pytest.param("qmix", "rigl", marks=pytest.mark.slow),
        pytest.param("iql", "set", marks=pytest.mark.slow),
        ("wqmix", "rigl"),
        pytest.param("res", "none", marks=pytest.mark.slow),
        pytest.param("facmac", "none", marks=pytest.mark.slow),
    ],
)
def test_two_ranks_take_the_steps_of_one_process_with_the_whole_batch(
    tmp_path: Path, algorithm: str, sparse: Sparse
) -> None:
    command = [*TORCHRUN, "-m", "tests.process.ranks_update", str(tmp_path), algorithm, sparse]
    subprocess.run(command, check=True, timeout=55, env=os.environ | {"OMP_NUM_THREADS": "1"})
    ranks = [read_checkpoint(tmp_path / f"{algorithm}-{rank}") for rank in (0, 1)]
    assert [content.progress.updates for content in ranks] == [UPDATES] * 2
    for name, array in arrays(ranks[0]).items():
        assert_array_equal(array, arrays(ranks[1])[name], err_msg=name)

    alone = make_learner(algorithm, ranks=1, sparse=sparse)
    before = alone.parameters_flat()
    metrics = learn(alone)
    assert metrics[-1]["edge_charge"] > 0.0, "the price has to agree as well"
    if alone.topology is not None:
        assert alone.topology.moved > 0.0
        for name, mask in alone.topology.masks.items():
            assert_array_equal(arrays(ranks[0])[f"mask.{name}"], mask.numpy(), err_msg=name)
    # The moments as well: Adam's step hardly depends on the scale of a gradient, they do. Where a
    # gradient is as small as Adam's eps, its last digit shows in the step: 3 % of one are allowed.
    for name, expected in arrays(capture(alone, version=0, config="")).items():
        found, of_moments = arrays(ranks[0])[name], name.startswith("adam.exp_avg")
        rtol, atol = (1e-2, 1e-7) if of_moments else (0.0, 3e-5)
        assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=name)
    assert np.abs(alone.parameters_flat() - before).max() > 1e-3


def arrays(content: CheckpointContent) -> dict[str, np.ndarray]:
    return {name: array for name, array in content.arrays.items() if name != "noise"}


@pytest.mark.slow
def test_a_run_whose_learner_has_two_ranks_trains_survives_one_of_them_and_stops(
    tmp_path: Path,
) -> None:
    options = ("--learner.ranks", "2", "--learner.checkpoint-period-s", "0.5")
    with Launched(tmp_path, *ENDLESS, *options) as run:
        run.wait_until_training()
        wait_for("updates", lambda: run.updates() > 10)
        version = run.newest_metrics()["learner/version"]
        pid = run.processes["learner, rank 1"]
        os.kill(pid, signal.SIGKILL)
        wait_for("a new rank", lambda: run.processes.get("learner, rank 1", pid) != pid)
        wait_for("new versions", lambda: run.newest_metrics()["learner/version"] > version + 20)
        assert run.updates() > 10, "it must not begin anew"
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.finish(30.0) == 130, run.output.read_text()
        assert run.summary()["exit_reason"] == "interrupted"
