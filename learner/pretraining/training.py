"""NVIF's pre-training without its files: two stages over episodes of a random policy.

    code   single observations -> autoencoder                        reconstruction, divergence
    flow   whole episodes -> codes, neighbours -> latent states      the same, and consistency

In the flow's stage an agent's latent state has to tell what it sees in this very step, by what was
said until the step before (agents/comm/nvif.py says why). The first step of an episode does not
count: nobody has heard anything.

Dimension key: E = episodes, T = time, B = batch, N = agents, K = out-edges, R = rows of single
observations, D = observation features, F = code.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.policy import PolicySpec
from configs.schema.limits import POSITION
from configs.streams import Role
from learner import noise
from learner.initialisation import initialise_linear_layers
from learner.pretraining.losses import (
    ReconstructionLoss,
    consistency,
    divergence,
    reconstruction,
)
from learner.pretraining.model import NvifModel
from learner.pretraining.options import PretrainOptions
from learner.pretraining.played import Played
from learner.pretraining.stage import LOSS, Losses, Passes, Rows, Stage

CODE, FLOW = "code", "flow"
_MOST_COMPARED = 16
"""Episodes whose latent states are held against each other: each costs a pass of the decoder."""
_SHARPNESS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class EpisodeBatch:
    """Whole episodes as tensors, time first."""

    seen_TBNO: Tensor
    """Targets: observations without positions."""
    positions_TBN2: Tensor
    codes_TBNF: Tensor
    alive_TBN: Tensor
    neighbours_TBNK: Tensor | None
    """None: everybody is."""


class Pretraining:
    """A model, its data and how far it has come."""

    def __init__(self, options: PretrainOptions, spec: PolicySpec, played: Played) -> None:
        self.options = options
        self.loss: ReconstructionLoss = _loss_for(options, played)
        self.model = NvifModel(spec, options.agents, options.decoder)
        initialise_linear_layers(self.model, noise.generator(options.seed, Role.NETWORKS))
        held_out = options.num_held_out
        self.played, self.set_aside = (
            played.of(slice(held_out, None)),
            played.of(slice(held_out)),
        )
        self._codes_ETNF: Tensor | None = None
        """Of the episodes of training, once the autoencoder is there."""
        self._lived = np.argwhere(self.played.alive_ETN)
        names = {parameter: name for name, parameter in self.model.named_parameters()}

        def passes(number: int, epochs: int, rows: int, batch: int) -> Passes:
            return Passes(
                number=number,
                seed=options.seed,
                epochs=epochs,
                rows=rows,
                batch=batch,
                learning_rate=options.learning_rate,
                grad_clip=options.grad_clip,
            )

        episodes = len(self.played.alive_ETN)
        self.stages = {
            CODE: Stage(
                passes(0, options.code_epochs, len(self._lived), options.code_batch),
                [(names[p], p) for p in self.model.coder.parameters()],
                self._code_losses,
            ),
            FLOW: Stage(
                passes(1, options.epochs, episodes, options.batch),
                [(names[p], p) for p in self.model.of_flow()],
                self._flow_losses,
            ),
        }

    @property
    def stage(self) -> str | None:
        """Name of the stage that goes on; None: all are over."""
        return next((name for name, stage in self.stages.items() if not stage.is_over), None)

    def tensors(self) -> dict[str, Tensor]:
        """What policies begin with, by the names of their layout."""
        return {name: p.detach() for name, p in self.model.layers.named_parameters()}

    # --- the stages' losses -----------------------------------------------------------------------

    def _code_losses(self, rows: Rows, generator: torch.Generator) -> Losses:
        return self._of_observations(_lived(self.played, self._lived[rows]), generator)

    def _flow_losses(self, rows: Rows, generator: torch.Generator) -> Losses:
        if self._codes_ETNF is None:
            self._codes_ETNF = self.codes(self.played)
        return self.of_episodes(self.episodes(self.played, rows, self._codes_ETNF), generator)

    @torch.no_grad()
    def held_out(self, name: str) -> dict[str, float]:
        """A stage's losses on the episodes that are held out; of the flow's also what the latent
        state tells (`told`), unless a single episode is held out.
        """
        stage = self.stages[name].passes
        generator = noise.generator(
            stage.seed, Role.PRETRAINING, stage=stage.number + len(self.stages), epoch=0, draw=0
        )
        played = self.set_aside
        if name == CODE:
            lived = _lived(played, np.argwhere(played.alive_ETN))
            losses = self._of_observations(lived, generator)
        else:
            every = np.arange(len(played.alive_ETN))
            episodes = self.episodes(played, every, self.codes(played))
            losses = self.of_episodes(episodes, generator, compares=True)
        return {loss: float(value) for loss, value in losses.items()}

    def _of_observations(self, seen_RD: Tensor, generator: torch.Generator) -> Losses:
        target_RD = seen_RD.clone()
        # Of [-1, 1], as all other numbers may be of [0, 1].
        target_RD[:, -POSITION:] = 0.5 * (seen_RD[:, -POSITION:] + 1.0)
        guess = self.model.coder(seen_RD, generator)
        restored = reconstruction(guess.decoded, target_RD, self.loss).mean()
        apart = divergence(guess.mean, guess.log_deviation).mean()
        return {
            LOSS: restored + self.options.kl * apart,
            "reconstruction": restored,
            "divergence": apart,
        }

    def of_episodes(
        self, episodes: EpisodeBatch, generator: torch.Generator, *, compares: bool = False
    ) -> Losses:
        """
        Args:
            compares: say what the latent states tell, too.
        """
        counts_TBN = episodes.alive_TBN.clone()
        counts_TBN[0] = False
        number = counts_TBN.sum().clamp(min=1)

        def mean(numbers_TBN: Tensor) -> Tensor:
            return torch.where(counts_TBN, numbers_TBN, 0.0).sum() / number

        guess = self.model(
            episodes.codes_TBNF,
            episodes.alive_TBN,
            episodes.neighbours_TBNK,
            episodes.positions_TBN2,
            generator,
        )
        restored_TBN = reconstruction(guess.decoded, episodes.seen_TBNO, self.loss)
        restored = mean(restored_TBN)
        apart = mean(divergence(guess.mean, guess.log_deviation))
        uneven = mean(consistency(guess.sample, counts_TBN))
        losses = {
            LOSS: restored + self.options.kl * apart + self.options.alpha * uneven,
            "reconstruction": restored,
            "divergence": apart,
            "consistency": uneven,
        }
        if compares and counts_TBN.shape[1] > 1:
            losses["told"] = self._told(episodes, guess.mean, counts_TBN)
        return losses

    def _told(self, episodes: EpisodeBatch, states_TBNL: Tensor, counts_TBN: Tensor) -> Tensor:
        """[] nats of its observation and position that an agent's latent state tells, on average.

        A lower bound of their mutual information, 0 at least and log C at most: InfoNCE (van den
        Oord and others 2018, equation 4) with C states in the comparison, the agent's own and those
        that it has in this step in other episodes. The score is the decoder's log-likelihood times
        one of _SHARPNESS, whichever tells most: as it is, the decoder is surer of itself than it
        should be, for it takes the numbers of an observation for independent. For that reason
        likelihoods alone, own and strange, say nothing of how much is told.
        """
        scores: list[Tensor] = []
        for shift in range(min(states_TBNL.shape[1], _MOST_COMPARED)):
            others_TBNL = states_TBNL.roll(shift, dims=1)
            decoded = self.model.decoded(others_TBNL, episodes.positions_TBN2)
            scores_TBN = -reconstruction(decoded, episodes.seen_TBNO, self.loss)
            # Who is dead in another episode has no state there.
            lives_TBN = episodes.alive_TBN.roll(shift, dims=1)
            scores.append(scores_TBN.masked_fill(~lives_TBN, -math.inf))
        scores_CR = torch.stack([scores_TBN[counts_TBN] for scores_TBN in scores])
        number_R = scores_CR.isfinite().sum(0)
        found = [
            (sharp * scores_CR[0] - (sharp * scores_CR).logsumexp(0) + number_R.log()).sum()
            for sharp in _SHARPNESS
        ]
        return torch.stack(found).max().clamp(min=0.0) / max(len(number_R), 1)

    # --- data as tensors --------------------------------------------------------------------------

    def codes(self, played: Played) -> Tensor:
        """[E, T, N, F], an episode at a time: its observations as float32 are large."""
        return torch.stack(
            [self.model.codes(_floats(seen_TND)) for seen_TND in played.observations_ETND]
        )

    def episodes(self, played: Played, rows: Rows, codes_ETNF: Tensor) -> EpisodeBatch:
        # (E, T, …) -> (T, E, …)
        seen_TBND = _floats(played.observations_ETND[rows]).transpose(0, 1)
        neighbours_TBNK: Tensor | None = None
        if self.model.twin.moves:
            edges_ETNK = self.model.twin.graph.edges_of(played.neighbours_ETNN[rows])
            neighbours_TBNK = torch.tensor(edges_ETNK).transpose(0, 1)
        return EpisodeBatch(
            seen_TBNO=seen_TBND[..., :-POSITION],
            positions_TBN2=seen_TBND[..., -POSITION:],
            codes_TBNF=codes_ETNF[torch.tensor(rows)].transpose(0, 1),
            alive_TBN=torch.tensor(played.alive_ETN[rows]).transpose(0, 1),
            neighbours_TBNK=neighbours_TBNK,
        )


def _lived(played: Played, places: Rows) -> Tensor:
    """[R, D] observations.

    Args:
        places: [R, 3] episode, step and agent.
    """
    return _floats(played.observations_ETND[tuple(places.T)])


def _floats(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Tensor:
    return torch.tensor(array.astype(np.float32))


def _loss_for(options: PretrainOptions, played: Played) -> ReconstructionLoss:
    """
    Raises:
        ValueError: bce, and there are numbers outside [0, 1].
    """
    seen = played.observations_ETND[..., :-POSITION]
    low, high = float(seen.min()), float(seen.max())
    fits = low >= 0.0 and high <= 1.0
    if options.loss == "auto":
        return "bce" if fits else "mse"
    if options.loss == "bce" and not fits:
        raise ValueError(
            f"loss bce is for observations in [0, 1], and {options.env} has {low:g} to {high:g}: "
            "give --loss mse"
        )
    return options.loss
