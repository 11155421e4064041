"""A learner's whole state <-> the content of a checkpoint.

    policy, mixer, auxiliary, their targets and masks, Adam's moments, counters, generators
                                                                              <->  arrays, JSON

The replay is not in it: its newest episodes are in the journal (learner/experience/journal.py).
Given the same replay, a restored learner takes exactly the steps that the saved one would have
taken.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from learner.checkpoint_file import (
    AVERAGE,
    ONLINE_POLICY,
    CheckpointContent,
    CheckpointError,
    CheckpointProgress,
    read_checkpoint,
    write_checkpoint,
)
from learner.learner import Learner

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""Names of Adam's state per parameter."""


def save_checkpoint(path: Path, learner: Learner, version: int, config: str) -> None:
    """Write everything a later process needs to go on.

    Args:
        path: of the file, replaced as a whole.
        learner: between two updates, or within `compute_gradient`.
        version: newest policy version published.
        config: the run's configuration as YAML.
    """
    write_checkpoint(path, capture(learner, version, config))


def load_checkpoint(path: Path, learner: Learner) -> CheckpointProgress:
    """Bring a fresh learner of the same configuration to the saved state.

    Raises:
        CheckpointError: unreadable, or of a learner with other parts or dimensions.
    """
    content = read_checkpoint(path)
    restore(learner, content, f"checkpoint {path}")
    return content.progress


def capture(learner: Learner, version: int, config: str) -> CheckpointContent:
    """The whole state; arrays may be those of the learner itself."""
    progress = learner.progress
    return CheckpointContent(
        CheckpointProgress(
            env_steps=progress.env_steps,
            episodes=progress.episodes,
            updates=progress.gradient_steps,
            version=version,
        ),
        {name: _to_array(tensor) for name, tensor in _tensors(learner).items()},
        {
            "sampling": dict(learner.sampling),
            "deployed_loss": learner.schedules.deployed_loss,
            "device": learner.device.type,
            "skipped_steps": progress.skipped_steps,
            "owed": learner.owed,
            "rollout_done": learner.rollout_done,
            "topology": _topology_notes(learner),
        },
        config,
    )


def restore(learner: Learner, content: CheckpointContent, where: str) -> None:
    """Bring a fresh learner of the same configuration to a captured state.

    Raises:
        CheckpointError: of a learner with other parts or dimensions; `where` says from where.
    """
    _begin_moments(learner)
    tensors = _tensors(learner)
    noise = tensors.pop("noise")
    arrays = dict(content.arrays)
    saved_noise = arrays.pop("noise", None)
    _fit_average(tensors, arrays)
    _require_same_shapes(where, tensors, arrays)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.tensor(arrays[name]))
    progress = content.progress
    learner.progress.env_steps = progress.env_steps
    learner.progress.episodes = progress.episodes
    learner.progress.gradient_steps = progress.updates
    try:
        learner.progress.skipped_steps = int(content.notes["skipped_steps"])
        learner.owed = float(content.notes.get("owed", 0.0))  # older checkpoints have none
        learner.rollout_done = int(content.notes.get("rollout_done", -1))
        learner.rng.bit_generator.state = content.notes["sampling"]
        heard = content.notes.get("deployed_loss")
        learner.schedules.deployed_loss = None if heard is None else float(heard)
        same_device = content.notes["device"] == learner.device.type
        if learner.topology is not None:
            evolutions, moved = content.notes["topology"]
            learner.topology.resume(int(evolutions), float(moved))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where} has damaged metadata: {error!r}") from error
    # A generator's state means nothing on another kind of device.
    if same_device and saved_noise is not None and saved_noise.shape == tuple(noise.shape):
        learner.generator.set_state(torch.tensor(saved_noise))
    else:
        learner.reseed()


def _tensors(learner: Learner) -> dict[str, Tensor]:
    """Everything that is saved as an array, by name; changing one changes the learner's."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in learner.online.named_parameters():
        tensors[f"online.{name}"] = parameter
        for moment, tensor in learner.optimiser.state.get(parameter, {}).items():
            if moment in _MOMENTS:
                tensors[f"adam.{moment}.{name}"] = tensor
    for part, module in learner.target.items():
        for name, parameter in module.named_parameters():
            tensors[f"target.{part}.{name}"] = parameter
    if learner.average is not None:
        for name, parameter in learner.average.network.named_parameters():
            tensors[f"{AVERAGE}{name}"] = parameter
    if learner.topology is not None:
        for name, mask in learner.topology.masks.items():
            tensors[f"mask.{name}"] = mask
    tensors["noise"] = learner.generator.get_state()
    return tensors


def _topology_notes(learner: Learner) -> tuple[int, float] | None:
    topology = learner.topology
    return None if topology is None else (topology.evolutions, topology.moved)


def _begin_moments(learner: Learner) -> None:
    """Give Adam its zeros now: it makes them at its first step, and a checkpoint fills them."""
    for parameter in learner.online.parameters():
        learner.optimiser.state[parameter] = {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


def _fit_average(tensors: Mapping[str, Tensor], arrays: dict[str, NDArray[Any]]) -> None:
    """A run may begin to average when it is resumed, with the newest parameters, or stop it."""
    for name in [name for name in arrays if name.startswith(AVERAGE) and name not in tensors]:
        del arrays[name]
    for name in tensors:
        newest = arrays.get(f"{ONLINE_POLICY}{name.removeprefix(AVERAGE)}")
        if name.startswith(AVERAGE) and newest is not None:
            arrays.setdefault(name, newest)


def _require_same_shapes(
    where: str, tensors: Mapping[str, Tensor], arrays: dict[str, NDArray[Any]]
) -> None:
    # A parameter that has not had a gradient yet has no moments to save: before the first step none
    # has, and with gates that are never scored the scorer never will.
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            arrays.setdefault(name, np.zeros(tuple(tensor.shape), dtype=np.float32))
    if set(arrays) != set(tensors):
        missing = sorted(set(tensors) - set(arrays))[:3]
        surplus = sorted(set(arrays) - set(tensors))[:3]
        raise CheckpointError(f"{where} is of another learner: without {missing}, with {surplus}")
    for name, tensor in tensors.items():
        if arrays[name].shape != tuple(tensor.shape):
            raise CheckpointError(
                f"{where}: {name} has shape {arrays[name].shape}, this run asks for "
                f"{tuple(tensor.shape)}"
            )


def _to_array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
