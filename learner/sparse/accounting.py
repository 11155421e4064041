"""Model size and FLOPs of training and inference (MAST, equations 8 to 24 and table 4).

    layers of all networks, their links -> parameters -> summary.json
                                        -> FLOPs of one agent's step, and of training on one step

What a layer of I inputs and O outputs costs, with S its sparsity:

    weights  (1 - S) I O            FLOPs  (1 - S) (2 I - 1) O                          (8, 10)
    GRU: the same with I + h inputs and 3 h outputs                                     (9, 11)

and what an algorithm costs per step in a batch, with B = 1:

    iql, vdn, qmix   4 agents + 4 mix                                                      (16)
    wqmix            3 agents + 3 mix + 4 unrestricted agents + 4 unrestricted mix         (21)
    res              4 agents + (3 + 2 n m) mix                                            (24)
    facmac           4 agents + 6 critics + 6 mix: not in the paper, counted the same way: three
                     forward passes (played, policy's, target's), a whole backward pass for the
                     critic, and half a one, to its inputs, for the actor

Where the paper leaves something open, its table 1 decides; the tests compute its columns again:
"agents" are all n of them, biases count in the model's size (they stay dense), and the product of
the agents' values with the generated weights counts in the mixing network, with S = 0. For RES
table 4 has 5 + n m in place of 3 + 2 n m; table 1 is from equation 24.

These are figures on paper, for comparison with the paper: they suppose that what is absent costs
nothing. This learner computes with dense tensors, and evaluates RES's hypernetworks once and not
2 n m times. Left out like there: topology evolution, copying targets, exploration; and what has no
weights of its own, like the softmax over messages.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from configs.schema import Algorithm, RunConfig
from learner.learner import Learner
from learner.mixers import QMixer, VDNMixer
from learner.sparse.layers import GROUPS
from runtime.net.topology import offsets


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A linear layer, or a GRU as one of (I + h) inputs and 3 h outputs."""

    outputs: int
    inputs: int
    links: int
    """Weights that exist, (1 - S) I O."""
    biases: int = 0
    uses: int = 1
    """How often a step needs it: once, or once for every out-edge."""

    @property
    def flops(self) -> float:
        density = self.links / (self.outputs * self.inputs)
        return self.uses * density * (2 * self.inputs - 1) * self.outputs

    def dense(self) -> "Layer":
        return replace(self, links=self.outputs * self.inputs)


Layers = tuple[Layer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """All that takes part in training."""

    num_agents: int
    num_actions: int
    agent: Layers
    mixer: Layers = ()
    """Hypernetworks."""
    mixing_flops: int = 0
    """Of the mixing itself, whose weights are the hypernetworks' output."""
    central_agent: Layers = ()
    central_mixer: Layers = ()
    critic: Layers = ()

    def dense(self) -> "Networks":
        """The same without masks."""
        return replace(
            self,
            agent=tuple(layer.dense() for layer in self.agent),
            mixer=tuple(layer.dense() for layer in self.mixer),
            central_agent=tuple(layer.dense() for layer in self.central_agent),
            central_mixer=tuple(layer.dense() for layer in self.central_mixer),
            critic=tuple(layer.dense() for layer in self.critic),
        )


def model_weights(algorithm: Algorithm, networks: Networks) -> int:
    """Weights in training, targets included (equations 8 and 9, table 4)."""
    return _in_training(algorithm, networks, lambda layers: sum(layer.links for layer in layers))


def model_size(algorithm: Algorithm, networks: Networks) -> int:
    """The same with biases: "total size" in table 1."""
    return _in_training(
        algorithm, networks, lambda layers: sum(layer.links + layer.biases for layer in layers)
    )


def _in_training(algorithm: Algorithm, networks: Networks, size: Callable[[Layers], int]) -> int:
    ours = size(networks.agent) + size(networks.mixer)
    if algorithm == "wqmix":
        # Both targets are the unrestricted ones'.
        return ours + 2 * (size(networks.central_agent) + size(networks.central_mixer))
    return 2 * (ours + size(networks.critic))


def inference_flops(networks: Networks) -> float:
    """One step of one agent."""
    return sum(layer.flops for layer in networks.agent)


def training_flops(algorithm: Algorithm, networks: Networks) -> float:
    """One step of all agents in a batch: forward passes online and target, and a backward pass that
    costs two of them (equations 13 to 24).
    """
    agents = networks.num_agents * inference_flops(networks)
    mix = sum(layer.flops for layer in networks.mixer) + networks.mixing_flops
    match algorithm:
        case "iql" | "vdn" | "qmix":
            return 4 * (agents + mix)
        case "wqmix":
            central = networks.num_agents * sum(layer.flops for layer in networks.central_agent)
            central += sum(layer.flops for layer in networks.central_mixer)
            return 3 * (agents + mix) + 4 * central
        case "res":
            deviations = networks.num_agents * networks.num_actions
            return 4 * agents + (3 + 2 * deviations) * mix
        case "facmac":
            critics = networks.num_agents * sum(layer.flops for layer in networks.critic)
            return 4 * agents + 6 * (critics + mix)


# --- of a learner ---------------------------------------------------------------------------------


def account(learner: Learner, config: RunConfig) -> dict[str, float]:
    """The figures of a learner, and what they would be without masks. They do not change while it
    trains: the topology keeps the number of links.
    """
    networks = networks_of(learner, config)
    dense, algorithm = networks.dense(), config.learner.algorithm
    return {
        "model_weights": model_weights(algorithm, networks),
        "model_weights_dense": model_weights(algorithm, dense),
        "model_size": model_size(algorithm, networks),
        "model_size_dense": model_size(algorithm, dense),
        "inference_flops": inference_flops(networks),
        "inference_flops_dense": inference_flops(dense),
        "training_flops": training_flops(algorithm, networks),
        "training_flops_dense": training_flops(algorithm, dense),
    }


def networks_of(learner: Learner, config: RunConfig) -> Networks:
    """The layers of a learner's networks and the links that they have now."""
    num_agents = learner.dimensions.num_agents

    def layers(name: str, uses: Mapping[str, int] | None = None) -> Layers:
        if name not in learner.online:
            return ()
        network: Any = learner.online[name]  # torch does not type named_modules()
        modules: Iterable[tuple[str, nn.Module]] = network.named_modules()
        found = [_layer(learner, module, (uses or {}).get(path, 1)) for path, module in modules]
        return tuple(layer for layer in found if layer is not None)

    return Networks(
        num_agents=num_agents,
        num_actions=learner.dimensions.num_actions,
        agent=layers("policy", _uses(config, num_agents)),
        mixer=layers("mixer"),
        mixing_flops=_mixing_flops(learner, num_agents),
        central_agent=layers("central_agent"),
        central_mixer=layers("central_mixer"),
        critic=layers("critic"),
    )


def _layer(learner: Learner, module: nn.Module, uses: int) -> Layer | None:
    """What a module is as a layer; None: a container, or without weights."""
    if not isinstance(module, nn.Linear | nn.GRU):
        return None
    matrices = [parameter for parameter in module.parameters() if parameter.ndim == 2]
    masks = [learner.topology and learner.topology.mask_of(matrix) for matrix in matrices]
    return Layer(
        outputs=len(matrices[0]),
        inputs=sum(matrix.shape[1] for matrix in matrices),
        links=sum(
            matrix.numel() if mask is None else int(mask.sum())
            for matrix, mask in zip(matrices, masks, strict=True)
        ),
        biases=sum(parameter.numel() for parameter in module.parameters() if parameter.ndim == 1),
        uses=uses,
    )


def _uses(config: RunConfig, num_agents: int) -> dict[str, int]:
    """How often an agent's step needs the layers that it does not need exactly once."""
    uses = {"edge": 0}  # once per policy version
    if config.comm == "sops" and config.gate.mode == "learned":
        out_edges = len(offsets(num_agents))
        return uses | {"scorer_hidden": out_edges, "scorer_out": out_edges}
    uses |= dict.fromkeys(GROUPS["scorer"], 0)
    if config.comm == "none" or config.gate.mode == "closed":
        # One's own last message is all there is to attend to.
        uses |= {"query": 0, "key": 0}
    return uses


def _mixing_flops(learner: Learner, num_agents: int) -> int:
    """Of n inputs, E units and one output; or of a plain sum."""
    if isinstance(learner.modules.mixer, QMixer):
        units = learner.modules.mixer.mixing_embed
        return (2 * num_agents - 1) * units + 2 * units - 1
    return num_agents - 1 if isinstance(learner.modules.mixer, VDNMixer) else 0
