"""Table 8 of cells that lie on disk, and of a real training (slow)."""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from configs.load import dump_run_config
from configs.run_files import RESOLVED, SUMMARY
from learner.studies.analysis import Finished, FinishedCell
from learner.studies.diagnostics.system_profile import figures_of, study
from learner.studies.plan import Job, Request, plan
from learner.studies.study import Arm, Scale, Study, Task, read_study
from tests.learner.studies.test_cells import begin

SUMMARY_OF_RUN = {
    "exit_reason": "finished",
    "env_copies": 2,
    "env_steps_per_s": 50.5,
    "learner_updates": 3,
    "out_degree_mean": 1.5,
    "edge_bytes_per_agent_step": 281.0,
}
STUDY = Study(
    title="One",
    tasks={"battle-20": Task(env="relay", agents=4), "relay-2": Task(env="relay", agents=2)},
    arms={"sops": Arm(), "gacg": Arm(options={"comm": "gacg"}, central=True)},
    scales={"smoke": Scale(seeds=(0,), steps=400, episodes=0)},
)


def trained(job: Job, memory: dict[str, float]) -> FinishedCell:
    run = begin(job.cell, 400)
    (run / RESOLVED).write_text(dump_run_config(job.config))
    (run / SUMMARY).write_text(json.dumps(SUMMARY_OF_RUN))
    if memory:
        job.cell.keep_memory(memory)
    return FinishedCell(job.task, job.arm, job.seed, job.config, (), job.cell)


@pytest.fixture
def jobs(tmp_path: Path) -> tuple[Job, ...]:
    return plan(STUDY, Request(scale="smoke", out=tmp_path)).jobs


def test_a_row_says_what_the_run_has_recorded_and_names_what_nobody_knows(
    jobs: tuple[Job, ...],
) -> None:
    memory = {"processes": 10.0, "pss_mb": 1000.0, "learner_rss_mb": 500.0}
    figures, missing = figures_of(trained(jobs[0], memory))
    assert figures == {
        "copies": 2.0,
        "steps_per_s": 50.5,
        "out_degree": 1.5,
        "edge_bytes": 281.0,
        "updates": 3.0,
        "processes": 10.0,
        "pss_gb": pytest.approx(1.048576),
        "learner_gb": pytest.approx(0.524288),
    }
    (why,) = missing
    assert why.startswith("no activations: ")
    central, missing = figures_of(trained(jobs[1], {"processes": 1.0, "learner_rss_mb": 300.0}))
    assert central["edge_bytes"] == 0.0, "nothing leaves the process"
    assert "pss_gb" not in central
    assert [why.partition(":")[0] for why in missing] == [
        "one process, so its steps/s are not those of agents that run apart",
        "no PSS",
        "no activations",
    ]


def test_what_was_not_run_keeps_its_line_with_the_papers_numbers(
    jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    paper = read_study("sops-table8").paper
    cell = trained(jobs[0], {})
    folder = tmp_path / "study"
    folder.mkdir()
    text = study(Finished("one", "smoke", folder, (cell,), {}, paper))
    lines = [line for line in text.splitlines() if line.startswith("| battle")]
    assert len(lines) == 25
    assert lines[0].startswith("| battle-20 | sops | 2 | – | 1.5 | 3.1 | 50.5 | 100.8 | – | – |")
    assert lines[0].endswith("| – | 1.87 | – | 281 |")
    assert lines[-2].startswith("| battle-121 | gacg (not run) | – | – | – | 121 | – | 14.5 |")
    assert "- battle-20, sops, seed 0: nobody looked at its memory" in text
    with (folder / "profile.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["steps_per_s"], row["steps_per_s_paper"]) == ("50.5", "100.8")


def test_without_a_row_of_the_paper_its_table_is_left_out(
    jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    paper = read_study("sops-table8").paper
    cell = trained(next(job for job in jobs if job.task == "relay-2"), {})
    text = study(Finished("one", "smoke", tmp_path, (cell,), {}, paper))
    assert "battle" not in text
    assert "paper" not in text


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(600)
def test_a_real_training_is_profiled_while_it_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "learner.studies.run", "sops-table8", "--scale", "smoke"]
    # Long enough for a look at all of them, also where a process takes long to start.
    command += ["--tasks", "relay-4", "--arms", "sops", "gacg", "--steps", "4000"]
    command += ["--out", str(tmp_path)]
    with tempfile.TemporaryDirectory(prefix="run-") as sockets:
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "TMPDIR": sockets}
        )
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "sops-table8-smoke" / "profile.csv").open() as file:
        sops, gacg = csv.DictReader(file)
    assert float(sops["processes"]) >= 4 + 4, "agents, node, world, learner, launcher"
    assert float(gacg["processes"]) == 1.0
    assert float(sops["pss_gb"]) > 0.1
    assert 0.1 < float(sops["learner_gb"]) < 2.0
    assert float(gacg["out_degree"]) == 3.0
    assert float(sops["edge_bytes"]) > 0.0 == float(gacg["edge_bytes"])
    for row in (sops, gacg):
        assert float(row["updates"]) > 0
        assert float(row["activation_gb"]) >= float(row["at_once_gb"]) > 0.0
