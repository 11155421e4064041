"""How a batch is cut among ranks."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch

from configs.schema import LearnerConfig
from learner.comm.gates import GateRule, gate
from learner.experience.replay import Replay, Rows, WindowBatch
from learner.ranks import shared_out
from tests.learner_helpers import make_episode
from tests.process.ranks_update import LIFETIMES, make_learner


def make_batch(rows: int) -> WindowBatch:
    replay = Replay(rows)
    for number in range(rows):
        replay.add(make_episode(number, lifetimes=LIFETIMES if number % 2 else None))
    return replay.sample(np.random.default_rng(0), rows)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_every_row_is_worked_off_once_and_everybody_has_work_in_every_part(
    ranks: int, rows: int
) -> None:
    batch = make_batch(7)
    shares = shared_out(batch, rows, ranks)
    assert len({len(own) for own in shares}) == 1, "ranks meet once in every part"
    parts = list(zip(*shares, strict=True))
    cut = [share.batch.rewards for part in parts for share in part]
    np.testing.assert_array_equal(np.concatenate(cut, axis=1), batch.rewards)
    for part in parts:
        assert all(share.batch.size == share.rows.end - share.rows.begin >= 1 for share in part)
        assert [share.rows.begin for share in part[1:]] == [s.rows.end for s in part[:-1]]
        assert {share.rows.of for share in part} == {part[-1].rows.end}


def test_fewer_rows_than_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows are not enough for 3 ranks"):
        shared_out(make_batch(2), 100, 3)


def test_noise_does_not_depend_on_who_works_off_which_rows() -> None:
    scores = torch.zeros(3, 5, 4, 2)
    allowed = torch.ones_like(scores, dtype=torch.bool)

    def opened(scores: torch.Tensor, rows: Rows | None) -> torch.Tensor:
        noise = torch.Generator().manual_seed(0)
        rule = GateRule("causal", "learned", noise=noise, rows=rows)
        return gate(scores, allowed[:, : scores.shape[1]], rule)

    whole = opened(scores, None)
    assert 0.0 < whole.mean() < 1.0
    cut = [opened(scores[:, :2], Rows(0, 2, 5)), opened(scores[:, 2:], Rows(2, 5, 5))]
    assert torch.equal(torch.cat(cut, dim=1), whole)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LearnerConfig(ranks=3, batch_size=2),
        lambda: LearnerConfig(ranks=3, learning_starts=2),
        lambda: LearnerConfig(ranks=2, aux="contrast"),
        lambda: LearnerConfig(ranks=0),
    ],
)
def test_ranks_that_would_have_nothing_to_share_are_refused(
    make: Callable[[], LearnerConfig],
) -> None:
    with pytest.raises(ValueError, match=r"learner\.(ranks|aux)"):
        make()


def test_a_batch_gathered_ahead_is_the_one_that_would_have_been_drawn() -> None:
    found: list[list[np.ndarray]] = []
    modes: tuple[Literal["off", "on"], ...] = ("off", "on")
    for prefetch in modes:
        learner = make_learner("iql", ranks=1, prefetch=prefetch)
        for number in range(9):
            learner.add(make_episode(number))
        while learner.updates_owed:
            learner.update()
        assert learner.progress.gradient_steps == 6
        found.append([p.detach().numpy() for p in learner.online.parameters()])
    for off, on in zip(*found, strict=True):
        np.testing.assert_array_equal(off, on)
