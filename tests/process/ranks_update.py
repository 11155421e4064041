"""What each rank under torchrun does in tests/process/test_ranks.py: updates, and its state.

torchrun --standalone --nproc-per-node 2 -m tests.process.ranks_update FOLDER ALGORITHM SPARSE
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch

from configs.schema import GateConfig, LearnerConfig, SparseConfig
from learner.checkpoint import save_checkpoint
from learner.follower import begin_together, follow
from learner.learner import Learner
from learner.ranks import Ranks
from tests.learner_helpers import DIMENSIONS, make_config, make_episode, make_flat, make_spec

UPDATES = 4
LIFETIMES = (6, 3, 0, 6, 5, 1)
Sparse = Literal["none", "set", "rigl"]


def make_learner(
    algorithm: str,
    *,
    ranks: int,
    seed: int = 0,
    prefetch: Literal["on", "off"] = "off",
    sparse: Sparse = "none",
) -> Learner:
    """One that does everything that has to agree: noise, prices, a step size and a target that
    move, an auxiliary loss, a topology that evolves."""
    settings = LearnerConfig(
        device="cpu",
        ranks=ranks,
        prefetch=prefetch,
        algorithm=algorithm,
        aux="predict",
        batch_size=7,
        learning_starts=4,
        learning_rate=1e-3,
        learning_rate_end=1e-4,
        target_update_period=2,
        target_rate=0.5,
    )
    gate = GateConfig(noise_share=0.5, price=0.01, price_loss=100.0, temperature_steps=50)
    masks = SparseConfig(method=sparse, sparsity=0.7, period=2)
    config = replace(make_config(gate=gate, learner=settings), sparse=masks)
    spec = make_spec()
    return Learner(config, spec, DIMENSIONS, make_flat(spec, gain=1.0, seed=seed))


def learn(learner: Learner) -> list[dict[str, float]]:
    for number in range(9):
        lifetimes = LIFETIMES if number % 2 else None
        learner.add(make_episode(number, length=4 + number % 3, lifetimes=lifetimes))
    return [learner.update() for _ in range(UPDATES)]


def main() -> None:
    folder, algorithm = Path(sys.argv[1]), sys.argv[2]
    sparse = next(known for known in get_args(Sparse) if known == sys.argv[3])
    torch.set_num_threads(1)
    ranks = Ranks(torch.device("cpu"))
    # Others begin with other parameters: rank 0's are what counts.
    learner = make_learner(algorithm, ranks=ranks.size, seed=ranks.rank, sparse=sparse)
    if ranks.rank == 0:
        begin_together(learner, ranks)
        learn(learner)
        ranks.dismiss()
    else:
        follow(learner, ranks)
    save_checkpoint(folder / f"{algorithm}-{ranks.rank}", learner, 0, "")
    ranks.close()


if __name__ == "__main__":
    main()
