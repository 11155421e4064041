"""A teacher for the beginning: what an opponent's network would do here, as a margin on q-values.

    observations -> teacher -> its action a_E;  loss = max_a (q(a) + margin [a != a_E]) - q(a_E)

Where rewards come only after several right actions in a row, learning from scratch takes most of
its time to get there. The large-margin loss (Hester et al. 2018, deep Q-learning from
demonstrations, equation 2) lifts the teacher's action above all others, beside the TD loss, which
goes on learning what that is worth; its weight falls to nothing while training goes on
(kickstarting, Schmitt et al. 2018), so that the pupil may become better than its teacher.

Dimension key: T = time, B = batch, N = agents, D = observation features, A = actions.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]  # untyped
from torch import Tensor
from torch.nn import functional

from envs.battle.opponents import PolicyFileOpponent, opponent_file


class Teacher:
    """Three frozen linear layers, as in an opponent's file."""

    def __init__(self, name: str, margin: float, device: torch.device) -> None:
        """Load the layers.

        Args:
            name: idqn, or the path of an opponent's file.
            margin: by how much its action is to exceed the others, in the learner's scale.

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

    @torch.no_grad()
    def actions(self, observations_TBND: Tensor) -> Tensor:
        """[T, B, N] what it would do."""
        x = observations_TBND
        for i, (weight, bias) in enumerate(self._layers):
            x = functional.linear(functional.relu(x) if i else x, weight, bias)
        return x.argmax(-1)

    def loss(self, q_TBNA: Tensor, observations_TBND: Tensor, mask_TBN: Tensor) -> Tensor:
        """Sum over the agent-steps in `mask_TBN`."""
        wanted_TBN1 = self.actions(observations_TBND).unsqueeze(-1)
        others = torch.full_like(q_TBNA, self._margin).scatter_(-1, wanted_TBN1, 0.0)
        gap_TBN = (q_TBNA + others).amax(-1) - q_TBNA.gather(-1, wanted_TBN1).squeeze(-1)
        return torch.where(mask_TBN, gap_TBN, 0.0).sum()
