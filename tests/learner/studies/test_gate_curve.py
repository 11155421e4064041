"""Evaluations as a table and a picture of what bytes buy."""

import json
from pathlib import Path
from typing import Any

import pytest

from learner.studies.gate_curve import main

FREE = {
    "evaluation_episodes": 100,
    "env_copies": 1,
    "return_mean": 1.0,
    "return_error": 0.0,
    "win_rate": 0.8,
    "open_share": 1.0,
    "out_degree_mean": 4.0,
    "edge_bytes_per_agent_step": 740.5,
}
PRICED = FREE | {
    "env_copies": 16,
    "return_mean": 0.953,
    "return_error": 0.002,
    "open_share": 0.25,
    "win_rate": 0.5,
}


def write(path: Path, figures: dict[str, Any]) -> str:
    path.write_text(json.dumps(figures))
    return f"{path}"


def test_every_evaluation_is_a_row_that_says_how_many_copies_shared_a_packet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [write(tmp_path / "free.json", FREE), write(tmp_path / "priced.json", PRICED)]
    assert main(files) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[2:] == [
        "| free | 1 | 1.000 | 0.000 | 100.0% | 4.00 | 740 |",
        "| priced | 16 | 0.953 | 0.002 | 25.0% | 4.00 | 740 |",
    ]


def test_win_rates_come_with_their_binomial_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([write(tmp_path / "a.json", PRICED), "--figure", "win rate", "--labels", "ours"])
    assert "| ours | 16 | 0.500 | 0.050 |" in capsys.readouterr().out


def test_a_picture_is_written(tmp_path: Path) -> None:
    out = tmp_path / "gate.png"
    assert main([write(tmp_path / "a.json", FREE), "--out", f"{out}"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def write_seeds(folder: Path, *returns: float) -> str:
    folder.mkdir()
    for seed, reached in enumerate(returns):
        own = {"return_mean": reached, "edge_bytes_per_agent_step": 400.0 + 10.0 * seed}
        write(folder / f"{seed}.json", FREE | own)
    return f"{folder}"


def test_a_folder_of_seeds_is_a_mean_with_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cheap = write_seeds(tmp_path / "0.001", 0.7, 0.8, 0.9)
    single = write_seeds(tmp_path / "0.01", 0.5)
    out = tmp_path / "curve.svg"
    assert main([cheap, single, write(tmp_path / "a.json", PRICED), "--out", f"{out}"]) == 0
    rows = capsys.readouterr().out.splitlines()
    # Student's t with two degrees of freedom: 4.303 × 0.1 / sqrt(3), and 4.303 × 10 / sqrt(3).
    assert rows[2:] == [
        "| 0.001 | 1 | 3 | 0.800 | ± 0.248 | 100.0% | 4.00 | 410 | ± 25 |",
        "| 0.01 | 1 | 1 | 0.500 | - | 100.0% | 4.00 | 400 | - |",
        "| a | 16 | 1 | 0.953 | ± 0.004 | 25.0% | 4.00 | 740 | - |",
    ]
    assert "of 1/3 seeds" in out.read_text()


def test_seeds_that_do_not_compare_and_empty_folders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed, empty = tmp_path / "mixed", tmp_path / "empty"
    for folder in (mixed, empty):
        folder.mkdir()
    write(mixed / "a.json", FREE)
    write(mixed / "b.json", PRICED)
    for folder, says in ((mixed, "with 1 and with 16 environment copies"), (empty, "no .json")):
        with pytest.raises(SystemExit) as stop:
            main([f"{folder}"])
        assert stop.value.code == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", json.dumps({**FREE, "open_share": None}), "not json"]
)
def test_anything_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        main([f"{path}"])
    assert stop.value.code == 2
    assert "not what `python -m runtime.evaluate" in capsys.readouterr().err
