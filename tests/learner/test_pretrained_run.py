"""What was trained beforehand, from run to run: real trainings in one process."""

from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, initialise, load_policy, views
from agents.pretrained import pretrained_layout, save_pretrained
from learner.pretraining.command import spec_of
from learner.pretraining.options import PretrainOptions
from runtime import launch

OPTIONS = "code=4,state=4,latent=3,flow=4,encoder=8"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two files: what a pre-training might have made, and another."""
    options = PretrainOptions(out="-", env="relay", agents=4, comm_options=OPTIONS)
    spec = spec_of(options)
    for seed, name in enumerate(("one", "other")):
        tensors = views(spec, initialise(spec, np.random.default_rng(seed)))
        save_pretrained(tmp_path / f"{name}.safetensors", spec, tensors, {})
    return tmp_path


def train(folder: Path, *words: str) -> PolicyFile:
    """The policy of a short training."""
    runs = folder / f"runs-{len(list(folder.iterdir()))}"
    given = ["--env", "relay", "--agents", "4", "--comm", "nvif", "--comm.options", OPTIONS]
    given += ["--serial", "--steps", "48", "--env-copies", "2", "--metrics-port", "0"]
    given += ["--device", "cpu", "--learner.threads", "1", "--evaluation.interval-steps", "0"]
    given += ["--learner.learning-starts", "2", "--learner.batch-size", "2"]
    assert launch.main([*given, "--runtime.runs-dir", str(runs), *words]) == 0
    (run,) = runs.iterdir()
    return load_policy(run / "policy.safetensors")


def of_beforehand(policy: PolicyFile) -> dict[str, list[float]]:
    tensors = views(policy.spec, policy.flat)
    return {name: tensors[name].ravel().tolist() for name, _ in pretrained_layout(policy.spec)}


@pytest.mark.timeout(120)
def test_frozen_tensors_stay_from_run_to_run_where_that_is_asked_for(
    made: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = ("--pretrained", f"{made / 'one.safetensors'}")
    first = train(made, *file)
    assert first.trained["frozen"] == "one.safetensors"
    (path,) = made.glob("runs-*/*/policy.safetensors")
    begin = ("--policy", f"{path}")
    kept = train(made, *begin, *file)
    assert of_beforehand(kept) == of_beforehand(first)
    assert not np.array_equal(kept.flat, first.flat), "all else has learnt"
    capfd.readouterr()
    thawed = train(made, *begin)
    assert of_beforehand(thawed) != of_beforehand(first)
    assert "frozen" not in thawed.trained
    printed = capfd.readouterr()
    assert "has tensors of one.safetensors that were frozen" in printed.out + printed.err
    with pytest.raises(SystemExit) as refused:
        train(made, *begin, "--pretrained", f"{made / 'other.safetensors'}")
    assert refused.value.code == 2
    assert "has other tensors than the pre-trained file" in capfd.readouterr().err
