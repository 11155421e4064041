"""A teacher for the beginning: what an opponent's network would do here.

    episode -> its actions a_E, once
    action values: loss = max_a (q(a) + margin [a != a_E]) - q(a_E)
    probabilities: loss = -log pi(a_E)

Where rewards come only after several right actions in a row, learning from scratch takes most of
its time to get there. The large-margin loss (Hester et al. 2018, deep Q-learning from
demonstrations, equation 2) lifts the teacher's action above all others, beside the TD loss, which
goes on learning what that is worth. Logits have no scale for a margin: there it is the cross
entropy. The weight falls to nothing while training goes on (kickstarting, Schmitt et al. 2018), so
that the pupil may become better than its teacher.

Dimension key: T = time, B = batch, N = agents, D = observation features, A = actions.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]  # untyped
from torch import Tensor

from configs.columns import Column
from envs.battle.opponents import PolicyFileOpponent, opponent_file
from learner.experience.episode import Episode
from learner.kernels.products import linear

EXAMPLE = Column("example", ("uint8",))
"""The teacher's action; the learner adds it to episodes as they come in."""


class Teacher:
    """Three frozen linear layers, as in an opponent's file."""

    def __init__(self, name: str, margin: float | None, device: torch.device) -> None:
        """Load the layers.

        Args:
            name: idqn, or the path of an opponent's file.
            margin: by how much its action is to exceed the others, in the learner's scale; None:
                the policy says logits.

        Raises:
            ValueError: no such file, or one that does not fit.
        """
        path = Path(opponent_file(name))
        PolicyFileOpponent(path)  # checks it
        tensors = load_file(path, device=str(device))
        self._layers = [
            (tensors[f"layer{i}.weight"].float(), tensors[f"layer{i}.bias"].float())
            for i in (1, 2, 3)
        ]
        self._margin = margin

    def annotated(self, episode: Episode) -> Episode:
        """The episode with its actions as a column: they do not change, and each step is learnt
        from several times.
        """
        # What it knows comes first; a position may follow (envs/position.py).
        seen = episode.observations[:-1, :, : self._layers[0][0].shape[1]]
        seen_TND = torch.from_numpy(seen)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        actions_TN = self.actions(seen_TND.to(self._layers[0][0])).to(torch.uint8)
        return episode.with_column(EXAMPLE, actions_TN.cpu().numpy())

    @torch.no_grad()
    def actions(self, observations_D: Tensor) -> Tensor:
        """[…] what it would do, from […, D]."""
        x = observations_D
        for i, (weight, bias) in enumerate(self._layers):
            x = linear(x, weight, bias, relu=i < 2)
        return x.argmax(-1)

    def losses(self, q_TBNA: Tensor, example_TBN: Tensor, mask_TBN: Tensor) -> Tensor:
        """[T, B, N] of each agent-step, 0 outside the mask.

        Args:
            q_TBNA: action values, or logits.
            example_TBN: its actions.
        """
        wanted_TBN1 = example_TBN.long().unsqueeze(-1)
        if self._margin is None:
            log_pi_TBN = q_TBNA.log_softmax(-1).gather(-1, wanted_TBN1).squeeze(-1)
            return torch.where(mask_TBN, -log_pi_TBN, 0.0)
        others = torch.full_like(q_TBNA, self._margin).scatter_(-1, wanted_TBN1, 0.0)
        gap_TBN = (q_TBNA + others).amax(-1) - q_TBNA.gather(-1, wanted_TBN1).squeeze(-1)
        return torch.where(mask_TBN, gap_TBN, 0.0)
