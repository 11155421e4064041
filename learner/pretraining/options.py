"""Options of NVIF's pre-training, in a file of their own: reading them takes no torch.

The paper gives none of these numbers: all defaults are ours (docs/nvif.md).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from agents.comm.graphs import graph_of, moves
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_AGENTS, MAX_SEED, MAX_THREADS, EnvConfig
from configs.schema.choices import MessageDtype
from envs import registry
from learner.pretraining.played import require_sight


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainOptions:
    """Train a scheme's messages on what a random policy meets, before any policy is trained."""

    trained_by: ClassVar[str] = "learner.pretraining.command:pretrain"

    comm: str = "nvif"
    """Scheme whose parameters are trained."""

    comm_options: Annotated[str, tyro.conf.arg(name="comm.options")] = "neighbours=true"
    """What the scheme itself takes: name=value,name=value. The runs that load the file take the
    same."""

    env: str = "gather"
    """Environment that is played. Observations end with the agent's own position; where the scheme
    goes by neighbours, it says who they are."""

    env_options: Annotated[str, tyro.conf.arg(name="env.options")] = ""
    """What the environment itself takes: name=value,name=value."""

    agents: Annotated[int, between(2, MAX_AGENTS)] = 15
    """Number of agents that are played with; the file fits any number."""

    out: str
    """Folder to write. A call with a folder that is there goes on where the last one ended."""

    episodes: Annotated[int, between(2, 100_000)] = 64
    """Episodes of a random policy; they are held in memory."""

    held_out: Annotated[float, within(0.0, 0.9)] = 0.125
    """Share of the episodes on which nothing is trained, and that the losses are told of: at least
    one. With two and more it is measured what latent states tell (docs/nvif.md)."""

    seed: Annotated[int, between(0, MAX_SEED)] = 0
    """Root seed of everything that is drawn."""

    code_epochs: Annotated[int, between(0, 100_000)] = 8
    """Passes over the observations in which the autoencoder learns to code them."""

    code_batch: Annotated[int, between(1, 1_000_000)] = 256
    """Observations in one of its updates."""

    epochs: Annotated[int, between(0, 100_000)] = 60
    """Passes over the episodes in which flow, latent state and decoder are trained."""

    batch: Annotated[int, between(1, 10_000)] = 4
    """Episodes in one update of these."""

    learning_rate: Annotated[float, within(1e-9, 1.0)] = 1e-3
    """Adam's step size."""

    grad_clip: Annotated[float, within(1e-6, 1e6)] = 10.0
    """Largest norm of a gradient."""

    alpha: Annotated[float, within(0.0, 1e6)] = 1.0
    """Weight of the consistency of the agents' latent states (equation 8)."""

    kl: Annotated[float, within(0.0, 1e6)] = 1.0
    """Weight of the divergence from the prior, of codes and of latent states; 1 in the paper."""

    loss: Literal["auto", "bce", "mse"] = "auto"
    """Of a reconstructed observation, summed over its numbers: bce is for numbers in [0, 1], mse
    for any; auto takes bce where all that was played is in [0, 1]."""

    decoder: Annotated[int, between(1, 4096)] = 128
    """Hidden units of both decoders."""

    message_dtype: MessageDtype = "float16"
    """Number format of messages, as network.message_dtype of the runs that load the file."""

    threads: Annotated[int, between(1, MAX_THREADS)] = 1
    """Torch threads."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.out:
            raise ValueError("out must name the folder to write")

    @property
    def num_held_out(self) -> int:
        """Episodes on which nothing is trained: at least one, and not all."""
        return min(max(round(self.held_out * self.episodes), 1), self.episodes - 1)

    def check(self) -> None:
        """Refuse, before torch is imported, what cannot be played or trained.

        Raises:
            ValueError: one line with the way out.
        """
        config = EnvConfig(name=self.env, options=self.env_options)
        registry.check(config, self.agents)
        graph_of(self.comm, self.comm_options, self.agents)
        spec = registry.spec_of(config, self.agents)
        require_sight(spec, neighbours=moves(self.comm, self.comm_options))
