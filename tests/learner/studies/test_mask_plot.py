"""Masks that a learner leaves behind, and the pictures that are made of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from configs.run_files import MASKS
from configs.schema import SparseConfig
from learner.sparse.snapshots import MaskSnapshots, read_snapshots
from learner.sparse.topology import Topology
from learner.studies.mask_plot import choose, links_per_unit, main, table

LAYER = "policy.encoder.weight"


def make_topology() -> Topology:
    weight = nn.Parameter(torch.ones(4, 5))
    return Topology(SparseConfig(method="rigl", sparsity=0.5), [(LAYER, weight)], seed=0)


def set_mask(topology: Topology, rows: list[list[int]]) -> None:
    topology.masks[LAYER].copy_(torch.tensor(rows, dtype=torch.bool))


FIRST = [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]]
LAST = [[1, 1, 1, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    topology, snapshots = make_topology(), MaskSnapshots(tmp_path / MASKS)
    set_mask(topology, FIRST)
    snapshots.look(topology, 0, 1000)
    set_mask(topology, LAST)
    for env_steps in (500, 1000):
        snapshots.look(topology, env_steps, 1000)
    return tmp_path


def test_there_is_a_snapshot_for_each_twentieth_that_has_begun(tmp_path: Path) -> None:
    topology, snapshots = make_topology(), MaskSnapshots(tmp_path / MASKS)
    looks = [0, 49, 50, 60, 99, 310, 349, 1003]
    written = [env_steps for env_steps in looks if snapshots.look(topology, env_steps, 1000)]
    assert written == [0, 50, 310, 1003]
    names = sorted(path.name for path in (tmp_path / MASKS).iterdir())
    assert names == [f"{env_steps:012d}.npz" for env_steps in written]
    assert [snapshot.env_steps for snapshot in read_snapshots(tmp_path)] == written


def test_the_end_is_kept_however_many_steps_have_counted(tmp_path: Path) -> None:
    topology, snapshots = make_topology(), MaskSnapshots(tmp_path / MASKS)
    assert snapshots.look(topology, 951, 1000)
    assert not snapshots.look(topology, 990, 1000)
    assert snapshots.look(topology, 990, 1000, is_over=True)
    assert not snapshots.look(topology, 990, 1000, is_over=True)
    assert [snapshot.env_steps for snapshot in read_snapshots(tmp_path)] == [951, 990]


def test_a_run_that_goes_on_longer_than_it_was_to_be_loses_no_file(run: Path) -> None:
    topology = make_topology()
    set_mask(topology, FIRST)
    assert MaskSnapshots(run / MASKS).look(topology, 1020, 3000)
    assert [snapshot.env_steps for snapshot in read_snapshots(run)] == [0, 500, 1000, 1020]
    np.testing.assert_array_equal(read_snapshots(run)[-1].masks[LAYER], np.array(FIRST, bool))


def test_a_snapshot_holds_the_masks_as_they_were(run: Path) -> None:
    first, _, last = read_snapshots(run)
    assert last.masks.keys() == {LAYER}
    np.testing.assert_array_equal(first.masks[LAYER], np.array(FIRST, bool))
    np.testing.assert_array_equal(last.masks[LAYER], np.array(LAST, bool))


def test_what_cannot_be_written_is_tried_again_in_the_next_twentieth(tmp_path: Path) -> None:
    (tmp_path / MASKS).write_text("in the way")
    snapshots = MaskSnapshots(tmp_path / MASKS)
    with pytest.raises(OSError, match=MASKS):
        snapshots.look(make_topology(), 0, 1000)
    assert not snapshots.look(make_topology(), 1, 1000)
    (tmp_path / MASKS).unlink()
    assert snapshots.look(make_topology(), 50, 1000)


def test_links_are_counted_per_input_and_per_output() -> None:
    mask = np.array(FIRST, bool)
    assert links_per_unit(mask, 0).tolist() == [3, 2, 2, 1, 0]
    assert links_per_unit(mask, 1).tolist() == [4, 3, 1, 0]


def test_the_table_compares_the_first_masks_with_the_last(run: Path) -> None:
    *_, row = table(read_snapshots(run)).splitlines()
    # 7 of 8 links are as in the beginning; input 4 has got its first link, output 2 lost its last.
    assert row == f"| {LAYER} | 4 × 5 | 8 | 88% | 1 → 0 | 1 → 2 |"


def test_drawn_points_are_spread_over_the_run(run: Path) -> None:
    snapshots = read_snapshots(run)
    assert [snapshot.env_steps for snapshot in choose(snapshots, 2)] == [0, 1000]
    assert [snapshot.env_steps for snapshot in choose(snapshots, 9)] == [0, 500, 1000]


def test_a_picture_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run / "masks.png"
    assert main([str(run), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "| 4 × 5 | 8 | 88% |" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["empty", "cut", "overwritten", "one byte", "text"])
def test_a_damaged_file_is_named_in_one_line(
    run: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted((run / MASKS).iterdir())[1]
    whole = path.read_bytes()
    at = whole.index(b".npy") + 50  # within the first array, behind its header in the archive
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "overwritten": whole[:at] + b"\x55" * 40 + whole[at + 40 :],
            "one byte": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
            "text": b"what is this?",
        }[damage]
    )
    with pytest.raises(SystemExit) as stop:
        main([str(run), "--out", str(run / "masks.png")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path} is damaged")
    assert error.count("\n") == 1


def test_dense_runs_and_unknown_layers_are_refused(
    run: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, says in (
        ([str(tmp_path_factory.mktemp("dense"))], "has no masks"),
        ([str(run), "--layers", "encodr"], f"no masks of encodr: choose from {LAYER}"),
        ([str(run), "--points", "1"], "points must be between 2 and 100, got 1"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert says in capsys.readouterr().err
