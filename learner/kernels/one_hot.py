"""Actions as rows of zeros with a one.

torch.nn.functional.one_hot looks at the numbers first, and so waits for the device, to refuse one
that is too large; actions have been looked at when their episode came in.

Dimension key: A = actions.
"""

import torch
from torch import Tensor


def one_hot(actions: Tensor, num_actions: int, dtype: torch.dtype) -> Tensor:
    """[…] int64 -> […, A]

    >>> one_hot(torch.tensor([2, 0]), 3, torch.float32)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    numbers_A = torch.arange(num_actions, device=actions.device)
    return (actions.unsqueeze(-1) == numbers_A).to(dtype)
