"""The budgets of the design, held against what was measured.

Measurements -> budgets -> met, missed or not measured, with the figure

Speed is judged by ratios taken side by side: machines are shared, and differ by a factor of three
between days.
"""

from dataclasses import dataclass
from typing import Any

from tests.benchmarks.plan import BARE, RAY
from tests.benchmarks.record import Session
from tests.benchmarks.tables import NOTHING, Measurements, Table, number, overhead, ratio

REFERENCE_UPDATE_S = 17.0
"""Of one update at Battle-100 in the reference code on 2 cores, the faster reading: 17 to 19 s."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget of docs/design.md."""

    what: str
    figure: float | None
    """None: it was not measured."""
    limit: float
    unit: str
    is_least: bool
    """The figure must reach the limit; otherwise it must not exceed it."""
    spread: tuple[float | None, float | None] = (None, None)
    """Quartiles of a figure that is a median."""

    @property
    def met(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure >= self.limit if self.is_least else self.figure <= self.limit


def budgets(session: Session) -> list[Budget]:
    """All of them, in the order of the design."""
    found = Measurements(session.rows)
    hundred: dict[str, Any] = {"env": "battle", "agents": 100}
    thousand: dict[str, Any] = {"env": "relay", "agents": 1000}
    update: dict[str, Any] = {"agents": 100, "batch": 32, "window": 0, "steps": 200}
    on_cpu: dict[str, Any] = {"threads": 2, "device": "cpu", **update}
    update_s = found.figure("learner_update", "update_s", "ours", **on_cpu)
    rss_mb = found.figure("learner_update", "peak_rss_mb", "ours", **on_cpu)
    cuda_s = found.figure("learner_update", "update_s", "ours", device="cuda", **update)
    sent = found.figure("lockstep", "edge_bytes_per_agent_step", copies=1, **hundred)
    most = found.figure("lockstep", "all_edges_float32_bytes_per_agent_step", copies=1, **hundred)
    return [
        *(
            _ratio(f"100 agents, E={copies}, of the bare loop's speed", 0.8, found, BARE, copies)
            for copies in (1, 32)
        ),
        _ratio("100 agents, E=1, against Ray actors", 4.0, found, RAY, 1),
        Budget(
            "memory of an agent (PSS), 100 agents",
            found.figure("lockstep", "pss_mb", copies=1, **hundred),
            12.0,
            "MB",
            is_least=False,
        ),
        Budget(
            "start of 1000 agents",
            found.figure("growth", "start_s", copies=1, **thousand),
            30.0,
            "s",
            is_least=False,
        ),
        Budget(
            "growth of cpu per agent-step and K, 20 to 1000 agents",
            _growth(found),
            1.0,
            "×",
            is_least=False,
        ),
        Budget(
            "update at Battle-100 on cpu, against the reference's 17 s",
            ratio(REFERENCE_UPDATE_S, update_s),
            4.0,
            "×",
            is_least=True,
        ),
        Budget(
            "peak memory of that update",
            None if rss_mb is None else rss_mb / 1e3,
            4.5,
            "GB",
            is_least=False,
        ),
        Budget(
            "update at Battle-100 on one GPU, against the reference's 17 s",
            ratio(REFERENCE_UPDATE_S, cuda_s),
            10.0,
            "×",
            is_least=True,
        ),
        Budget(
            "edge bytes against all edges sending float32 (win rates: battle.md)",
            ratio(sent, most),
            0.5,
            "of them",
            is_least=False,
        ),
        Budget(
            "policy versions on a host's sockets, 100 agents",
            found.figure("end_to_end", "versions_on_sockets", agents=100),
            1.1,
            "× each",
            is_least=False,
        ),
        _overhead(found),
    ]


def _ratio(what: str, limit: float, found: Measurements, kind: str, copies: int) -> Budget:
    """Of ours to a loop beside it, at 100 agents."""
    low, middle, high = (
        found.figure("lockstep", f"ratio{end}", kind, env="battle", agents=100, copies=copies)
        for end in ("_low", "", "_high")
    )
    return Budget(what, middle, limit, "×", is_least=True, spread=(low, high))


def _overhead(found: Measurements) -> Budget:
    case: dict[str, Any] = {"env": "battle", "agents": 100, "copies": 1}
    low, middle, high = (
        overhead(found.figure("telemetry", f"ratio{end}", "scraped", **case))
        for end in ("_low", "", "_high")
    )
    what = "overhead of measuring, scraped, 100 agents, E=1"
    return Budget(what, middle, 5.0, "%", is_least=False, spread=(low, high))


def _growth(found: Measurements) -> float | None:
    """Cpu of an agent-step at 1000 agents against that at 20, divided by the growth of K."""
    costs = [
        found.figure("growth", "cpu_us_per_agent_step", agents=agents) for agents in (20, 1000)
    ]
    grown, offsets = ratio(costs[1], costs[0]), (1000 - 1).bit_length() / (20 - 1).bit_length()
    return None if grown is None else grown / offsets


def budget_table(session: Session) -> Table:
    """What was asked for and what came of it."""
    words = {None: "not measured", True: "met", False: "**missed**"}
    rows = [
        (
            budget.what,
            f"at {'least' if budget.is_least else 'most'} {number(budget.limit)} {budget.unit}",
            _figure(budget),
            words[budget.met],
        )
        for budget in budgets(session)
    ]
    return Table(
        "Budgets",
        "Of docs/design.md, all of this one run. Speeds are ratios of neighbouring blocks "
        "(quartiles). The time to a good policy has a command of its own "
        "(python -m tests.benchmarks.time_to_result).",
        ("what", "budget", "figure", ""),
        tuple(rows),
    )


def _figure(budget: Budget) -> str:
    if budget.figure is None:
        return NOTHING
    low, high = budget.spread
    spread = "" if low is None else f" ({number(low)} to {number(high)})"
    return f"{number(budget.figure)} {budget.unit}{spread}"
