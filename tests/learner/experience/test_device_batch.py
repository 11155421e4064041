from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from learner.experience.device_batch import DeviceBatch, Transfer
from learner.experience.replay import Replay, WindowBatch
from tests.learner_helpers import make_episode

GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def batch_of(lifetimes: Sequence[int] | None = None) -> WindowBatch:
    replay = Replay(capacity=3)
    for number in range(3):
        replay.add(make_episode(number, length=4 + number, lifetimes=lifetimes))
    return replay.sample(np.random.default_rng(0), 3)


def arrays_of(batch: WindowBatch) -> dict[str, NDArray[Any]]:
    names = [name for name in WindowBatch.__slots__ if name != "columns"]
    return {name: getattr(batch, name) for name in names}


def test_on_a_cpu_the_tensors_are_the_arrays_themselves() -> None:
    batch = batch_of()
    sent = Transfer(torch.device("cpu")).begin(batch)
    sent.wait()
    expected = arrays_of(batch)
    assert sent.fields.keys() == expected.keys()
    for name, tensor in sent.fields.items():
        assert np.shares_memory(tensor.numpy(), expected[name]), name


def test_rows_of_a_larger_batch_are_those_rows() -> None:
    batch = batch_of().at(slice(1, 3))
    sent = Transfer(torch.device("cpu")).begin(batch)
    for name, array in arrays_of(batch).items():
        assert_array_equal(sent.fields[name].numpy(), array, err_msg=name)


def test_lives_that_begin_anew_are_told_of() -> None:
    batch = batch_of((3, 6, 6, 6, 6, 6))
    transfer = Transfer(torch.device("cpu"))
    assert not transfer.begin(batch).has_rebirths
    batch.alive[4, 1, 0] = True
    assert transfer.begin(batch).has_rebirths


def test_a_batch_lies_where_it_is_told_to() -> None:
    made: list[NDArray[Any]] = []

    def zeros(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        made.append(np.zeros(shape, dtype))
        return made[-1]

    replay = Replay(capacity=1)
    replay.add(make_episode(0))
    batch = replay.choose(np.random.default_rng(0), 1).gather(zeros=zeros)
    elsewhere = {
        name for name, array in arrays_of(batch).items() if not any(array is m for m in made)
    }
    assert elsewhere == {"starts"}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_a_batch_arrives_as_it_was_sent(device: str) -> None:
    transfer = Transfer(torch.device(device))
    replay = Replay(capacity=2)
    for number in range(2):
        replay.add(make_episode(number))
    windows = replay.choose(np.random.default_rng(0), 2)
    batch = windows.gather(zeros=transfer.zeros)
    sent: DeviceBatch = transfer.begin(batch)
    sent.wait()
    for name, array in arrays_of(windows.gather()).items():
        assert_array_equal(sent.fields[name].cpu().numpy(), array, err_msg=name)
