"""Model size and FLOPs of training and inference (MAST, equations 8 to 24 and table 4).

    layers of all networks, their links -> parameters -> summary.json
                                        -> FLOPs of one agent's step, and of training on one step

What layers cost is in learner/sparse/layer_costs.py, what an algorithm costs per step in a batch
with B = 1 in its own file:

    iql, vdn, qmix   4 agents + 4 mix                                                      (16)
    wqmix            3 agents + 3 mix + 4 unrestricted agents + 4 unrestricted mix         (21)
    res              4 agents + (3 + 2 n m) mix                                            (24)

Where the paper leaves something open, its table 1 decides; the tests compute its columns again:
"agents" are all n of them, biases count in the model's size (they stay dense), and the product of
the agents' values with the generated weights counts in the mixing network, with S = 0. For RES
table 4 has 5 + n m in place of 3 + 2 n m; table 1 is from equation 24.

These are figures on paper, for comparison with the paper: they suppose that what is absent costs
nothing. This learner computes with dense tensors, and evaluates RES's hypernetworks once and not
2 n m times. Left out like there: topology evolution, copying targets, exploration; and what has no
weights of its own, like the softmax over messages.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import nn

from configs.schema import RunConfig
from learner.comm.gates import GateRule
from learner.learner import Learner
from learner.sparse.layer_costs import Layer, Layers, Networks, flops, parameters, weights


def in_training(networks: Networks, targets: Collection[str], size: Callable[[Layers], int]) -> int:
    """Numbers in training (equations 8 and 9, table 4): what is trained, and targets in use.

    Args:
        targets: parts whose targets are used, "policy" among them.
        size: `weights`, or `parameters`: "total size" in table 1.
    """
    parts = {"policy": networks.agent, **networks.parts}
    times = {"policy": networks.policies}
    return sum(
        times.get(name, 1) * size(layers) * (1 + (name in targets))
        for name, layers in parts.items()
    )


def account(learner: Learner, config: RunConfig) -> dict[str, float]:
    """The figures of a learner, and what they would be without masks. They do not change while it
    trains: the topology keeps the number of links.
    """
    algorithm, networks = learner.algorithm, networks_of(learner, config)
    targets = set(algorithm.target) - algorithm.idle_targets
    found: dict[str, float] = {}
    for ending, these in (("", networks), ("_dense", networks.dense())):
        found |= {
            f"model_weights{ending}": in_training(these, targets, weights),
            f"model_size{ending}": in_training(these, targets, parameters),
            f"inference_flops{ending}": flops(these.agent),
            f"training_flops{ending}": algorithm.flops(these),
        }
    return found


def networks_of(learner: Learner, config: RunConfig) -> Networks:
    """The layers of a learner's networks and the links that they have now."""
    num_agents = learner.dimensions.num_agents

    def layers(name: str, uses: Mapping[str, int] | None = None) -> Layers:
        network: Any = learner.online[name]  # torch does not type named_modules()
        if name == "policy" and learner.network.each:
            network = network.each[0]
        modules: Iterable[tuple[str, nn.Module]] = network.named_modules()
        found = [_layer(learner, module, (uses or {}).get(path, 1)) for path, module in modules]
        return tuple(layer for layer in found if layer is not None)

    others = [name for name in learner.online if name not in ("policy", "auxiliary")]
    return Networks(
        num_agents=num_agents,
        num_actions=learner.dimensions.num_actions,
        policies=learner.network.spec.policies,
        agent=layers("policy", learner.network.uses(GateRule.of(config.comm, config.gate))),
        parts={name: layers(name) for name in others},
        mixing_flops=learner.algorithm.mixing_flops(learner.algorithm.setup),
    )


def _layer(learner: Learner, module: nn.Module, uses: int) -> Layer | None:
    """What a module is as a layer; None: a container, or without weights."""
    own = list(module.parameters(recurse=False))
    matrices = [parameter for parameter in own if parameter.ndim >= 2]
    if not matrices:
        return None
    masks = [learner.topology and learner.topology.mask_of(matrix) for matrix in matrices]
    return Layer(
        outputs=len(matrices[0]),
        # A kernel's inputs are all numbers that lie under it.
        inputs=sum(matrix[0].numel() for matrix in matrices),
        links=sum(
            matrix.numel() if mask is None else int(mask.sum())
            for matrix, mask in zip(matrices, masks, strict=True)
        ),
        biases=sum(parameter.numel() for parameter in own if parameter.ndim == 1),
        uses=uses,
    )
