"""The protocol of table 1 without its runs: plans, what lies on disk, tables and pictures."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from configs.load import ConfigError, dump_run_config, load_run_config
from configs.run_files import EPISODES, RESOLVED
from configs.schema import EnvName
from learner.checkpoint_file import CheckpointContent, CheckpointProgress, write_checkpoint
from learner.sparse.tiny import main as print_tiny
from learner.studies import protocol
from learner.studies.cells import Cell, State
from learner.studies.methods import ABLATIONS, METHODS, Method, ablations, preset_of, resolve
from learner.studies.protocol import Stop, Worker, main
from learner.studies.protocol_plan import ProtocolOptions, plan
from learner.studies.protocol_plot import draw_curves, draw_seeds, draw_sizes, method_curve
from learner.studies.protocol_report import complete_cells, report
from learner.studies.protocol_table import markdown, rows_of, write_csv
from runtime.launch import CHECKPOINT

TASKS: tuple[EnvName, ...] = ("battle", "relay")
STEPS = 1000


def cell_of(folder: Path, name: str, seed: int = 0) -> Cell:
    return Cell(Method(name, name, ()), seed, folder / "relay" / name / f"seed-{seed}")


def begin(cell: Cell, env_steps: int, run: str = "20260101-000000-relay") -> Path:
    """A run that has come so far."""
    folder = cell.folder / "runs" / run
    folder.mkdir(parents=True)
    progress = CheckpointProgress(env_steps=env_steps, episodes=1, updates=1, version=1)
    write_checkpoint(folder / CHECKPOINT, CheckpointContent(progress, {}, {}, ""))
    return folder


def complete(
    cell: Cell, reached: float, summary: dict[str, Any] | None = None, episodes: int = 100
) -> Path:
    """A relay run that has been trained and evaluated."""
    folder = begin(cell, STEPS)
    figures = {"exit_reason": "finished", **(summary or {})}
    (folder / "summary.json").write_text(json.dumps(figures))
    evaluation = {"evaluation_episodes": episodes, "return_mean": reached}
    evaluation |= {"edge_bytes_per_agent_step": 40.0 + cell.seed}
    cell.evaluation_path("").write_text(json.dumps(evaluation))
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


def test_an_unknown_method_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("rigel", "mast-lambda-0.3", "rigl-lambda-0.2"):
        with pytest.raises(SystemExit) as stop:
            main(["--task", "relay", "--methods", name, "--out", f"{tmp_path / 'out'}"])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert f"unknown method {name}: choose from dense, tiny, static" in error
        assert "mast-lambda-{0,0.2," in error
    assert not (tmp_path / "out").exists()


# --- what is missing ------------------------------------------------------------------------------


def test_a_cell_is_as_far_as_its_files_say(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "rigl")

    def standing(episodes: int = 100) -> tuple[State, int]:
        found = cell.standing("relay", STEPS, episodes)
        return found.state, found.env_steps

    assert standing() == (State.MISSING, 0)
    died_at_once = cell.folder / "runs" / "20260101-000000-relay"
    died_at_once.mkdir(parents=True)
    assert standing() == (State.MISSING, 0)
    (died_at_once / CHECKPOINT).write_bytes(b"half a checkpoint")
    assert standing() == (State.MISSING, 0)

    run = begin(cell, 400, "20260101-000001-relay")
    (run / "summary.json").write_text(json.dumps({"exit_reason": "interrupted"}))
    assert standing() == (State.HALF_DONE, 400)
    assert cell.standing("relay", STEPS, 100).run == run
    # Interrupted within its last evaluation: the steps are done.
    assert cell.standing("relay", 400, 100).state is State.TRAINED
    (run / "summary.json").write_text(json.dumps({"exit_reason": "finished"}))
    assert standing() == (State.TRAINED, 400)

    cell.evaluation_path("").write_text(json.dumps({"evaluation_episodes": 50}))
    assert standing(episodes=50) == (State.DONE, 400)
    assert standing(episodes=51) == (State.TRAINED, 400), "fewer episodes than are asked for"


def test_in_battle_both_opponents_must_have_been_met(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "rigl")
    begin(cell, STEPS)
    cell.evaluation_path("scripted").write_text(json.dumps({"evaluation_episodes": 100}))
    assert cell.standing("battle", STEPS, 100).state is State.TRAINED
    cell.evaluation_path("idqn").write_text(json.dumps({"evaluation_episodes": 100}))
    assert cell.standing("battle", STEPS, 100).state is State.DONE


def test_a_seed_of_every_method_comes_before_the_next_seed(tmp_path: Path) -> None:
    options = ProtocolOptions(
        task="relay", methods=("dense", "mast"), seeds=(3, 1), out=tmp_path, options=("agents=4",)
    )
    jobs = plan(options)
    assert [(job.cell.method.name, job.cell.seed) for job in jobs] == [
        ("dense", 3),
        ("mast", 3),
        ("dense", 1),
        ("mast", 1),
    ]
    assert jobs[1].cell.folder == tmp_path / "relay" / "mast" / "seed-3"
    config = load_run_config(jobs[1].arguments)
    assert config == jobs[1].config
    assert (config.num_agents, config.seed, config.steps) == (4, 3, 20_000)


def test_mast_is_trained_once_for_all_tables(tmp_path: Path) -> None:
    options = ProtocolOptions(
        task="relay", methods=("dense", "mast"), seeds=(0,), ablations=True, out=tmp_path
    )
    names = [job.cell.method.name for job in plan(options)]
    assert names[:2] == ["dense", "mast"]
    assert len(set(names)) == len(names) == 2 + 28


def test_what_was_begun_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    options = ProtocolOptions(task="relay", methods=("rigl",), seeds=(0,), steps=800, out=tmp_path)
    (job,) = plan(options)
    run = begin(job.cell, 100)
    (run / RESOLVED).write_text(dump_run_config(job.config))
    plan(dataclasses.replace(options, options=("device=cpu", "learner.threads=1")))
    for other, section in (
        (dataclasses.replace(options, steps=900), "steps"),
        (dataclasses.replace(options, options=("agents=8",)), "num_agents"),
        (dataclasses.replace(options, options=("sparse.period=7",)), "sparse"),
        (dataclasses.replace(options, options=("learner.gamma=0.5",)), "learner"),
    ):
        with pytest.raises(ConfigError, match=f"was begun with other {section} "):
            plan(other)


def test_what_another_call_has_begun_meanwhile_is_looked_at_again(tmp_path: Path) -> None:
    options = ProtocolOptions(task="relay", methods=("rigl",), seeds=(0,), steps=800, out=tmp_path)
    (job,) = jobs = plan(options)
    other = dataclasses.replace(
        job.config, learner=dataclasses.replace(job.config.learner, gamma=0.5)
    )
    (begin(job.cell, 800) / RESOLVED).write_text(dump_run_config(other))
    with pytest.raises(ConfigError, match="was begun with other learner"):
        Worker(options, Stop(0.0)).work_off(jobs)


DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
LISTENS = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
SLEEPS = "print(flush=True); time.sleep(60)"


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Children that have been killed; they share our process group here."""
    found: list[int] = []

    def kill(pid: int, _: int) -> None:
        found.append(pid)
        os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(protocol.os, "killpg", kill)
    return found


@contextmanager
def child_of(program: str) -> Generator["subprocess.Popen[bytes]"]:
    """A process that has come to its print."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child


def test_a_child_that_does_not_leave_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: list[int]
) -> None:
    monkeypatch.setattr(protocol, "_LEAVE_S", 0.0)
    worker = Worker(ProtocolOptions(task="relay", out=tmp_path), Stop(0.0))
    with child_of(DEAF + SLEEPS) as child:
        assert worker.leave(child) == -signal.SIGKILL
        assert killed == [child.pid]


def test_a_ctrl_c_that_comes_as_the_child_goes_kills_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: list[int]
) -> None:
    stop = Stop(0.0)
    worker = Worker(ProtocolOptions(task="relay", out=tmp_path), stop)
    # Python leaves a Ctrl-C alone that was ignored when it began, as it is in a background job.
    with child_of(f"{LISTENS}{SLEEPS}") as child:
        wait = child.wait

        def wait_and_be_asked_again(timeout: float | None = None) -> int:
            code = wait(timeout)
            stop.signals = 2
            return code

        monkeypatch.setattr(child, "wait", wait_and_be_asked_again)
        assert worker.leave(child) == -signal.SIGINT
        assert killed == []


def test_the_list_says_how_far_all_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--task", "relay", "--methods", "dense", "rigl", "mast", "--seeds", "0"]
    command += ["--steps", f"{STEPS}", "--out", f"{tmp_path}", "--list"]
    options = ProtocolOptions(task="relay", methods=("dense", "rigl"), steps=STEPS, out=tmp_path)
    configs = {job.cell.method.name: job.config for job in plan(options) if job.cell.seed == 0}
    for run, name in (
        (complete(cell_of(tmp_path, "dense"), 1.0), "dense"),
        (begin(cell_of(tmp_path, "rigl"), 250), "rigl"),
    ):
        (run / RESOLVED).write_text(dump_run_config(configs[name]))
    assert main(command) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [(words[0], words[-1].strip()) for words in lines] == [
        ("dense, seed 0", "done"),
        ("rigl, seed 0", "half done, 250 of 1000 steps"),
        ("mast, seed 0", "missing"),
        ("relay: 1 missing, 1 half done, 1 done",) * 2,
    ]
    assert not (tmp_path / "relay" / "mast").exists()


def test_a_cell_that_somebody_works_on_is_taken(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "rigl")
    with cell.locked() as first:
        assert first is not None
        with cell.locked() as second:
            assert second is None
    with cell.locked() as third:
        assert third is not None


def test_seconds_of_all_sittings_count(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "rigl")
    assert cell.seconds() is None
    run = begin(cell, 10)
    times = [1.0, 5.0, 40.0, 2.0, 3.5, 0.25]
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({"t_s": t_s, "env_steps": 7}) + "\n" for t_s in times)
    )
    assert cell.seconds() == 40.0 + 3.5 + 0.25
    assert cell.progress() == 7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": ()}, "name at least one"),
        ({"methods": ()}, "name at least one"),
        ({"seeds": (0, -1)}, "seeds must be between 0 and 2147483647, got -1"),
        ({"seeds": (0, 1, 0)}, "seeds: each once, got 0 1 0"),
        (
            {"options": ("device=cpu", "seed=3")},
            "options: seed is what the protocol itself decides",
        ),
        ({"options": ("env=battle", "config=x")}, "options: env, config is what"),
        ({"episodes": 0}, r"episodes must be between 1 and 10\^6, got 0"),
        ({"minutes": -1.0}, "minutes must be in .*, got -1.0"),
        ({"options": ("device=cpu", "--device")}, "options: --device is not of the form"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ProtocolOptions(task="relay", **changes)


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
def cells(tmp_path: Path) -> list[Cell]:
    """dense reached 0.8 and 1.0, MAST 0.85 and 0.89."""
    reached = {("dense", 0): 0.8, ("dense", 1): 1.0, ("mast", 0): 0.85, ("mast", 1): 0.89}
    found: list[Cell] = []
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


def test_the_table_has_all_that_is_complete_whatever_was_asked_for(
    cells: list[Cell], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(cell_of(tmp_path, "rigl"), 10)  # not complete, and says not with which settings
    complete(cell_of(tmp_path, "mast-first"), 0.1)
    other = complete(cell_of(tmp_path, "static"), 0.5)
    for cell in cells:
        config = dataclasses.replace(preset_of("relay", cell.method.name), seed=cell.seed)
        (run,) = cell.folder.glob("runs/*")
        (run / RESOLVED).write_text(dump_run_config(config))
    static = dataclasses.replace(preset_of("relay", "static"), num_agents=5)
    (other / RESOLVED).write_text(dump_run_config(static))
    options = ProtocolOptions(task="relay", methods=("set",), seeds=(4,), out=tmp_path)
    assert [cell.name for cell in complete_cells(options)] == [
        "dense, seed 0",
        "dense, seed 1",
        "mast, seed 0",
        "mast, seed 1",
    ]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert "config.yaml cannot be read" in said[0] + said[1]
    assert "was begun with other num_agents (5, now 16)" in said[0] + said[1]
    report(options)
    assert "| mast | 2 | 90.0% | 0.110×" in (tmp_path / "relay" / "table.md").read_text()


def test_an_evaluation_is_of_the_run_that_lies_there(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "rigl")
    begin(cell, STEPS)
    cell.keep_evaluation("", b'{"evaluation_episodes": 100, "return_mean": 0.5}')
    assert cell.standing("relay", STEPS, 100).state is State.DONE
    begin(cell, STEPS, "20260202-000000-relay")
    assert cell.standing("relay", STEPS, 100).state is State.TRAINED


def test_a_cell_that_was_resumed_is_the_same_cell(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "rigl")
    run = complete(cell, 0.5)
    wanted = preset_of("relay", "rigl")
    (run / RESOLVED).write_text(dump_run_config(dataclasses.replace(wanted, life=2)))
    cell.require(wanted)


def test_damaged_files_are_named_or_done_without(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "rigl")
    run = complete(cell, 0.5)
    log = run / "metrics.jsonl"
    log.write_text('{"t_s": 1.0, "env_steps": 7}\n{"t_s": 3.0, "env_st')
    assert (cell.seconds(), cell.progress()) == (1.0, 7)
    (run / "summary.json").write_text('{"exit_reason": "fin')
    with pytest.raises(ConfigError, match=r"summary\.json is damaged .* remove it"):
        cell.summary()
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: No such file"):
        cell.require(preset_of("relay", "rigl"))


def test_a_damaged_line_in_the_middle_of_a_cells_log_is_named(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, "rigl")
    log = complete(cell, 0.5) / "metrics.jsonl"
    log.write_text(
        '{"t_s": 1.0, "env_st{"t_s": 0.5, "env_steps": 3}\n{"t_s": 1.5, "env_steps": 7}\n'
    )
    with pytest.raises(ConfigError, match=r"metrics\.jsonl, line 1 is damaged"):
        cell.seconds()
    assert cell.progress() == 7, "which the newest line says"


def test_rows_are_shares_of_the_dense_methods_means(cells: list[Cell]) -> None:
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


def test_the_table_says_what_was_measured_and_a_dash_for_the_rest(cells: list[Cell]) -> None:
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
    begin(cell, STEPS)
    for opponent, win_rate in (("scripted", 0.5), ("idqn", 1.0)):
        figures = {"evaluation_episodes": 9, "win_rate": win_rate, "edge_bytes_per_agent_step": 8}
        cell.evaluation_path(opponent).write_text(json.dumps(figures))
    text = markdown(rows_of([cell], "battle"), [], "battle")
    assert "| win rate against scripted | of dense | win rate against idqn | of dense |" in text
    assert "| 0.500 | 100.0% | 1.000 | 100.0% |" in text


def test_an_ablation_is_a_table_with_mast_in_its_place(cells: list[Cell], tmp_path: Path) -> None:
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


def test_the_csv_has_all_digits_and_gaps(cells: list[Cell], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(rows_of(cells, "relay"), path)
    with path.open() as file:
        dense, mast = csv.DictReader(file)
    assert (dense["method"], mast["method"], mast["seeds"]) == ("dense", "mast", "0 1")
    assert float(mast["of_dense"]) == pytest.approx(0.87 / 0.9, abs=1e-12)
    assert mast["wall_s"] == ""


def test_curves_of_several_runs_end_where_the_shortest_does(cells: list[Cell]) -> None:
    curve = method_curve(cells[:2], "relay")
    assert curve is not None
    assert curve.steps[-1] == 100
    # Seed 0 has come to 0.8 by then; seed 1 is at half of its way to 2.0.
    np.testing.assert_allclose(curve.reached[:, -1], [0.8, 1.0])


def test_pictures_are_written_whatever_is_missing(cells: list[Cell], tmp_path: Path) -> None:
    for number, some in enumerate((cells, cells[3:])):
        sizes, curves = tmp_path / f"sizes-{number}.png", tmp_path / f"curves-{number}.png"
        draw_sizes(rows_of(some, "relay"), "relay", sizes)
        draw_curves(some, "relay", curves)
        seeds = tmp_path / f"seeds-{number}.png"
        draw_seeds(some, "relay", seeds)
        for path in (sizes, curves, seeds):
            assert path.read_bytes().startswith(b"\x89PNG")


def test_all_methods_have_presets_for_all_tasks() -> None:
    folder = Path(__file__).parents[3] / "configs" / "mast"
    wanted = {f"{task}-{method}" for task in ("battle", "relay") for method in METHODS}
    assert {path.stem for path in folder.glob("*.yaml")} == wanted
