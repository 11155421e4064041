"""Small dense networks with as many parameters as the sparse ones: "tiny" in MAST's table 1.

    sparse run -> parameters of each network that exist -> sizes of dense networks that match

Biases count on both sides. All sizes of a network shrink by the same factor, except that the second
one may be a few units off: one unit more of a small network's hidden layer alone is a tenth of it.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from agents.policy import PolicySpec, initialise
from configs import streams
from configs.schema import RunConfig, SparseConfig
from configs.streams import Role
from learner.central import make_central
from learner.experience.episode import Dimensions
from learner.facmac import Critic
from learner.learner import Learner
from learner.mixers import make_mixer
from learner.sparse.accounting import Layers, networks_of

_AROUND = (0, -1, 1, -2, 2, -3, 3)
"""Units by which the second size may leave its proportion."""

Sizes = dict[str, int]
"""Units by the keys of the configuration."""


@dataclass(frozen=True, slots=True)
class Match:
    """A dense network in place of a sparse one."""

    sizes: Sizes
    parameters: int
    wanted: int


def match(full: Sizes, count: Callable[[Sizes], int], wanted: int) -> Match:
    """The smaller sizes whose network is nearest to a number of parameters.

    Args:
        full: sizes of the large network.
        count: parameters of a network of such sizes, the more the larger they are.
        wanted: parameters.
    """
    first, *others = full

    def shrunk(units: int) -> Sizes:
        return {name: max(round(size * units / full[first]), 1) for name, size in full.items()}

    units = range(1, full[first] + 1)
    at = bisect_left(units, wanted, key=lambda number: count(shrunk(number)))
    near = [shrunk(number) for number in units[max(at - 2, 0) : at + 2]]
    candidates = [
        sizes | {name: max(sizes[name] + more, 1) for name in others[:1]}
        for sizes in near
        for more in _AROUND
    ]
    best = min(candidates, key=lambda sizes: abs(count(sizes) - wanted))
    return Match(best, count(best), wanted)


def matches(config: RunConfig, dimensions: Dimensions) -> dict[str, Match]:
    """Dense networks for those of a sparse run, by part of the learner.

    Raises:
        ValueError: the run is not sparse.
    """
    if config.sparse.method == "none":
        raise ValueError("sparse.method is none: there is nothing to match")
    network, learner = config.network, config.learner
    agents, state = dimensions.num_agents, dimensions.state_dim
    spec = PolicySpec.of(network, dimensions.observation_dim, dimensions.num_actions)
    sparse = replace(config, policy="", learner=replace(learner, teacher="", device="cpu"))
    links = networks_of(
        Learner(
            sparse, spec, dimensions, initialise(spec, streams.generator(config.seed, Role.POLICY))
        ),
        sparse,
    )
    policy: Sizes = {
        name: getattr(network, name)
        for name in ("hidden", "message", "attention", "beacon", "edge_embedding", "scorer")
    }
    mixer = {"mixing_embed": learner.mixing_embed, "hypernet_embed": learner.hypernet_embed}

    def of_critic(sizes: Sizes) -> int:
        with torch.device("meta"):
            return _count(Critic(spec.observation_dim, spec.num_actions, sizes["critic_hidden"]))

    # On the device without memory: parameters are counted and never used.
    def of_mixer(sizes: Sizes) -> int:
        with torch.device("meta"):
            return _count(make_mixer(replace(learner, **sizes), agents, state))

    def of_central(part: str) -> Callable[[Sizes], int]:
        def count(sizes: Sizes) -> int:
            with torch.device("meta"):
                central = make_central(replace(learner, **sizes), spec, agents, state)
            return _count(getattr(central, part))

        return count

    found = {
        "policy": match(policy, lambda sizes: replace(spec, **sizes).size, _parameters(links.agent))
    }
    if links.mixer:
        found["mixer"] = match(mixer, of_mixer, _parameters(links.mixer))
    if links.central_agent:
        hidden, embed = {"central_hidden": learner.central_hidden}, learner.central_embed
        wanted = _parameters(links.central_agent), _parameters(links.central_mixer)
        found["central_agent"] = match(hidden, of_central("agent"), wanted[0])
        found["central_mixer"] = match({"central_embed": embed}, of_central("mixer"), wanted[1])
    if links.critic:
        full = {"critic_hidden": learner.critic_hidden}
        found["critic"] = match(full, of_critic, _parameters(links.critic))
    return found


def tiny(config: RunConfig, found: dict[str, Match]) -> RunConfig:
    """The dense run of these sizes."""
    of_learner = {
        key: size
        for part, one in found.items()
        if part != "policy"
        for key, size in one.sizes.items()
    }
    return replace(
        config,
        sparse=SparseConfig(),
        network=replace(config.network, **found["policy"].sizes),
        learner=replace(config.learner, **of_learner),
    )


def _parameters(layers: Layers) -> int:
    return sum(layer.links + layer.biases for layer in layers)


def _count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module is not None else 0
