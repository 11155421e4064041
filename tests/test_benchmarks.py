"""The benchmarks measure what they say: counts, units, files; never how fast anything is."""

import dataclasses
import io
import json
import math
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agents.process.profile import SECTIONS
from learner.algorithms import base as loss_module
from learner.comm.unroll import unroll
from runtime.net import topology
from runtime.net.traffic import frame_zmtp_bytes
from runtime.record.json_lines import last_record
from tests.benchmarks import bare_loop, commits, machine, pipe_star
from tests.benchmarks.__main__ import main
from tests.benchmarks.budgets import budgets
from tests.benchmarks.case import CaseError, command_of, run_case
from tests.benchmarks.end_to_end import TrainingCase, rate, versions_on_sockets
from tests.benchmarks.interleaved import InterleavedCase
from tests.benchmarks.learner_update import make_learner
from tests.benchmarks.learner_update import measure as measure_update
from tests.benchmarks.lockstep import LockstepCase, configured
from tests.benchmarks.measuring import Measuring
from tests.benchmarks.paper_scale import Options as PaperScaleOptions
from tests.benchmarks.paper_scale import PaperScale, Piece, archive, outlook, read_pieces, restore
from tests.benchmarks.plan import (
    ABOUT,
    BARE,
    OURS,
    PIPES,
    QUICK,
    RAY,
    STANDARD,
    Extent,
    Size,
    Turn,
    plan,
)
from tests.benchmarks.process_cost import CpuTime, cpu_time
from tests.benchmarks.record import RecordError, Row, Session, read, write
from tests.benchmarks.report import render
from tests.benchmarks.tables import Measurements, as_markdown, number, tables
from tests.benchmarks.update_case import UpdateCase
from tests.benchmarks.workload import PERIOD, Workload, workload_of
from tests.process.runs import murmuration_processes, wait_for

TINY = Extent(
    seconds=0.2,
    rounds=2,
    block_s=0.1,
    telemetry_rounds=2,
    telemetry_group=2,
    lockstep=(Size("relay", 5, 2),),
    pipes=(Size("relay", 5, 2),),
    ray=(Size("relay", 5, 2),),
    gates=(Size("relay", 4),),
    edge_latency=(Size("relay", 4),),
    growth=(Size("relay", 4),),
    startup=(Size("relay", 4),),
    telemetry=(Size("relay", 4),),
    profile=(Size("relay", 4),),
    updates=(UpdateCase(agents=12, batch=2, steps=4),),
    trainings=(TrainingCase(agents=4, env="relay", steps=200, copies=4),),
)


def work(**changes: Any) -> Workload:
    base = Workload(
        agents=6,
        copies=2,
        seconds=0.1,
        messages_per_agent_tick=1.5,
        beacons_per_agent_tick=3.0,
        observation_bytes=300,
        action_bytes=20,
        message_bytes=290,
        beacon_bytes=61,
        observation_dim=10,
        num_actions=5,
    )
    return dataclasses.replace(base, **changes)


def session(*rows: Row) -> Session:
    return Session(
        begun="2026-01-02T03:04:05+00:00",
        machine=machine.machine(),
        source=machine.source(),
        options={"repeat": 1},
        load_before=[0.1, 0.2, 0.3],
        load_after=[0.4, 0.5, 0.6],
        wall_s=60.0,
        rows=list(rows),
    )


def row(benchmark: str, kind: str, case: dict[str, Any], **figures: float | None) -> Row:
    return Row(
        benchmark=benchmark,
        kind=kind,
        repetition=0,
        case=case,
        figures=figures,
        wall_s=1.0,
        load=0.5,
    )


# --- the work that all loops do -------------------------------------------------------------------


@pytest.mark.parametrize(("agents", "packets"), [(6, 1.5), (20, 2.5), (100, 3.7), (100, 0.0)])
def test_the_rule_of_open_edges_keeps_the_share(agents: int, packets: float) -> None:
    rule = work(agents=agents, messages_per_agent_tick=packets)

    sent = sum(len(rule.message_edges(i, t)) for i in range(agents) for t in range(PERIOD))

    assert sent / (agents * PERIOD) == pytest.approx(packets, abs=0.05)


def test_all_edges_are_open_when_every_packet_was_sent() -> None:
    rule = work(agents=20, messages_per_agent_tick=5.0)

    assert all(len(rule.message_edges(i, t)) == 5 for i in range(20) for t in range(PERIOD))


def test_who_waits_waits_for_exactly_what_was_sent() -> None:
    rule, agents = work(agents=20, messages_per_agent_tick=2.0, beacons_per_agent_tick=3.0), 20
    for tick in (0, 1, PERIOD - 1, PERIOD + 5):
        messages = {
            (i, topology.out_neighbours(i, agents)[k])
            for i in range(agents)
            for k in rule.message_edges(i, tick)
        }
        heard = {
            (topology.in_neighbours(j, agents)[k], j)
            for j in range(agents)
            for k in rule.heard_messages(j, tick)
        }
        assert heard == messages
        beacons = {
            (i, topology.in_neighbours(i, agents)[k])
            for i in range(agents)
            for k in rule.beacon_edges(i, tick)
        }
        heard = {
            (topology.out_neighbours(j, agents)[k], j)
            for j in range(agents)
            for k in rule.heard_beacons(j, tick)
        }
        assert heard == beacons


def test_work_cannot_be_taken_from_a_run_that_did_not_count() -> None:
    with pytest.raises(ValueError, match=r"^the run did not count messages_per_agent_tick$"):
        workload_of(
            {"steps_per_s": 1.0, "messages_per_agent_tick": None},
            agents=4,
            copies=1,
            seconds=1.0,
            observation_dim=6,
            num_actions=4,
        )


@pytest.mark.process
def test_the_bare_loop_sends_what_it_claims() -> None:
    asked = work()

    figures = bare_loop.measure(asked)

    ticks = figures["ticks"]
    assert ticks is not None
    for name, edges, size in (
        ("messages", asked.message_edges, asked.message_bytes),
        ("beacons", asked.beacon_edges, asked.beacon_bytes),
    ):
        sent = sum(len(edges(i, t)) for i in range(asked.agents) for t in range(int(ticks)))
        assert figures[f"{name}_per_agent_tick"] == pytest.approx(sent / (ticks * asked.agents))
        assert size > 16  # more than a header, which is never cut
    waited_for = sum(
        len(asked.heard_messages(i, t)) + len(asked.heard_beacons(i, t))
        for i in range(asked.agents)
        for t in range(int(ticks) - 1)
    )
    heard = waited_for / ((ticks - 1) * asked.agents)
    assert figures["heard_per_agent_tick"] == pytest.approx(heard)
    packets = [figures["messages_per_agent_tick"], figures["beacons_per_agent_tick"]]
    assert all(packets)
    assert figures["edge_payload_bytes_per_agent_step"] == pytest.approx(
        ((packets[0] or 0) * asked.message_bytes + (packets[1] or 0) * asked.beacon_bytes)
        / asked.copies
    )
    for name in ("steps_per_s", "cpu_us_per_agent_step", "pss_mb", "start_s"):
        assert (figures[name] or 0.0) > 0.0, name


@pytest.mark.process
def test_the_star_of_pipes_plays_the_same_work() -> None:
    figures = pipe_star.measure(work(seconds=0.05))

    for name in ("ticks", "steps_per_s", "cpu_us_per_agent_step", "pss_mb", "start_s"):
        assert (figures[name] or 0.0) > 0.0, name


# --- ours -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(180)
def test_a_session_measures_ours_and_what_stands_beside_it(tmp_path: Path) -> None:
    out, said = tmp_path / "figures.json", io.StringIO()
    turns = plan(("lockstep",), TINY)
    measuring = Measuring(session(), out, Console(file=said, width=200))

    assert measuring.run(turns)

    kept = read(out)
    assert [(r.kind, r.error) for r in kept.rows] == [(OURS, ""), (BARE, ""), (PIPES, "")]
    ours, bare, star = (r.figures for r in kept.rows)
    for name, value in ours.items():
        assert value is not None, name
        assert math.isfinite(value), name
    # Five agents have three offsets, of which the shortest two are open; nobody dies in relay.
    assert ours["open_share"] == pytest.approx(2 / 3)
    assert ours["alive_share"] == pytest.approx(1.0, abs=0.1)  # the last tick is cut off
    assert (ours["edge_packets_counted"] or 0.0) > 0.0
    assert ours["observations_per_agent_tick"] == pytest.approx(1.0, abs=0.1)
    bytes_per_tick = sum(
        (ours[f"{name}s_per_agent_tick"] or 0.0)
        * frame_zmtp_bytes(round(ours[f"{name}_bytes"] or 0))
        for name in ("message", "beacon")
    )
    assert ours["edge_bytes_per_agent_step"] == pytest.approx(bytes_per_tick / 2, rel=0.05)
    for name in ("messages_per_agent_tick", "beacons_per_agent_tick"):
        assert bare[name] == pytest.approx(ours[name], abs=0.05), name
    for other in (bare, star):
        assert other["rounds"] == ours["rounds"] == 2.0
        for name in ("ratio", "cpu_ratio"):
            low, middle, high = (other[f"{name}{end}"] or 0.0 for end in ("_low", "", "_high"))
            assert 0.0 < low <= middle <= high, name
    # Nobody was late while another had its turn.
    assert ours["missed_deadlines"] == ours["late_packets"] == 0.0
    assert "lockstep: murmuration" in said.getvalue()
    assert f"{star['ratio']:.2f} × pipe star" in said.getvalue()

    titles = [table.title for table in tables(kept)]
    assert titles == [
        "Ours against the loops beside it",
        "Lock-step rollouts",
        "Cpu of an agent-step",
        "Packets, bytes, memory, start",
    ]
    assert measuring.run(turns)  # nothing is left to measure
    assert len(read(out).rows) == 3
    assert murmuration_processes() == []


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(180)
def test_without_telemetry_nothing_that_crosses_is_counted_and_the_profile_adds_up() -> None:
    case = LockstepCase(env="relay", agents=4, seconds=0.2, telemetry="off", profile=True)

    figures = run_case("tests.benchmarks.lockstep", case, timeout_s=170)

    assert figures["edge_packets_counted"] == 0.0
    assert "edge_bytes_per_agent_step" not in figures
    assert "latency_p50_us" not in figures
    assert figures["open_share"] == pytest.approx(1 / 2)  # steps and edges are counted all the same
    assert (figures["steps_per_s"] or 0.0) > 0.0
    parts = {name: figures[f"profile_{name}_us"] or 0.0 for name in SECTIONS}
    assert all(part > 0.0 for part in parts.values()), parts
    # What no entry point covers is the loop around, never most of the step.
    assert parts["shell"] < 0.6 * sum(parts.values())
    assert 0.0 < (figures["profile_idle_share"] or 0.0) < 1.0


def test_the_half_open_policy_is_taken_unless_a_file_is_named() -> None:
    config, policy = configured(LockstepCase(env="relay", agents=100))
    other, untrained = configured(LockstepCase(env="relay", agents=100, policy="untrained"))

    assert config.env == other.env
    assert (policy.flat != untrained.flat).any()


def test_both_unrolls_start_from_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "unroll", unroll)  # what the plain case replaces
    ours = measure_update(UpdateCase(agents=12, batch=2, steps=6, updates=1))
    plain = measure_update(UpdateCase(agents=12, batch=2, steps=6, updates=1, unroll="plain"))

    assert plain["first_loss"] == pytest.approx(ours["first_loss"], rel=1e-4)
    for figures in (ours, plain):
        assert (figures["update_s"] or 0.0) > 0.0
        assert (figures["peak_rss_mb"] or 0.0) >= (figures["rss_before_mb"] or 0.0) > 50.0


def test_versions_on_sockets_are_counted_in_whole_versions() -> None:
    summary = {"policy_bytes": 60_000, "policy_versions": 3, "version_bytes_mean": 10_000.0}

    assert versions_on_sockets(summary) == 2.0
    assert versions_on_sockets(summary | {"policy_versions": 0}) is None


def test_a_counter_grows_from_its_first_change_to_its_last() -> None:
    rows = [{"t_s": float(t), "learner/updates": n} for t, n in enumerate([0, 0, 4, 4, 10, 16, 16])]

    assert rate(rows, "learner/updates") == pytest.approx((16 - 4) / (5 - 2))
    assert rate(rows[:3], "learner/updates") is None


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(200)
def test_a_training_run_is_measured_end_to_end() -> None:
    case = TrainingCase(
        agents=4, env="relay", steps=12_000, copies=8, options=("--learner.batch-size", "8")
    )

    figures = run_case("tests.benchmarks.end_to_end", case, timeout_s=180)

    for name in ("steps_per_s", "updates", "updates_per_s", "latency_p50_us", "pss_mb"):
        assert (figures[name] or 0.0) > 0.0, name


# --- what is measured -----------------------------------------------------------------------------


def test_every_benchmark_has_its_turns_and_fits_its_time() -> None:
    for extent, minutes in ((STANDARD, 20.0), (QUICK, 3.0)):
        turns = plan((), extent, has_ray=True)
        assert sum(turn.expected_s for turn in turns) / 60 <= minutes
        for name in ABOUT:
            assert plan((name,), extent), name
    sizes = {(size.agents, size.copies) for size in STANDARD.lockstep}
    assert sizes == {(n, e) for n in (20, 100, 400) for e in (1, 32)}


def test_on_a_gpu_updates_are_measured_in_all_precisions_and_replayed() -> None:
    case = TINY.updates[0]
    turns = plan(("learner_update",), TINY, device="cuda")
    on_gpu = dataclasses.replace(case, device="cuda")
    assert [turn.case for turn in turns] == [
        on_gpu,
        dataclasses.replace(on_gpu, precision="tf32"),
        dataclasses.replace(on_gpu, precision="bfloat16"),
        dataclasses.replace(on_gpu, cuda_graph="on"),
        dataclasses.replace(on_gpu, cuda_graph="on", precision="bfloat16"),
    ]
    assert [turn.case for turn in plan(("learner_update",), TINY)] == [case]


def test_what_stands_beside_ours_plays_in_the_same_turn() -> None:
    turns = plan(("lockstep", "telemetry"), TINY, has_ray=True, repeat=2)

    kinds = [turn.case.kinds for turn in turns if isinstance(turn.case, InterleavedCase)]
    assert kinds == [(OURS, BARE, PIPES, RAY), ("off", "on", "scraped")] * 2
    assert [turn.kind for turn in turns] == [OURS, "off"] * 2
    assert [turn.repetition for turn in turns] == [0, 0, 1, 1]


def test_a_policy_is_played_where_it_fits() -> None:
    turns = plan(("lockstep", "gates"), STANDARD, policy="battle.safetensors")

    played = {
        (t.case.env, t.case.gate_mode): t.case.policy
        for t in turns
        if isinstance(t.case, LockstepCase | InterleavedCase)
    }
    assert played["battle", "learned"] == "battle.safetensors"
    assert {policy for key, policy in played.items() if key != ("battle", "learned")} == {"half"}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no benchmark speed: there are lockstep"):
        plan(("speed",), TINY)


def test_a_turn_that_fails_leaves_its_error_and_the_rest_is_measured(tmp_path: Path) -> None:
    turns = [
        _turn(OURS, "tests.benchmarks.interleaved", InterleavedCase(env="battle", agents=2)),
        _turn(BARE, "tests.benchmarks.bare_loop", LockstepCase(env="battle", agents=2)),
    ]
    measuring = Measuring(session(), tmp_path / "f.json", Console(file=io.StringIO()))

    assert measuring.run(turns)

    errors = [r.error for r in read(tmp_path / "f.json").rows]
    assert "battle takes" in errors[0]
    assert errors[1] == "there is no run of ours to stand beside"
    assert "Not measured" in render(measuring.session)


def test_a_piece_begins_nothing_that_it_cannot_end() -> None:
    turn = _turn(OURS, "tests.benchmarks.lockstep", LockstepCase(env="relay", agents=4))
    measuring = Measuring(session(), None, Console(file=io.StringIO()))

    assert not measuring.run([turn], minutes=turn.expected_s / 60 - 0.01)
    assert measuring.session.rows == []


def _turn(kind: str, module: str, case: LockstepCase | InterleavedCase) -> Turn:
    return Turn(
        benchmark="lockstep", kind=kind, module=module, case=case, repetition=0, expected_s=1.0
    )


# --- what is written and read ---------------------------------------------------------------------


def test_a_machine_is_described() -> None:
    described = machine.machine()

    for name in ("cpu_model", "cores", "memory_gb", "kernel", "python", "numpy", "pyzmq", "libzmq"):
        assert described[name], name
    assert set(machine.source()) == {"commit", "dirty"}
    assert len(machine.load_average()) == 3


def test_cpu_of_a_process_grows_with_its_work() -> None:
    import os  # its own process

    before = cpu_time(os.getpid())
    sum(i * i for i in range(2_000_000))
    spent = cpu_time(os.getpid()) - before

    assert spent.main_s > 0.0
    assert spent.total_s >= spent.main_s
    assert cpu_time(2**22 + 1) == CpuTime()


def test_a_session_comes_back_from_its_file(tmp_path: Path) -> None:
    measured = session(row("lockstep", OURS, {"agents": 20}, steps_per_s=3.0, pss_mb=None))

    write(tmp_path / "f.json", measured)

    assert read(tmp_path / "f.json") == measured


@pytest.mark.parametrize("content", ["", "[]", '{"format": "murmuration-benchmarks/1"}', "{"])
def test_what_is_no_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "f.json").write_text(content)

    with pytest.raises(RecordError, match="holds no measurements"):
        read(tmp_path / "f.json")


def _full_session() -> Session:
    """Rows of every benchmark, as the standard plan has them, with figures made up."""
    rows: list[Row] = []
    for turn in plan((), STANDARD, has_ray=True):
        case = json.loads(json.dumps(dataclasses.asdict(turn.case)))  # pyright: ignore
        kinds = turn.case.kinds if isinstance(turn.case, InterleavedCase) else (turn.kind,)
        for kind in kinds:
            figures = dict.fromkeys(_FIGURES, 2.0) | _ratio_of(kind, case)
            rows.append(row(turn.benchmark, kind, case, **figures))
    return session(*rows)


def _ratio_of(kind: str, case: dict[str, Any]) -> dict[str, float]:
    """Ours is slower than the bare loop with many copies alone."""
    ratio = {BARE: 0.7 if case.get("copies") == 32 else 0.9, RAY: 5.0, "scraped": 1.25}.get(
        kind, 1.0
    )
    return {"ratio": ratio, "ratio_low": 0.9 * ratio, "ratio_high": 1.1 * ratio}


_FIGURES = (
    "steps_per_s",
    "versions_on_sockets",
    "update_s",
    "first_update_s",
    "pss_mb",
    "start_s",
    "open_share",
    "alive_share",
    "latency_p50_us",
    "latency_p99_us",
    "peak_rss_mb",
    "cpu_us_per_agent_step",
    "edge_bytes_per_agent_step",
    "all_edges_float32_bytes_per_agent_step",
    *(f"profile_{name}_us" for name in SECTIONS),
)


def test_every_budget_is_held_against_its_figure() -> None:
    found = {budget.what: budget for budget in budgets(_full_session())}

    assert len(found) == 12
    expected = {
        "100 agents, E=1, of the bare loop's speed": (0.9, True),
        "100 agents, E=32, of the bare loop's speed": (0.7, False),
        "100 agents, E=1, against Ray actors": (5.0, True),
        "memory of an agent (PSS), 100 agents": (2.0, True),
        "start of 1000 agents": (2.0, True),
        "growth of cpu per agent-step and K, 20 to 1000 agents": (0.5, True),
        "update at Battle-100 on cpu, against the reference's 17 s": (8.5, True),
        "peak memory of that update": (0.002, True),
        "edge bytes against all edges sending float32 (win rates: battle.md)": (1.0, False),
        "policy versions on a host's sockets, 100 agents": (2.0, False),
        "overhead of measuring, scraped, 100 agents, E=1": (20.0, False),
    }
    for what, (figure, met) in expected.items():
        assert found[what].figure == pytest.approx(figure), what
        assert found[what].met is met, what
    on_gpu = found["update at Battle-100 on one GPU, against the reference's 17 s"]
    assert (on_gpu.figure, on_gpu.met) == (None, None)
    assert "| 0.9 × (0.81 to 0.99) |" in render(_full_session())


def test_a_budget_without_figures_is_neither_met_nor_missed() -> None:
    assert {budget.met for budget in budgets(session())} == {None}


def test_every_table_is_rendered_and_none_is_crooked() -> None:
    measured = _full_session()

    text = render(measured)

    for title in ("Budgets", *(table.title for table in tables(measured))):
        assert f"### {title}\n" in text
    assert len(tables(measured)) == 11  # all but Start, which is a part of others
    for table in tables(measured):
        assert all(len(cells) == len(table.columns) for cells in table.rows), table.title
        assert len(set(table.columns)) == len(table.columns), table.title
    assert str(measured.machine["cpu_model"]) in text
    assert "load average 0.1 to 0.4" in text


def test_a_table_takes_the_median_of_its_repetitions() -> None:
    case = {"env": "relay", "agents": 4, "copies": 1}
    found = Measurements(
        [row("lockstep", OURS, case, steps_per_s=value) for value in (1.0, 100.0, 3.0)]
    )

    assert found.figure("lockstep", "steps_per_s", agents=4) == 3.0
    assert found.figure("lockstep", "steps_per_s", agents=5) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.01234, "0.0123"),
        (1.5, "1.5"),
        (999.6, "1,000"),
        (12345, "12,300"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_the_command_renders_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "f.json", _full_session())

    assert main(["--render", str(tmp_path / "f.json")]) == 0
    assert as_markdown(tables(_full_session())[0]) in capsys.readouterr().out


def test_the_command_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*ABOUT, "event_loops", "scrape", "commits OLD NEW"))


def test_an_older_commit_is_told_of_no_parameter_that_it_may_not_know() -> None:
    command = command_of("some.module", UpdateCase(agents=12, window=24))
    assert json.loads(command[-1]) == {"agents": 12, "window": 24}
    assert UpdateCase(**json.loads(command[-1])) == UpdateCase(agents=12, window=24)


def test_an_update_as_trained_has_a_teacher() -> None:
    case = UpdateCase(agents=12, batch=2, steps=4, updates=1, as_trained=True)
    assert make_learner(case).update()["teacher_loss"] > 0.0
    bare = UpdateCase(agents=12, batch=2, steps=4, updates=1)
    assert make_learner(bare).update()["teacher_loss"] == 0.0


def test_a_command_of_its_own_is_no_turn(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["commits"]) == 2
    assert "python -m tests.benchmarks.commits" in capsys.readouterr().err


# --- two commits ----------------------------------------------------------------------------------


def _laps(old: list[float], new: list[float]) -> commits.Laps:
    return commits.Laps("update_s", old, new)


def test_commits_are_compared_by_the_median_of_neighbours() -> None:
    laps = _laps([1.0, 10.0, 2.0], [1.1, 10.0, 4.0])  # the machine was slow for the second pair

    assert laps.ratio == pytest.approx(1.1)


def test_nothing_is_measured_for_a_case_or_commit_that_is_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commits.main(["HEAD", "--cases", "speed"]) == 2
    assert "no case speed; there are lockstep-20, " in capsys.readouterr().err
    assert commits.main(["no-such-commit", "--cases", "update-20"]) == 2
    assert "no commit no-such-commit" in capsys.readouterr().err


def test_a_case_that_is_younger_than_the_old_commit_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"

    def run(module: str, case: Any, *, folder: Path, **_: Any) -> dict[str, float]:
        if folder == broken and case.window:
            raise CaseError("Traceback\nTypeError: no such field")
        return {"update_s": 1.0}

    young, tiny = (
        commits.Comparison("m", UpdateCase(agents=2, window=window), "update_s")
        for window in (4, 0)
    )
    monkeypatch.setattr(commits, "CASES", {"young": young, "tiny": tiny})
    monkeypatch.setattr(commits, "run_case", run)
    said = io.StringIO()
    console = Console(file=said, width=120)

    broken = old
    assert list(commits.compare(old, new, ["young", "tiny"], 2, console)) == ["tiny"]
    assert "young is left out, the old commit cannot run it: TypeError" in said.getvalue()
    broken = new
    with pytest.raises(CaseError):
        commits.compare(old, new, ["young"], 2, console)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_commits_are_measured_in_turn_each_with_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = UpdateCase(agents=12, batch=2, steps=4, updates=1)
    tiny = commits.Comparison("tests.benchmarks.learner_update", case, "update_s")
    monkeypatch.setattr(commits, "CASES", {"tiny": tiny})
    folders: list[Path] = []

    def look(*arguments: Any, folder: Path, environment: dict[str, str], **more: Any) -> Any:
        folders.append(folder)
        assert environment["PYTHONPATH"] == str(folder)
        return run_case(*arguments, folder=folder, environment=environment, **more)

    monkeypatch.setattr(commits, "run_case", look)

    options = ["HEAD", "HEAD", "--cases", "tiny", "--pairs", "2"]
    assert commits.main([*options, "--tolerance", "1000"]) == 0

    old, new = folders[:2]
    assert folders == [old, new, new, old]
    assert old != new
    assert not old.exists()
    assert not new.exists()
    assert "tiny" in capsys.readouterr().out
    listed = subprocess.run(
        ["git", "worktree", "list"], cwd=machine.ROOT, capture_output=True, text=True, check=True
    )
    assert str(old) not in listed.stdout
    # The same figures with a tolerance that nothing meets are a failure.
    assert commits.main([*options[:-1], "1", "--tolerance", "-1"]) == 1


def test_a_session_of_another_commit_is_not_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = session()
    measured.source = {"commit": "0123456789ab", "dirty": False}
    write(tmp_path / "f.json", measured)

    assert main(["--resume", "--out", str(tmp_path / "f.json")]) == 2
    assert "was measured on another source" in capsys.readouterr().err


# --- paper scale ----------------------------------------------------------------------------------


def _piece(env_steps: int, wall_s: float) -> Piece:
    return Piece(
        begun="2026-01-02T03:04:05+00:00",
        wall_s=wall_s,
        env_steps=env_steps,
        new_env_steps=env_steps,
        updates=env_steps // 10,
        return_mean=None,
        win_rate=0.5,
        exit_reason="interrupted",
        exit_code=130,
        gpu="",
        commit=None,
    )


def test_the_outlook_counts_starts_and_stops() -> None:
    seen = outlook([_piece(100, 300.0), _piece(250, 600.0)], steps=1000)

    assert seen["env_steps"] == 250
    assert seen["hours"] == pytest.approx(0.25)
    assert seen["projected_hours"] == pytest.approx(1.0)
    assert seen["steps_per_s"] == pytest.approx(250 / 900)
    assert outlook([], 1000)["projected_hours"] is None


def test_an_archive_holds_the_newest_episodes_that_fit(tmp_path: Path) -> None:
    run = tmp_path / "20260102-030405-battle"
    (run / "journal").mkdir(parents=True)
    (run / "checkpoint.safetensors").write_bytes(b"state")
    for ordinal in range(5):
        content = np.random.default_rng(ordinal).bytes(1000)
        (run / f"journal/{ordinal:010d}-{ordinal:010d}.episode").write_bytes(content)

    packed = archive(run, tmp_path / "state.tar.gz", most_bytes=4_500)
    restore(tmp_path / "state.tar.gz", tmp_path / "elsewhere")

    back = tmp_path / "elsewhere" / run.name
    assert (back / "checkpoint.safetensors").read_bytes() == b"state"
    kept = sorted(path.name for path in (back / "journal").iterdir())
    assert packed == len(kept) == 3
    assert (tmp_path / "state.tar.gz").stat().st_size <= 4_500
    assert kept[-1].startswith("0000000004")
    with tarfile.open(tmp_path / "state.tar.gz") as tar:
        assert all(name.startswith(run.name) for name in tar.getnames())


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(400)
def test_training_goes_on_from_the_archive_on_a_machine_that_has_nothing(tmp_path: Path) -> None:
    more = ("--learner.learning-starts", "4", "--learner.batch-size", "4")

    def options(part: str, steps: int) -> PaperScaleOptions:
        return PaperScaleOptions(
            out=str(tmp_path / f"out-{part}"),
            restore="" if part == "a" else str(tmp_path / "out-a"),
            work=str(tmp_path / f"work-{part}"),
            piece_minutes=6.0,
            agents=4,
            env="relay",
            steps=steps,
            env_copies=4,
            device="cpu",
            benchmarks=False,
            evaluation_episodes=4,
        )

    # So many steps that the first piece is cut off, once it has begun to learn.
    first_piece = PaperScale(options("a", 10_000_000), more)

    def cut_off() -> None:
        wait_for("the first updates", lambda: _updates(tmp_path / "work-a") > 0, 200.0)
        first_piece.deadline_s = 0.0

    watcher = threading.Thread(target=cut_off)
    watcher.start()
    assert first_piece.work() == 3
    watcher.join()
    (first,) = read_pieces(tmp_path / "out-a/pieces.jsonl")
    assert (first.exit_reason, first.exit_code) == ("interrupted", 130)
    assert first.env_steps > 0
    assert first.updates > 0

    assert PaperScale(options("b", first.env_steps + 50), more).work() == 0

    pieces = read_pieces(tmp_path / "out-b/pieces.jsonl")
    assert pieces[0] == first
    assert len(pieces) == 2
    assert pieces[1].exit_reason == "finished"
    # What is played at the end and belongs to no whole episode is in no checkpoint.
    assert first.env_steps < pieces[1].env_steps <= first.env_steps + 60
    assert pieces[1].new_env_steps == pieces[1].env_steps - first.env_steps
    assert pieces[1].updates > first.updates
    summary = json.loads((tmp_path / "out-b/summary.json").read_text())
    assert summary["pieces"] == 2
    assert summary["evaluation"]["evaluation_episodes"] == 4


def _updates(work: Path) -> float:
    for metrics in work.glob("*/metrics.jsonl"):
        return (last_record(metrics) or {}).get("learner/updates", 0.0)
    return 0.0
