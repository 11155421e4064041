"""What an update keeps for its backward pass: the activation size of table 8 of the SOPS paper.

    run folder: policy, journal -> one batch -> loss -> all tensors that its graph refers to

The paper says that it estimates activations and not how. Here they are counted: after the forward
pass of each part of a batch, the autograd graph is walked from the loss, and the memory of every
tensor that a node has saved is added up, each piece of memory once, parameters left out.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from agents.comm.graphs import graph_of
from agents.policy import load_policy
from configs.errors import UserError
from configs.load import read_resolved
from configs.run_files import JOURNAL, POLICY
from envs.registry import spec_of
from learner.algorithms.base import SharedLoss
from learner.experience.episode import Dimensions
from learner.experience.journal import Journal
from learner.hardware import resolve_device
from learner.learner import Learner


class Activations(NamedTuple):
    """Of one update."""

    update_bytes: int
    """Of all parts of the batch together: what would be kept if it were worked off at once."""
    at_once_bytes: int
    """Of the largest part, which is what memory has to hold."""
    peak_gpu_bytes: int | None
    """Most memory that torch had allocated on the GPU within the update; None on a CPU."""


def activations_of(run: Path) -> Activations:
    """Take the first half of an update from the episodes that a run has kept, on its device.

    Raises:
        UserError, ValueError: the folder is none of a run, or keeps no episodes.
    """
    config, _ = read_resolved(run)
    policy = load_policy(run / POLICY)
    graph = graph_of(config.comm, config.comm_options, config.num_agents)
    dimensions = Dimensions.of(spec_of(config.env, config.num_agents), graph=graph)
    device = resolve_device(config.learner)
    learner = Learner(config, policy.spec, dimensions, policy.flat, device)
    for _, episode in Journal(run / JOURNAL, sys.maxsize).load(dimensions):
        learner.add(episode)
    if len(learner.replay) == 0:
        raise UserError(f"{run} keeps no episodes: train with learner.journal-episodes above 0")
    parameters = list(learner.online.parameters())
    parts: list[int] = []

    def count(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(module, SharedLoss):
            parts.append(kept_bytes(output[0], parameters))

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    handle = register_module_forward_hook(count)
    try:
        learner.compute_gradient()
    finally:
        handle.remove()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Activations(sum(parts), max(parts), peak)


def kept_bytes(loss: Tensor, parameters: list[nn.Parameter]) -> int:
    """Memory of all tensors that the graph behind a loss has saved, without the parameters'."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    pieces: dict[int, int] = {}
    waiting, seen = [loss.grad_fn], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
        for tensor in _saved(node):
            storage = tensor.untyped_storage()
            pieces[storage.data_ptr()] = storage.nbytes()
    return sum(size for at, size in pieces.items() if at not in own)


def _saved(node: Any) -> Iterator[Tensor]:
    """Torch's own nodes have attributes `_saved_…`, our functions `saved_tensors` and whatever
    else they have put into their context.
    """
    for name in dir(node):
        if name.startswith("_saved_"):
            yield from _tensors(getattr(node, name))
    yield from _tensors(getattr(node, "saved_tensors", ()))
    yield from _tensors(list(getattr(node, "__dict__", {}).values()))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in cast("list[Any]", value):
            yield from _tensors(each)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _tensors(getattr(value, each.name))
