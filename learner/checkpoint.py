"""A learner's whole state <-> the content of a checkpoint.

    policy, mixer, auxiliary, their targets, Adam's moments, counters, generators  <->  arrays, JSON

The replay is not in it: its newest episodes are in the journal (learner/journal.py). Given the same
replay, a restored learner takes exactly the steps that the saved one would have taken.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learner.checkpoint_file import (
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
    progress = learner.progress
    content = CheckpointContent(
        CheckpointProgress(
            env_steps=progress.env_steps,
            episodes=progress.episodes,
            updates=progress.gradient_steps,
            version=version,
        ),
        {name: _to_array(tensor) for name, tensor in _tensors(learner).items()},
        {
            "sampling": learner.rng.bit_generator.state,
            "device": learner.device.type,
            "skipped_steps": progress.skipped_steps,
            "owed": learner.owed,
        },
        config,
    )
    write_checkpoint(path, content)


def load_checkpoint(path: Path, learner: Learner) -> CheckpointProgress:
    """Bring a fresh learner of the same configuration to the saved state.

    Raises:
        CheckpointError: unreadable, or of a learner with other parts or dimensions.
    """
    content = read_checkpoint(path)
    _begin_moments(learner)
    tensors = _tensors(learner)
    noise = tensors.pop("noise")
    arrays = dict(content.arrays)
    saved_noise = arrays.pop("noise", None)
    _require_same_shapes(path, tensors, arrays)
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
        learner.rng.bit_generator.state = content.notes["sampling"]
        same_device = content.notes["device"] == learner.device.type
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} has damaged metadata: {error!r}") from error
    # A generator's state means nothing on another kind of device.
    if same_device and saved_noise is not None and saved_noise.shape == tuple(noise.shape):
        learner.generator.set_state(torch.tensor(saved_noise))
    else:
        learner.reseed()
    return progress


def _tensors(learner: Learner) -> dict[str, Tensor]:
    """Everything that is saved as an array, by name; changing one changes the learner's."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in learner.online.named_parameters():
        tensors[f"online.{name}"] = parameter
        for moment, tensor in learner.optimiser.state.get(parameter, {}).items():
            if moment in _MOMENTS:
                tensors[f"adam.{moment}.{name}"] = tensor
    targets: tuple[tuple[str, nn.Module | None], ...] = (
        ("target.policy", learner.target_network),
        ("target.mixer", learner.target_mixer),
    )
    for prefix, module in targets:
        for name, parameter in module.named_parameters() if module is not None else ():
            tensors[f"{prefix}.{name}"] = parameter
    tensors["noise"] = learner.generator.get_state()
    return tensors


def _begin_moments(learner: Learner) -> None:
    """Give Adam its zeros now: it makes them at its first step, and a checkpoint fills them."""
    for parameter in learner.online.parameters():
        learner.optimiser.state[parameter] = {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


def _require_same_shapes(
    path: Path, tensors: Mapping[str, Tensor], arrays: dict[str, NDArray[Any]]
) -> None:
    # A learner that has not taken a step yet has no moments to save.
    if not any(name.startswith("adam.") for name in arrays):
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                arrays[name] = np.zeros(tuple(tensor.shape), dtype=np.float32)
    if set(arrays) != set(tensors):
        missing = sorted(set(tensors) - set(arrays))[:3]
        surplus = sorted(set(arrays) - set(tensors))[:3]
        raise CheckpointError(
            f"checkpoint {path} is of another learner: without {missing}, with {surplus}"
        )
    for name, tensor in tensors.items():
        if arrays[name].shape != tuple(tensor.shape):
            raise CheckpointError(
                f"checkpoint {path}: {name} has shape {arrays[name].shape}, this run asks for "
                f"{tuple(tensor.shape)}"
            )


def _to_array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
