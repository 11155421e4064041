"""The topology of the networks in training: masks at their parameters, and how they move.

    backward -> dense gradient ─ masked ─▶ clip, Adam (absent weights and moments stay 0)
                      └───────── every `period` steps ─▶ drop, grow (learner/sparse/evolution.py)

What does not exist is an exact 0 in its tensor, and so are its gradient and its moments after
`mask_gradients`: Adam then leaves it alone. A link that grows therefore begins at 0 with moments 0
(MAST, algorithm 1; RigL), and only those that are dropped have to be cleared. Adam's count of steps
is one number for a whole tensor and goes on.

Initial weights are those of the dense network times the mask: algorithm 2 of MAST, line 2, and
RLx2. A unit with a tenth of its inputs then hears a third as much, and after five layers nothing is
left: `sparse.initial scaled` makes up for it, unit by unit (Evci et al., 2022, "Gradient Flow in
Sparse Neural Networks and How Lottery Tickets Win"). A network that is trained already keeps its
largest weights instead of random ones, and them as they are.

Chance is drawn from streams of its own, seeded by the run and the step: the same at every rank, and
nothing that a checkpoint would have to hold.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs import streams
from configs.arrays import BoolArray
from configs.schema import SparseConfig
from configs.streams import Role
from learner.sparse.allocation import Shape, numbers_of_links
from learner.sparse.evolution import cosine_share, evolve
from learner.sparse.layers import masked_layers, pools
from learner.sparse.masks import cut, draw

logger = logging.getLogger(__name__)

_MOMENTS = ("exp_avg", "exp_avg_sq")
_WORTH_SAYING = 0.005
"""Difference between the sparsity that was asked for and the one that there is."""


class Topology:
    """Masks of the networks that are trained.

    Args:
        config: method, sparsity, pattern.
        parameters: of all networks by name; absent weights become zeros here.
        seed: of the run.
        trained: networks whose weights are worth keeping: the largest become links.

    Raises:
        ValueError: `sparse.dense` names all layers there are.
    """

    def __init__(
        self,
        config: SparseConfig,
        parameters: Iterable[tuple[str, nn.Parameter]],
        seed: int,
        *,
        trained: Collection[str] = (),
    ) -> None:
        self._config = config
        self._seed = seed
        self._layers = masked_layers(parameters, config.dense)
        if not self._layers:
            raise ValueError(
                f"sparse.dense {' '.join(config.dense)} leaves nothing to be masked: take a layer "
                "out, or give sparse.method none"
            )
        self.masks: dict[str, Tensor] = {}
        """[out, in] bool of each masked matrix, on its device: True where a weight exists."""
        self.evolutions = 0
        """How often links have moved."""
        self.moved = 0.0
        """Share of the links that the last evolution moved elsewhere."""
        self._figures: dict[str, float] | None = None
        rng = streams.generator(seed, Role.TOPOLOGY)
        zeros = 0.0
        for pool in pools(config, self._layers):
            layers = {name: self._layers[name] for name in pool.names}
            shapes = [_shape(layer) for layer in layers.values()]
            numbers = numbers_of_links(shapes, 1.0 - pool.sparsity, config.allocation)
            zeros += pool.sparsity * sum(layer.numel() for layer in layers.values())
            for (name, layer), number in zip(layers.items(), numbers, strict=True):
                magnitude = np.abs(_array(layer)) if _network_of(name) in trained else None
                mask = draw(_shape(layer), number, config.pattern, config.group, rng, magnitude)
                self.masks[name] = torch.tensor(mask, device=layer.device)
        asked = zeros / sum(layer.numel() for layer in self._layers.values())
        self._by_parameter = {layer: self.masks[name] for name, layer in self._layers.items()}
        for layer in self._by_parameter:
            self.cut(layer, layer)
        if config.initial == "scaled":
            self._widen(trained)
        self._say_what_came_of_it(asked)

    @torch.no_grad()
    def _widen(self, trained: Collection[str]) -> None:
        """Give each unit the weights that a dense one with so few inputs begins with."""
        for name, layer in self._layers.items():
            if _network_of(name) not in trained:
                links_O = self.masks[name].sum(1, keepdim=True).clamp(min=1)
                layer.mul_((layer.shape[1] / links_O).sqrt())

    def _say_what_came_of_it(self, asked: float) -> None:
        """Patterns have whole numbers of places, and layers at least one: warn where that shows."""
        reached, pattern = self.figures()["sparsity"], self._config.pattern
        if abs(reached - asked) > _WORTH_SAYING:
            logger.warning(
                "sparsity is %.3f, %.3f was asked for: %s with groups of %d cannot come nearer",
                reached, asked, pattern, self._config.group,
            )  # fmt: skip

    # --- between evolutions -----------------------------------------------------------------------

    def mask_of(self, parameter: nn.Parameter) -> Tensor | None:
        """bool: which of its entries exist; None: all do."""
        return self._by_parameter.get(parameter)

    @torch.no_grad()
    def cut(self, tensor: Tensor, parameter: nn.Parameter) -> None:
        """Clear what does not exist of a tensor that is laid out like a parameter."""
        mask = self.mask_of(parameter)
        if mask is not None:
            # Not a product: it would leave -0.0, whose bits travel, and NaN.
            tensor.masked_fill_(~mask, 0.0)

    def mask_gradients(self) -> dict[str, Tensor]:
        """Give absent weights the gradient 0; returns what the gradients were, by layer."""
        dense: dict[str, Tensor] = {}
        for name, layer in self._layers.items():
            if layer.grad is not None:
                dense[name] = layer.grad
                layer.grad = layer.grad.masked_fill(~self.masks[name], 0.0)
        return dense

    # --- evolution --------------------------------------------------------------------------------

    def share(self, gradient_steps: int, done: float) -> float:
        """Share of its links that each layer replaces now; 0 where no evolution is due.

        Args:
            gradient_steps: taken so far.
            done: share of the run's environment steps that are over.
        """
        config = self._config
        if config.method == "static" or gradient_steps % config.period != 0:
            return 0.0
        return cosine_share(config.fraction, gradient_steps / config.end if config.end else done)

    def evolve(
        self,
        dense: Mapping[str, Tensor],
        moments: Mapping[Tensor, Mapping[str, Any]],
        share: float,
        gradient_steps: int,
    ) -> None:
        """Move links, after the optimiser's step.

        Layers without a gradient have no part in the loss, and keep their links.

        Args:
            dense: gradients of all weights, absent ones included.
            moments: Adam's state by parameter.
            share: of the links, to be replaced.
            gradient_steps: taken so far; chance is drawn from it and the run's seed.
        """
        rng = streams.generator(self._seed, Role.EVOLUTION, gradient_steps=gradient_steps)
        links, moved = 0, 0
        for name, layer in self._layers.items():
            before: BoolArray = self.masks[name].cpu().numpy()
            links += int(before.sum())
            if name not in dense:
                continue
            magnitude, gradient = np.abs(_array(layer)), np.abs(_array(dense[name]))
            after = self._next(before, magnitude, gradient, share, rng)
            moved += int((after & ~before).sum())
            # In place: parameters and checkpoints know this very tensor.
            self.masks[name].copy_(torch.tensor(after))
            self.cut(layer, layer)
            for moment in _MOMENTS:
                self.cut(moments[layer][moment], layer)
        self.evolutions += 1
        self.moved = moved / max(links, 1)
        self._figures = None

    def _next(
        self,
        links_OI: BoolArray,
        magnitude_OI: NDArray[np.floating],
        gradient_OI: NDArray[np.floating],
        share: float,
        rng: np.random.Generator,
    ) -> BoolArray:
        config = self._config
        outputs, inputs = links_OI.shape
        groups, places, width = cut((outputs, inputs), config.pattern, config.group)
        # A block exists as a whole, and counts with the sum of its weights.
        links_GU = links_OI.reshape(groups, places, width)[..., 0]
        magnitude_GU = magnitude_OI.reshape(groups, places, width).sum(-1)
        attraction_GU = gradient_OI.reshape(groups, places, width).sum(-1)
        if config.method == "set":
            attraction_GU = rng.random((groups, places))
        after_GU = evolve(links_GU, magnitude_GU, attraction_GU, share, rng)
        return np.repeat(after_GU[..., None], width, axis=-1).reshape(links_OI.shape)

    # --- what there is to see ---------------------------------------------------------------------

    def resume(self, evolutions: int, moved: float) -> None:
        """Go on from counters that belong to the masks as they now are."""
        self.evolutions, self.moved = evolutions, moved
        self._figures = None

    def figures(self) -> dict[str, float]:
        """Metrics of the topology as it is.

        `active_weights` counts links and `sparsity` is the share of zeros, both of the masked
        matrices. `dead_outputs` are rows without a link: what they say is their bias.
        `dead_inputs` are columns without one: what they hear is lost on this layer.
        """
        if self._figures is None:
            masks: list[BoolArray] = [mask.cpu().numpy() for mask in self.masks.values()]
            links = sum(int(mask.sum()) for mask in masks)
            self._figures = {
                "active_weights": links,
                "sparsity": 1.0 - links / sum(mask.size for mask in masks),
                "topology_moved": self.moved,
                "topology_evolutions": self.evolutions,
                "dead_outputs": sum(int((~mask.any(axis=1)).sum()) for mask in masks),
                "dead_inputs": sum(int((~mask.any(axis=0)).sum()) for mask in masks),
            }
        return self._figures


def _network_of(name: str) -> str:
    """The network to which a parameter belongs."""
    return name.partition(".")[0]


def _shape(layer: Tensor) -> Shape:
    outputs, inputs = layer.shape
    return outputs, inputs


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return array
