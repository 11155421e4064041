"""MAST's methods as options, and the tables and pictures of its study, without runs."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from configs.load import ConfigError, dump_run_config, load_run_config
from configs.run_files import CHECKPOINT, EPISODES, RESOLVED
from configs.schema import EnvName
from learner.checkpoint_file import CheckpointContent, CheckpointProgress, write_checkpoint
from learner.sparse.tiny import main as print_tiny
from learner.studies.analysis import Finished, FinishedCell
from learner.studies.cells import Cell, Evaluation
from learner.studies.mast_methods import (
    ABLATIONS,
    METHODS,
    ablations,
    preset_of,
    resolve,
    words,
)
from learner.studies.mast_plot import draw_curves, draw_seeds, draw_sizes, method_curve
from learner.studies.mast_report import study
from learner.studies.mast_table import markdown, rows_of, write_csv

TASKS: tuple[EnvName, ...] = ("battle", "relay")
STEPS = 1000


def cell_of(folder: Path, name: str, seed: int = 0) -> FinishedCell:
    cell = Cell(folder / name / f"seed-{seed}")
    return FinishedCell("relay", name, seed, preset_of("relay", "dense"), (), cell)


def begin(cell: FinishedCell) -> Path:
    """A run that has come to its end."""
    folder = cell.cell.folder / "runs" / "20260101-000000-relay"
    folder.mkdir(parents=True)
    progress = CheckpointProgress(env_steps=STEPS, episodes=1, updates=1, version=1)
    write_checkpoint(folder / CHECKPOINT, CheckpointContent(progress, {}, {}, ""))
    return folder


def evaluated(cell: FinishedCell, opponent: str, figures: dict[str, Any]) -> None:
    cell.cell.evaluation_path(Evaluation(opponent=opponent)).write_text(json.dumps(figures))


def complete(cell: FinishedCell, reached: float, summary: dict[str, Any]) -> Path:
    """A relay run that has been trained and evaluated."""
    folder = begin(cell)
    figures = {"exit_reason": "finished", **summary}
    (folder / "summary.json").write_text(json.dumps(figures))
    evaluation = {"evaluation_episodes": 100, "return_mean": reached}
    evaluated(cell, "", evaluation | {"edge_bytes_per_agent_step": 40.0 + cell.seed})
    return folder


# --- presets and methods --------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_methods_differ_in_nothing_but_the_method(task: EnvName) -> None:
    """Only what table 1 compares is another, and the step size of all that are a tenth as large."""
    dense = preset_of(task, "dense")
    its_own = {
        "tiny": ({"network"}, set[str]()),
        "static": ({"sparse"}, {"publish"}),
        "set": ({"sparse"}, {"publish"}),
        "rigl": ({"sparse"}, {"publish"}),
        "rlx2": (
            {"sparse"},
            {"publish", "n_step", "replay_distance"},
        ),
        "mast": ({"sparse"}, {"publish", "operator", "online_episodes"}),
    }
    # Battle's dense recipe has λ-returns from its first step: RLx2 has them not, MAST as they are.
    # Relay has none, MAST has some after a while, as in the paper.
    in_proportion = {"mellowmax_alpha", "mellowmax_omega"}
    if task == "battle":
        its_own["rlx2"][1].add("td_lambda")
        its_own["mast"][1].update(in_proportion)
    else:
        its_own["rlx2"][1].add("td_lambda_start")
        its_own["mast"][1].update({"td_lambda", "td_lambda_start"})
    rates = {preset_of(task, base).learner.learning_rate for base in its_own}
    assert len(rates) == 1
    for base, (sections, of_learner) in its_own.items():
        preset = preset_of(task, base)
        assert {
            field.name
            for field in dataclasses.fields(preset)
            if field.name != "learner" and getattr(preset, field.name) != getattr(dense, field.name)
        } == sections, base
        differs = {
            field.name
            for field in dataclasses.fields(preset.learner)
            if getattr(preset.learner, field.name) != getattr(dense.learner, field.name)
        }
        rates_of = {"learning_rate"} | ({"learning_rate_end"} if task == "battle" else set[str]())
        assert differs == of_learner | rates_of, base
        assert preset.sparse.method == {"tiny": "none", "rlx2": "rigl", "mast": "rigl"}.get(
            base, base
        )
        assert base == "tiny" or preset.sparse.sparsity == 0.9
        if preset.sparse.method in ("set", "rigl"):
            assert (
                dataclasses.replace(preset.sparse, method="rigl") == preset_of(task, "rigl").sparse
            ), base


@pytest.mark.parametrize("task", TASKS)
def test_tiny_has_the_sizes_that_match_the_sparse_policy(
    task: EnvName, capsys: pytest.CaptureFixture[str]
) -> None:
    print_tiny(resolve(task, "rigl").options)
    wanted = yaml.safe_load(capsys.readouterr().out)["network"]
    network = preset_of(task, "tiny").network
    assert {name: getattr(network, name) for name in wanted} == wanted


def test_a_value_that_mast_has_anyway_is_mast() -> None:
    assert resolve("relay", "mast-lambda-0.8") == resolve("relay", "mast")
    assert resolve("battle", "mast-t0-0", 900) == resolve("battle", "mast", 900)
    assert resolve("relay", "mast-lambda-0.2").name == "mast-lambda-0.2"


def test_with_other_steps_the_delay_stays_the_same_share_of_the_run() -> None:
    config = load_run_config(resolve("relay", "mast", 800).options)
    assert (config.steps, config.learner.td_lambda_start) == (800, 300)
    assert load_run_config(resolve("relay", "dense", 800).options).learner.td_lambda_start == 0


def test_another_sparsity_is_an_option_and_for_tiny_other_sizes() -> None:
    assert load_run_config(resolve("relay", "mast@0.8").options).sparse.sparsity == 0.8
    smaller = load_run_config(resolve("relay", "tiny@0.95").options).network.hidden
    assert smaller < preset_of("relay", "tiny").network.hidden
    for name in ("dense@0.9", "rigl@1.5", "rigl@much"):
        with pytest.raises(ConfigError, match=r"sparsity"):
            resolve("relay", name)


@pytest.mark.parametrize("task", TASKS)
def test_each_ablation_changes_one_thing_and_one_of_its_values_is_mast(task: EnvName) -> None:
    found = ablations(task, 4000)
    for table, ablation in ABLATIONS.items():
        own = [method for method in found if method.table == table]
        assert [method.label for method in own] == list(ablation.values)
        assert sum(method.name == "mast" for method in own) == 1, table
    assert len({method.name for method in found}) == len(found) - len(ABLATIONS) + 1


def test_ablations_are_the_papers_values_as_options() -> None:
    mast = load_run_config(resolve("relay", "mast", 4000).options)

    def of(name: str) -> Any:
        return load_run_config(resolve("relay", name, 4000).options)

    assert of("mast-t0-0.75").learner.td_lambda_start == 3000
    assert of("mast-lambda-0.2").learner == dataclasses.replace(mast.learner, td_lambda=0.2)
    operator = of("mast-operator-5-10").learner
    assert (operator.mellowmax_alpha, operator.mellowmax_omega) == (5.0, 10.0)
    assert of("mast-operator-max").learner.operator == "max"
    assert of("mast-buffers-8-0").learner.online_episodes == 0
    assert of("mast-buffers-3-5").learner.online_rows == 20, "five eighths of 32"
    assert of("mast-buffers-0-8").learner.online_rows == 32
    assert of("mast-interval-2000").sparse.period == 10 * mast.sparse.period
    assert of("mast-fraction-0.3").sparse == dataclasses.replace(mast.sparse, fraction=0.3)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    for name in ("rigel", "mast-lambda-0.3", "rigl-lambda-0.2"):
        with pytest.raises(ConfigError) as error:
            words("relay", name)
        assert f"unknown method {name}: choose from dense, tiny, static" in str(error.value)
        assert "mast-lambda-{0,0.2," in str(error.value)


# --- tables and pictures --------------------------------------------------------------------------

DENSE = {
    "model_size": 1000.0,
    "training_flops": 400.0,
    "inference_flops": 10.0,
    "version_bytes_mean": 2000.0,
    "learner_update_s_mean": 0.5,
    "sparsity": None,
}
SPARSE = DENSE | {
    "model_size": 110.0,
    "training_flops": 41.0,
    "inference_flops": 1.0,
    "version_bytes_mean": 300.0,
    "sparsity": 0.9,
}


@pytest.fixture
def cells(tmp_path: Path) -> list[FinishedCell]:
    """dense reached 0.8 and 1.0, MAST 0.85 and 0.89."""
    reached = {("dense", 0): 0.8, ("dense", 1): 1.0, ("mast", 0): 0.85, ("mast", 1): 0.89}
    found: list[FinishedCell] = []
    for (name, seed), value in reached.items():
        cell = cell_of(tmp_path, name, seed)
        run = complete(cell, value, DENSE if name == "dense" else SPARSE)
        config = preset_of("relay", name)
        evaluation = dataclasses.replace(config.evaluation, episodes=1)
        config = dataclasses.replace(config, evaluation=evaluation)
        (run / RESOLVED).write_text(dump_run_config(config))
        with (run / EPISODES).open("w") as log:
            for t_s, steps in enumerate((0, 100 + 100 * seed)):
                episode = {"t_s": t_s, "env_steps": steps, "evaluation": True, "won": False}
                log.write(json.dumps({**episode, "episode_return": value * steps / 100}) + "\n")
        found.append(cell)
    return found


def test_rows_are_shares_of_the_dense_methods_means(cells: list[FinishedCell]) -> None:
    dense, mast = rows_of(cells, "relay")
    assert (dense.name, dense.seeds, dense.sparsity, dense.size) == ("dense", (0, 1), 0.0, 1.0)
    assert dense.reached[""].mean == pytest.approx(0.9)
    assert dense.reached[""].deviation == pytest.approx(0.02**0.5), "of two values 0.2 apart"
    assert (mast.sparsity, mast.size) == (0.9, pytest.approx(0.11))
    assert mast.training_flops == pytest.approx(41 / 400)
    assert mast.inference_flops == pytest.approx(0.1)
    assert mast.normalised[""].mean == pytest.approx(0.87 / 0.9)
    assert mast.normalised[""].deviation == pytest.approx(0.0008**0.5 / 0.9)
    assert (mast.version_bytes, mast.edge_bytes, mast.wall_s) == (300.0, 40.5, None)


def test_the_table_says_what_was_measured_and_a_dash_for_the_rest(
    cells: list[FinishedCell],
) -> None:
    lines = markdown(rows_of(cells, "relay"), [], "relay").splitlines()
    assert len(lines) == 4
    assert lines[3] == (
        "| mast | 2 | 90.0% | 0.110× | 0.102× | 0.100× | 0.870 ± 0.028 | 96.7% ± 3.1% "
        "| 0.500 | – | 300 | 40 |"
    )
    alone = markdown(rows_of(cells[3:], "relay"), [], "relay").splitlines()
    assert alone[2].startswith("| mast | 1 | 90.0% | – | – | – | 0.890 | – |"), "without dense"


def test_opponents_have_columns_of_their_own(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "dense")
    begin(cell)
    for opponent, win_rate in (("scripted", 0.5), ("idqn", 1.0)):
        figures = {"evaluation_episodes": 9, "win_rate": win_rate, "edge_bytes_per_agent_step": 8}
        evaluated(cell, opponent, figures)
    text = markdown(rows_of([cell], "battle"), [], "battle")
    assert "| win rate against scripted | of dense | win rate against idqn | of dense |" in text
    assert "| 0.500 | 100.0% | 1.000 | 100.0% |" in text


def test_an_ablation_is_a_table_with_mast_in_its_place(
    cells: list[FinishedCell], tmp_path: Path
) -> None:
    other = cell_of(tmp_path, "mast-lambda-0.2")
    complete(other, 0.45, SPARSE)
    text = markdown(rows_of([*cells, other], "relay"), ablations("relay"), "relay")
    first, *others = text.split("\n\nTable ")
    assert "lambda" not in first
    table = next(text for text in others if text.startswith("7"))
    assert table.splitlines()[2:] == [
        "| | of dense |",
        "|---|---|",
        "| 0.2 | 50.0% |",
        "| 0.8 | 96.7% ± 3.1% |",
    ]


def test_the_csv_has_all_digits_and_gaps(cells: list[FinishedCell], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(rows_of(cells, "relay"), path)
    with path.open() as file:
        dense, mast = csv.DictReader(file)
    assert (dense["method"], mast["method"], mast["seeds"]) == ("dense", "mast", "0 1")
    assert float(mast["of_dense"]) == pytest.approx(0.87 / 0.9, abs=1e-12)
    assert mast["wall_s"] == ""


def test_curves_of_several_runs_end_where_the_shortest_does(cells: list[FinishedCell]) -> None:
    curve = method_curve(cells[:2], "relay")
    assert curve is not None
    assert curve.steps[-1] == 100
    # Seed 0 has come to 0.8 by then; seed 1 is at half of its way to 2.0.
    np.testing.assert_allclose(curve.reached[:, -1], [0.8, 1.0])


def test_pictures_are_written_whatever_is_missing(
    cells: list[FinishedCell], tmp_path: Path
) -> None:
    for number, some in enumerate((cells, cells[3:])):
        sizes, curves = tmp_path / f"sizes-{number}.png", tmp_path / f"curves-{number}.png"
        draw_sizes(rows_of(some, "relay"), "relay", sizes)
        draw_curves(some, "relay", curves)
        seeds = tmp_path / f"seeds-{number}.png"
        draw_seeds(some, "relay", seeds)
        for path in (sizes, curves, seeds):
            assert path.read_bytes().startswith(b"\x89PNG")


def test_the_step_of_analysis_writes_table_1_of_each_task(
    cells: list[FinishedCell], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    text = study(Finished("mast", "small", folder, tuple(reversed(cells)), {}, {}))
    assert "## MAST's tables on relay" in text
    assert text.index("| dense | 2 |") < text.index("| mast | 2 |"), "in the order of the paper"
    assert sorted(path.name for path in folder.iterdir()) == [
        "relay-curves.png",
        "relay-seeds.png",
        "relay-sizes.png",
        "relay.csv",
    ]


def test_all_methods_have_presets_for_all_tasks() -> None:
    folder = Path(__file__).parents[3] / "configs" / "mast"
    wanted = {f"{task}-{method}" for task in ("battle", "relay") for method in METHODS}
    assert {path.stem for path in folder.glob("*.yaml")} == wanted
