"""What was trained beforehand, in a training: it stays as it is, or learns as all else."""

from dataclasses import replace
from typing import Literal

import pytest
import torch

from agents.pretrained import pretrained_layout
from configs.schema import LearnerConfig
from learner import learner as module
from learner.learner import Learner
from tests.learner_helpers import DIMENSIONS, make_config, make_episode, make_flat, make_spec
from tests.scheme_cases import Case

SPEC = Case("nvif", "", "causal").applied(make_spec())
BEFOREHAND = {name for name, _ in pretrained_layout(SPEC)}


def changed_by_updates(how: Literal["frozen", "tuned"], workers: int = 1) -> set[str]:
    """Names of the tensors that two updates have changed."""
    config = LearnerConfig(device="cpu", batch_size=4, learning_starts=1, pretrained=how)
    run = replace(make_config(comm="nvif", learner=config), pretrained="nvif.safetensors")
    learner = Learner(run, SPEC, DIMENSIONS, make_flat(SPEC), workers=workers)
    for number in range(4):
        learner.add(make_episode(number))
    before = {name: tensor.detach().clone() for name, tensor in learner.network.tensors().items()}
    for _ in range(2):
        learner.update()
    after = learner.network.tensors()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("workers", [1, 2])
def test_frozen_tensors_stay_as_they_are_while_all_others_learn(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGENT_STEPS_FOR_A_THREAD", 1)
    changed = changed_by_updates("frozen", workers)
    assert changed == {name for name, _ in SPEC.layout} - BEFOREHAND


def test_tuned_tensors_learn_with_the_policy() -> None:
    assert changed_by_updates("tuned") >= BEFOREHAND
