"""Tables, pictures and steps of analysis, of cells that lie complete on disk without a run."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.load import dump_run_config
from configs.run_files import EPISODES, RESOLVED, SUMMARY
from learner.studies import report as report_module
from learner.studies.analysis import Finished, analyse
from learner.studies.cells import Evaluation
from learner.studies.figures import Row, in_paper, measure, rows_of
from learner.studies.intervals import Interval
from learner.studies.plan import Job, Plan, Refusal, Request, plan
from learner.studies.report import overall, report, standings
from learner.studies.study import Arm, Scale, Step, Study, Task
from learner.studies.tables import markdown, number, shown, write_records
from tests.learner.studies.test_cells import begin

STUDY = Study(
    name="one",
    title="One",
    reproduces="table 9",
    differs="smaller",
    tasks={
        "relay-4": Task(env="relay", agents=4, transfer=(8,)),
        "relay-6": Task(env="relay", agents=6),
    },
    arms={"sops": Arm(), "none": Arm(options={"comm": "none"}, note="never speaks")},
    report=("headline", "auc", "edge_bytes"),
    spread="standard deviation",
    paper={"auc": {"relay-4": {"sops": [0.5, 0.1]}}, "return": {"relay-4@8": {"none": 0.25}}},
    scales={"smoke": Scale(seeds=(0, 1), steps=400, episodes=4)},
)
REACHED = {"sops": (0.8, 1.0), "none": (0.3, 0.5)}


def complete(job: Job, reached: float) -> None:
    """A cell that was trained and evaluated."""
    run = begin(job.cell, 400)
    tests = replace(job.config.evaluation, episodes=1)
    (run / RESOLVED).write_text(dump_run_config(replace(job.config, evaluation=tests)))
    (run / SUMMARY).write_text(json.dumps({"exit_reason": "finished", "sparsity": None}))
    with (run / EPISODES).open("w") as log:
        for steps in (0, 100, 400):
            episode: dict[str, Any] = {"t_s": 1.0, "env_steps": steps, "evaluation": True}
            episode |= {"won": False, "episode_return": reached * min(steps / 100, 1.0)}
            log.write(json.dumps(episode) + "\n")
        for number in range(110):
            episode |= {"evaluation": False, "episode_return": 0.0 if number < 10 else reached / 3}
            log.write(json.dumps(episode) + "\n")
    for evaluation in job.wanted.evaluations:
        at = reached / 2 if evaluation.agents else reached
        figures = {"evaluation_episodes": 4, "return_mean": at, "win_rate": None}
        figures |= {"edge_bytes_per_agent_step": 100.0, "out_degree_mean": None}
        job.cell.keep_evaluation(evaluation, json.dumps(figures).encode(), simulated=False)


@pytest.fixture
def request_of(tmp_path: Path) -> Request:
    return Request(scale="smoke", out=tmp_path)


@pytest.fixture
def done(request_of: Request) -> Plan:
    planned = plan(STUDY, request_of)
    for job in planned.jobs:
        complete(job, REACHED[job.arm][job.seed])
    return planned


@pytest.fixture
def rows(done: Plan) -> list[Row]:
    return rows_of(measure(done.jobs, STUDY.tasks))


def test_a_row_is_the_mean_over_the_seeds_of_an_arm_at_a_size(rows: list[Row]) -> None:
    assert [(row.task, row.arm) for row in rows] == [
        *(("relay-4", "sops"), ("relay-4@8", "sops"), ("relay-4", "none"), ("relay-4@8", "none")),
        *(("relay-6", "sops"), ("relay-6", "none")),
    ]
    sops, moved = rows[0].figures, rows[1].figures
    assert sops["headline"] == sops["return"]
    assert sops["return"].mean == pytest.approx(0.9)
    assert sops["return"].half == pytest.approx(12.706205 * 0.1, rel=1e-5)
    # 100 steps at half of what was reached, 300 at all of it.
    assert sops["auc"].mean == pytest.approx(0.9 * 350 / 400)
    assert moved["return"].mean == pytest.approx(0.45)
    assert sops["test"].mean == pytest.approx(0.9)
    assert sops["played"].mean == pytest.approx(0.3), "of the last hundred alone"
    assert "auc" not in moved, "it was trained at the other size"
    assert "win_rate" not in sops
    assert "out_degree" not in sops


def test_the_papers_number_stands_behind_ours_and_only_where_it_has_one(rows: list[Row]) -> None:
    headlines = {"relay-4": "return", "relay-6": "return"}
    text = markdown(rows, STUDY.report, STUDY.paper, headlines)
    first, moved, second = (part.splitlines() for part in text.split("### ")[1:])
    assert first[2] == "| arm | seeds | return | AUC | paper | edge bytes per agent-step |"
    assert first[4] == ("| sops | 2 | 0.900 ± 1.271 | 0.787 ± 1.112 | 0.5 ± 0.1 | 100.0 ± 0.000 |")
    assert first[5].split(" | ")[4] == "–"
    assert moved[:3] == [
        "relay-4@8",
        "",
        "| arm | seeds | return | paper | edge bytes per agent-step |",
    ]
    assert moved[5] == "| none | 2 | 0.200 ± 0.635 | 0.25 | 100.0 ± 0.000 |"
    assert "paper" not in second[2]


def test_numbers_are_as_long_as_they_say_something() -> None:
    assert [number(value) for value in (0.12345, -9.9, 12.34, 12345.6)] == [
        *("0.123", "-9.900", "12.3", "12,346"),
    ]
    assert shown(None) == "–"
    assert shown(Interval(0.5)) == "0.500"
    assert in_paper(STUDY.paper, "auc", "relay-4 vs idqn", "sops") == (0.5, 0.1)


def test_scenarios_are_taken_together_where_every_arm_has_all_of_them(done: Plan) -> None:
    pytest.importorskip("rliable.library")
    headlines = {"relay-4": "return", "relay-6": "return"}
    measured = measure(done.jobs, STUDY.tasks)
    found = overall(rows_of(measured), measured, headlines)
    assert found["return"]["sops"].mean == pytest.approx(0.9)
    assert found["return"]["none"].mean == pytest.approx(0.4)
    assert found["return"]["sops"].number == 2, "seeds"
    incomplete = [each for each in measured if (each.task, each.seed) != ("relay-6", 1)]
    assert overall(rows_of(incomplete), incomplete, headlines) == {}


def test_the_report_says_what_is_missing_and_why(
    done: Plan, request_of: Request, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Plan(done.jobs, (Refusal("relay-4", "gacg", "unknown communication scheme"),))
    (run,) = done.jobs[-1].cell.folder.glob("runs/*/checkpoint.safetensors")
    run.unlink()
    done.jobs[-1].cell.keep_failure("training failed with exit code 1: no room")
    folder = tmp_path / "one-smoke"
    folder.mkdir()
    report(STUDY, request_of, refused, folder)
    text = (folder / "table.md").read_text()
    assert text.startswith("# One\n\nStudy `one` at scale smoke.\nReproduces table 9.\n")
    assert "Other than in the paper: smaller" in text
    assert "- none: never speaks" in text
    assert text.endswith(
        "Not in the tables:\n\n"
        "- relay-4, gacg: cannot run: unknown communication scheme\n"
        "- relay-6, none: missing (training failed with exit code 1: no room); seeds 1\n"
    )
    assert capsys.readouterr().out.startswith("# One\n")
    assert {"bytes.png", "cells.csv", "curves.png", "points.png", "table.csv", "transfer.png"} <= {
        path.name for path in folder.iterdir()
    }
    with (folder / "cells.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["seed"], first["steps"], first["episodes"], first["serial"]) == (
        *("0", "400", "4", "False"),
    )
    last = standings(STUDY, refused)[-1]
    assert last == "one: 1 missing, 7 done, 1 cannot run"


def test_what_is_unknown_stays_empty_in_both_formats(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [{"arm": "a", "auc": 0.1}, {"arm": "b", "bytes": 7.0}]
    assert [path.name for path in write_records(records, tmp_path / "x")] == ["x.csv", "x.parquet"]
    assert (tmp_path / "x.csv").read_text().splitlines() == ["arm,auc,bytes", "a,0.1,", "b,,7.0"]
    assert parquet.read_table(tmp_path / "x.parquet").to_pylist() == [
        {"arm": "a", "auc": 0.1, "bytes": None},
        {"arm": "b", "auc": None, "bytes": 7.0},
    ]


# --- steps of analysis ----------------------------------------------------------------------------


def counted(study: Finished) -> str:
    """A step."""
    for cell in study.cells:
        assert cell.policy == cell.run / "policy.safetensors"
        assert cell.evaluation(agents=8 if cell.transfer else None)["return_mean"] > 0.0
    (study.folder / "counted.txt").write_text(f"{study.name} {study.scale}")
    return f"{len(study.cells)} policies, {study.options}"


def refusing(study: Finished) -> str:
    raise ValueError(f"{study.name}: no policies at that size")


def unevaluated(study: Finished) -> str:
    return f"{len(study.cells)} trained"


def with_step(name: str, **options: object) -> Study:
    step = Step(run=f"{__name__}:{name}", options=dict(options))
    smoke = replace(STUDY.scales["smoke"], analysis={"episodes": 2})
    return replace(STUDY, analysis=(step,), scales={"smoke": smoke})


def test_a_step_gets_the_policies_and_its_options_and_its_text_is_in_the_table(
    done: Plan, request_of: Request, tmp_path: Path
) -> None:
    report(with_step("counted", episodes=20, hops=3), request_of, done, tmp_path)
    assert (tmp_path / "counted.txt").read_text() == "one smoke"
    # Markdown joins lines that no empty one keeps apart.
    assert "\n\n8 policies, {'episodes': 2, 'hops': 3}" in (tmp_path / "table.md").read_text()


def test_a_study_that_evaluates_nothing_is_its_analysis(request_of: Request) -> None:
    study = with_step("unevaluated")
    scales = {"smoke": replace(study.scales["smoke"], seeds=(0,), episodes=0)}
    study = replace(study, scales=scales)
    planned = plan(study, request_of)
    for job in planned.jobs:
        complete(job, 1.0)
    folder = request_of.out / "study"
    folder.mkdir()
    report(study, request_of, planned, folder)
    text = (folder / "table.md").read_text()
    assert "Trainings of 400 steps. ± is" in text
    assert "\n\n4 trained" in text
    assert not (folder / "table.csv").exists()


def test_steps_are_left_out_where_nothing_is_done_or_the_end_is_near(
    done: Plan, request_of: Request, tmp_path: Path
) -> None:
    nothing = plan(STUDY, replace(request_of, out=tmp_path / "elsewhere"))
    report(with_step("refusing"), request_of, nothing, tmp_path)
    report(with_step("refusing"), request_of, done, tmp_path, analyses=False)
    study = with_step("refusing")
    with pytest.raises(ValueError, match="one: no policies at that size"):
        analyse(study, study.scales["smoke"], "smoke", tmp_path, done.jobs)


def test_a_study_without_tasks_is_its_analysis(tmp_path: Path) -> None:
    study = Study(
        name="graphs",
        title="Graphs",
        scales={"smoke": Scale(seeds=())},
        analysis=(Step(run=f"{__name__}:counted"),),
    )
    request = Request(scale="smoke", out=tmp_path)
    planned = plan(study, request)
    assert planned == Plan((), ())
    report(study, request, planned, tmp_path)
    assert "0 policies, {}" in (tmp_path / "table.md").read_text()


def test_without_rliable_the_rest_of_the_tables_is_written(
    done: Plan, request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: object) -> None:
        raise report_module.UserError("means over scenarios need rliable")

    monkeypatch.setattr(report_module, "over_scenarios", missing)
    report(STUDY, request_of, done, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "Not in the tables: means over scenarios need rliable" in text
    assert "### relay-6" in text
    assert Evaluation(8).key == "-at-8"
