"""The networks of a learner: what is trained, and the targets that follow it.

    policy            always                    what is published
    mixer             QMIX and its kin          learner/mixers/
    central           OW-QMIX                   learner/central.py
    critic            FACMAC                    learner/facmac.py
    auxiliary         learner.aux               learner/auxiliary.py; has no target

The targets are a second `Modules` of the same shape.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from agents.policy import PolicySpec
from configs.arrays import FloatArray
from configs.schema import LearnerConfig, RunConfig
from configs.streams import Role
from learner import noise
from learner.auxiliary import MessageContrast, StatePredictor
from learner.central import CentralCritic, make_central
from learner.experience.episode import Dimensions
from learner.facmac import Critic
from learner.mixers import Mixer, make_mixer
from learner.network import PolicyNetwork
from runtime.net.topology import diameter


@dataclass(frozen=True, slots=True, eq=False)
class Modules:
    """Networks by what they are for; None: the algorithm has no such thing."""

    policy: PolicyNetwork
    mixer: Mixer | None
    central: CentralCritic | None
    critic: Critic | None
    auxiliary: StatePredictor | MessageContrast | None

    def by_name(self) -> dict[str, nn.Module]:
        """Those that exist, in an order and by names that checkpoints and masks rely on."""
        named: dict[str, nn.Module | None] = {
            "policy": self.policy,
            "mixer": self.mixer,
            "auxiliary": self.auxiliary,
            "central_agent": self.central and self.central.agent,
            "central_mixer": self.central and self.central.mixer,
            "critic": self.critic,
        }
        return {name: module for name, module in named.items() if module is not None}

    def targets(self) -> "Modules":
        """A frozen copy, to be called when parameters are where they will stay."""
        target = Modules(
            policy=copy.deepcopy(self.policy),
            mixer=copy.deepcopy(self.mixer),
            central=copy.deepcopy(self.central),
            critic=copy.deepcopy(self.critic),
            auxiliary=None,
        )
        for module in target.by_name().values():
            module.requires_grad_(False)
        return target


def make_modules(
    config: RunConfig, spec: PolicySpec, dimensions: Dimensions, flat: FloatArray
) -> Modules:
    """The networks that the configuration asks for.

    Args:
        flat: [P] parameters of the policy; all else is drawn from the run's seed.
    """
    learner, agents, state = config.learner, dimensions.num_agents, dimensions.state_dim
    policy = PolicyNetwork(spec, agents)
    policy.load_flat(flat)
    modules = Modules(
        policy=policy,
        mixer=make_mixer(learner, agents, state),
        central=make_central(learner, spec, agents, state),
        critic=_make_critic(learner, spec),
        auxiliary=_make_auxiliary(learner, spec, dimensions),
    )
    initial = noise.generator(config.seed, Role.NETWORKS)
    for name, module in modules.by_name().items():
        if name != "policy":
            initialise_linear_layers(module, initial)
    return modules


def _make_critic(config: LearnerConfig, spec: PolicySpec) -> Critic | None:
    if config.algorithm != "facmac":
        return None
    return Critic(spec.observation_dim, spec.num_actions, config.critic_hidden)


def _make_auxiliary(
    config: LearnerConfig, spec: PolicySpec, dimensions: Dimensions
) -> StatePredictor | MessageContrast | None:
    match config.aux:
        case "none":
            return None
        case "predict":
            return StatePredictor(spec.message, dimensions.state_dim)
        case "contrast":
            return MessageContrast(
                spec.message,
                negatives=config.aux_negatives,
                temperature=config.aux_temperature,
                diameter=diameter(dimensions.num_agents),
            )


@torch.no_grad()
def initialise_linear_layers(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every linear layer anew from U(±1/sqrt(fan_in)), and a GRU's from U(±1/sqrt(hidden)),
    torch's defaults, but from our own stream.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        elif isinstance(layer, nn.GRU):
            bound = layer.hidden_size**-0.5
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
