"""FACMAC: policies that climb a factored critic (Peng et al., 2021), with discrete actions.

    observation, action -> Critic -> q of each agent ─┐
                                         global state ┴-> monotonic mixer -> q_tot
    critic: TD, bootstrapped by the target critic at what the target policy would do
    actor:  logits + Gumbel noise -> one-hot, straight through -> the same critic -> maximise q_tot

The agents are those of the other algorithms: what is their Q head elsewhere are logits here, and
they act by the largest. Unlike in the paper's code they explore by epsilon alone, where that one
samples from the logits as well, and one bound holds for the gradient of actor and critic together.

Dimension key: T = time, B = batch, N = agents, D = observation features, A = actions, S = state.
"""

import copy

import torch
from torch import Tensor, nn

from configs.algorithms.facmac import TRAITS
from learner.algorithms.base import Loss, ParameterGroup, Setup
from learner.algorithms.value_based import ValueBased
from learner.experience.part import Divisors, Part
from learner.experience.replay import Rows
from learner.kernels.one_hot import one_hot
from learner.kernels.straight_through import straight_through
from learner.mixers.qmix import QMixer
from learner.sparse.layer_costs import Networks
from learner.targets import living_only


class Critic(nn.Module):
    """q of an agent's action; three layers without a memory, shared by all agents."""

    def __init__(self, observation_dim: int, num_actions: int, hidden: int) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.net = nn.Sequential(
            nn.Linear(observation_dim + num_actions, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, observation_D: Tensor, one_hot_A: Tensor) -> Tensor:
        """[…, D], […, A] -> […]"""
        return self.net(torch.cat((observation_D, one_hot_A), dim=-1)).squeeze(-1)

    def of_actions(self, observation_D: Tensor, actions: Tensor) -> Tensor:
        """[…, D], […] int64 -> […]"""
        one_hot_A = one_hot(actions, self.num_actions, observation_D.dtype)
        return self(observation_D, one_hot_A)


def gumbel_one_hot(logits_TBNA: Tensor, generator: torch.Generator, rows: Rows) -> Tensor:
    """[T, B, N, A] actions drawn from softmax(logits), with the gradient of what is drawn from.

    Noise is drawn for all rows of the part, so that it does not depend on who works off which.
    """
    time, _, *rest = logits_TBNA.shape
    noise = torch.empty((time, rows.of, *rest), device=logits_TBNA.device, dtype=logits_TBNA.dtype)
    # Gumbel noise is -log of exponential noise.
    noisy = logits_TBNA - noise.exponential_(generator=generator)[:, rows.slice].log()
    hard = one_hot(noisy.argmax(-1), logits_TBNA.shape[-1], logits_TBNA.dtype)
    return straight_through(noisy.softmax(-1), hard)


def policy_value(
    critic: Critic,
    mixer: QMixer,
    observations_TBND: Tensor,
    one_hot_TBNA: Tensor,
    alive_TBN: Tensor,
    states_TBS: Tensor,
) -> Tensor:
    """[T, B] q_tot of the policy's actions, whose gradient reaches these and not the critic."""
    q_TBN = _held(critic)(observations_TBND, one_hot_TBNA) * alive_TBN
    return _held(mixer)(q_TBN, states_TBS)


def _held(module: nn.Module) -> nn.Module:
    """The same network, its parameters taken for constants.

    A shallow copy. `torch.func.functional_call` would put other parameters into the module itself
    for as long as it runs, and threads that work off parts side by side share the module.
    """
    held = copy.copy(module)
    held.__dict__ = dict(module.__dict__)
    own = module.named_parameters(recurse=False)
    held.__dict__["_parameters"] = {name: parameter.detach() for name, parameter in own}
    children = module.named_children()
    held.__dict__["_modules"] = {name: _held(child) for name, child in children}
    return held


class Facmac(ValueBased):
    """Critic and mixer with a step size of their own; the policy's head is logits."""

    traits = TRAITS
    recordable = True

    @classmethod
    def parts(cls, setup: Setup) -> dict[str, nn.Module]:
        config, spec = setup.config, setup.spec
        return {
            "mixer": QMixer.of(config, setup.dimensions),
            **setup.auxiliary(),
            "critic": Critic(spec.observation_dim, spec.num_actions, config.critic_hidden),
        }

    def parameter_groups(self) -> list[ParameterGroup]:
        critics = ("mixer", "critic")
        others = tuple(name for name in self.online if name not in critics)
        return [ParameterGroup(others), ParameterGroup(critics, share=self.config.critic_rate)]

    def loss(self, part: Part, divisors: Divisors) -> Loss:
        critic, mixer = self.online["critic"], self.online["mixer"]
        target_critic, target_mixer = self.target["critic"], self.target["mixer"]
        assert isinstance(critic, Critic)
        assert isinstance(mixer, QMixer)
        assert isinstance(target_critic, Critic)
        seen_TBND, next_TBND = part.observations[:-1], part.observations[1:]
        target_logits_TBNA = self.target_q(part)
        online = self.unroll(part)

        # Critic: what was done, held against what the target policy would do next.
        chosen_TBN = critic.of_actions(seen_TBND, part.actions)
        with torch.no_grad():
            next_TBN = target_critic.of_actions(next_TBND, target_logits_TBNA[1:].argmax(-1))
            next_total_TB = target_mixer(living_only(next_TBN, part.lives_on_TBN), part.states[1:])
            targets_TB = self.team_targets(next_total_TB, part)
        q_tot_TB = mixer(living_only(chosen_TBN, part.lives_TBN), part.states[:-1])
        td = self.team_td(q_tot_TB, targets_TB, chosen_TBN, online, part, divisors)

        # Actor: up the critic.
        value_TB = policy_value(
            critic,
            mixer,
            seen_TBND,
            gumbel_one_hot(online.q_TBNA[:-1], part.generator, part.rows),
            part.lives_TBN,
            part.states[:-1],
        )
        counted_TB = torch.where(part.learns_TB, value_TB, 0.0)
        part.charge(counted_TB, divisors.steps, -1.0)
        actor = -counted_TB.sum() / divisors.steps
        return td + Loss(actor, {"actor_loss": actor}) + self.policy_terms(online, part, divisors)

    @classmethod
    def flops(cls, networks: Networks) -> float:
        """4 agents + 6 critics + 6 mix. Not in MAST, counted the same way: three forward passes
        (played, policy's, target's), a whole backward pass for the critic, and half a one, to its
        inputs, for the actor.
        """
        critics = networks.num_agents * networks.of("critic")
        return 4 * networks.agents + 6 * (critics + networks.of("mixer") + networks.mixing_flops)

    @classmethod
    def mixing_flops(cls, setup: Setup) -> int:
        return QMixer.flops(setup.dimensions.num_agents, setup.config.mixing_embed)


ALGORITHM = Facmac
