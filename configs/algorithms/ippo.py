"""IPPO and its kin, without torch: learner/algorithms/ippo.py is the algorithm."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from configs.algorithms.base import OnPolicy, Traits
from configs.ranges import between, check_ranges, within


@dataclass(frozen=True, kw_only=True)
class PpoOptions:
    """What algorithms with clipped ratios take."""

    episodes: Annotated[int, between(1, 65_536)] = 32
    """Whole episodes of a rollout, where `rollout_steps` is 0."""
    rollout_steps: Annotated[int, between(0, 65_535)] = 0
    """Steps of each copy in a rollout, across the ends of episodes; 0: whole episodes."""
    overlap: bool = False
    """Play the next rollout while one is worked off, so that data are one policy version old; only
    with `rollout_steps`."""
    epochs: Annotated[int, between(1, 1000)] = 5
    """How often a rollout is used."""
    minibatches: Annotated[int, between(1, 65_536)] = 2
    """Gradient steps of an epoch."""
    clip: Annotated[float, within(1e-6, 10.0)] = 0.2
    """How far the ratio of new and old policy counts: from 1 - clip to 1 + clip."""
    entropy: Annotated[float, within(0.0, 10.0)] = 0.01
    """Weight of the policy's entropy."""
    gae_lambda: Annotated[float, within(0.0, 1.0)] = 0.95
    """λ of the advantages."""
    value_coef: Annotated[float, within(0.0, 1000.0)] = 0.5
    """Weight of the critic's loss."""
    value_clip: Annotated[float, within(0.0, 1000.0)] = 0.0
    """How far a value may move from what it was in the rollout; 0 does not bound it."""
    huber: Annotated[float, within(0.0, 1e6)] = 0.0
    """Error from which the critic's loss is linear (Yu et al. take 10); 0: nowhere."""
    normalise_values: bool = False
    """Whether the critic learns values with mean 0 and deviation 1 (PopArt's statistics)."""
    critic: Literal["mlp", "gru"] = "gru"
    """Whether the critic remembers the episode."""
    critic_hidden: Annotated[int, between(1, 4096)] = 128
    """Units of the critic's layers."""
    reward: Literal["own", "team"] = "own"
    """Whose rewards an agent learns from: its own, or the mean of all."""

    def __post_init__(self) -> None:
        check_ranges(self, "--algorithm.options")
        if self.overlap and not self.rollout_steps:
            raise ValueError(
                "--algorithm.options: overlap goes with rollouts of fixed length: give "
                "rollout_steps a number above 0"
            )
        if self.minibatches > self.episodes and not self.rollout_steps:
            raise ValueError(
                f"--algorithm.options: {self.episodes} episodes make at most as many minibatches, "
                f"got {self.minibatches}"
            )

    @property
    def rollouts(self) -> OnPolicy:
        """Where batches come from."""
        return OnPolicy(
            episodes=self.episodes,
            epochs=self.epochs,
            minibatches=self.minibatches,
            steps=self.rollout_steps,
            overlaps=self.overlap,
        )


def ppo_traits(options: PpoOptions) -> Traits:
    """What IPPO and its kin record, and where their batches come from."""
    return Traits(
        columns=frozenset({"log_prob"}),
        experience=options.rollouts,
        acting="sample",
        actions=frozenset({"discrete", "box"}),
        fixes_agents=False,
        has_operator=False,
        sizes={"critic": ("critic_hidden",)},
        keeps=("critic", "normalise_values"),
    )


@dataclass(frozen=True, kw_only=True)
class IppoOptions(PpoOptions):
    """What IPPO takes."""

    sees: Literal["observation", "context"] = "observation"
    """What the critic knows of a moment: what the agent sees; or beside it what the policy's head
    reads beside the hidden state, such as NVIF's latent state or what a message is made of."""


def ippo_traits(options: IppoOptions) -> Traits:
    """A run that goes on keeps what its critic sees."""
    traits = ppo_traits(options)
    return replace(traits, keeps=(*traits.keeps, "sees"))


OPTIONS = IppoOptions
TRAITS = ippo_traits
