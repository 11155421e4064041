"""Lock-step rollouts of the real system: world, node and N agent processes, no learner.

    LockstepCase -> runtime.evaluate.play -> summary, counters and /proc -> figures

The run is an evaluation without end, which is interrupted after so many seconds. Battle has up to
400 agents; a thousand play relay, which takes any number and costs the world next to nothing.
"""

import json
import os
import select
import signal
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.policy import PolicyFile
from agents.process.profile import SECTIONS, profile_path
from configs.schema import EnvName, GateMode, RunConfig, Transport
from runtime.evaluate import UNTRAINED, EvaluateOptions, play, resolve
from runtime.net import topology, wire
from runtime.net.traffic import frame_zmtp_bytes
from runtime.run.plan import Plan
from runtime.run.run import Run
from runtime.run.scoreboard import Scoreboard
from runtime.run.view import RunSnapshot
from tests.benchmarks.case import Figures, serve
from tests.benchmarks.half_open import half_open_policy
from tests.benchmarks.paced_run import PacedRun
from tests.benchmarks.process_cost import CpuTime, cpu_time, mean_pss_mb
from tests.benchmarks.turns import Line
from tests.process.runs import processes_of

HALF = "half"
"""Policy: untrained, with a scorer that opens the shorter half of the offsets."""
EPISODES = 1_000_000
SCRAPE_PERIOD_S = 5.0
COUNTS = ".counts"
_ALIVE_STEPS = 50
"""Steps of an episode in which hardly anybody dies against random opponents: the loops beside ours
know no dead agents.
"""
_ROLES = ("agent", "world", "node")


@dataclass(frozen=True, kw_only=True, slots=True)
class LockstepCase:
    env: EnvName
    agents: int
    copies: int = 1
    gate_mode: GateMode = "learned"
    policy: str = HALF
    """A file, `untrained` (its gates are mostly open), or `half`."""
    telemetry: Literal["on", "off", "scraped"] = "on"
    """scraped: Prometheus' requests come in as well, as often as docs/monitoring asks for."""
    profile: bool = False
    """Agents measure themselves, which costs them something."""
    transport: Transport = "ipc"
    seconds: float = 6.0
    turns: str = ""
    """Socket of a referee who says when to play, in place of `seconds`; empty without one. He hears
    the counters at a socket of this name and `.counts`."""


def measure(case: LockstepCase) -> Figures:
    """Rates, costs and sizes; an agent-step is one living agent's step in one copy."""
    config, policy = configured(case)
    port = config.runtime.metrics_port
    with tempfile.TemporaryDirectory(prefix="lockstep-") as folder:
        if case.turns:
            return _take_turns(case, config, policy, Path(folder))
        watch = _Watch(case.seconds, port if case.telemetry == "scraped" else 0)
        outcome, run = play(config, policy, EPISODES, Path(folder), watch)
        watch.scraper_stop.set()
        if outcome.reason != "interrupted" or watch.after is None:
            raise RuntimeError(f"the run ended by itself: {outcome.reason}")
        profile = _profile(Path(folder) / "logs", case.agents) if case.profile else {}
    return _figures(case, config, outcome.summary, run, watch) | profile


def _take_turns(
    case: LockstepCase, config: RunConfig, policy: PolicyFile, folder: Path
) -> dict[str, float | None]:
    """Play when it is our turn, until the referee is gone; counts and sizes, but no rates."""
    plan = Plan.of_evaluation(config, policy, EPISODES, folder)
    teller = _Teller(case.turns + COUNTS, config.runtime.metrics_port)
    run = PacedRun(plan, teller, case.turns)
    teller.board = run.board
    end = run.execute()
    if end.reason != "interrupted":
        raise RuntimeError(f"the run ended by itself: {end.reason}")
    return {"start_s": run.ready_after_s} | _counts(case, config, run.board)


def configured(case: LockstepCase) -> tuple[RunConfig, PolicyFile]:
    """Configuration and policy of a case."""
    options = EvaluateOptions(
        policy=UNTRAINED if case.policy == HALF else case.policy,
        env=case.env,
        agents=case.agents,
        episodes=EPISODES,
        env_copies=case.copies,
        gate_mode=case.gate_mode,
        transport=case.transport,
        metrics_port=_free_port() if case.telemetry == "scraped" else 0,
    )
    config, policy = resolve(options)
    if case.policy == HALF:
        policy = half_open_policy(policy, case.agents)
    runtime = replace(
        config.runtime,
        telemetry=case.telemetry != "off",
        profile=case.profile,
        start_timeout_s=600.0,
        # Nobody is late who waits for its turn.
        silent_timeout_s=600.0,
        step_timeout_s=600.0 if case.turns else config.runtime.step_timeout_s,
    )
    env = config.env
    if case.turns:
        env = replace(env, max_cycles=min(env.max_cycles, _ALIVE_STEPS), opponent="random")
    return replace(config, env=env, runtime=runtime), policy


def _free_port() -> int:
    import socket  # one use, one moment

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(slots=True)
class _Costs:
    """What has been spent up to a moment."""

    at_s: float
    cpu: dict[str, CpuTime]
    """By role: agent, world, node, launcher."""

    @classmethod
    def now(cls) -> "_Costs":
        cpu: dict[str, CpuTime] = {role: CpuTime() for role in _ROLES}
        for title, pid in processes_of(os.getpgrp()).items():
            role = title.split()[0]
            cpu[role] = cpu.get(role, CpuTime()) + cpu_time(pid)
        cpu["launcher"] = cpu_time(os.getpid())
        return cls(time.monotonic(), cpu)


@dataclass(slots=True)
class _Watch:
    """A view that reads costs at both ends of the time and then ends the run."""

    seconds: float
    scraped_port: int
    before: _Costs | None = None
    after: _Costs | None = None
    pss_mb: float | None = None
    scraper_stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None: ...

    def update(self, snapshot: RunSnapshot) -> None:
        if snapshot.phase != "evaluating" or self.after is not None:
            return
        if self.before is None:
            self.before = _Costs.now()
            if self.scraped_port:
                threading.Thread(target=self._scrape, daemon=True).start()
        elif time.monotonic() - self.before.at_s >= self.seconds:
            self.after = _Costs.now()
            found = processes_of(os.getpgrp())
            self.pss_mb = mean_pss_mb(
                pid for title, pid in found.items() if title.startswith("agent")
            )
            os.kill(os.getpid(), signal.SIGINT)

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None: ...

    def _scrape(self) -> None:
        while not self.scraper_stop.wait(SCRAPE_PERIOD_S):
            url = f"http://127.0.0.1:{self.scraped_port}/metrics"
            with urllib.request.urlopen(url, timeout=30) as answer:
                answer.read()


@dataclass(slots=True)
class _Teller:
    """A view that hands the referee the counters when he asks, and ends the run when he is gone."""

    path: str
    port: int
    board: Scoreboard | None = None
    line: Line | None = None

    def start(self) -> None:
        self.line = Line.to(self.path)
        self.line.say({"metrics_port": self.port})

    def update(self, snapshot: RunSnapshot) -> None:
        if self.line is None or not select.select([self.line], [], [], 0)[0]:
            return
        if self.line.hear() is None:
            self.line = None
            os.kill(os.getpid(), signal.SIGINT)
        elif self.board is not None:
            self.line.say(dict(self.board.node))

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None: ...


def _figures(
    case: LockstepCase, config: RunConfig, summary: Mapping[str, Any], run: Run, watch: _Watch
) -> dict[str, float | None]:
    assert watch.before is not None
    assert watch.after is not None
    counts = _counts(case, config, run.board)
    steps_per_s, alive_share = float(summary["env_steps_per_s"]), counts["alive_share"] or 0.0
    # Cpu and steps are both taken as rates: their windows begin half a second apart.
    wall_s = watch.after.at_s - watch.before.at_s
    agent_steps_per_s = max(steps_per_s * case.agents * alive_share, 1e-9)

    def cpu_us(spent: float) -> float:
        return 1e6 * spent / wall_s / agent_steps_per_s

    used = {role: cpu - watch.before.cpu[role] for role, cpu in watch.after.cpu.items()}
    figures: dict[str, float | None] = {
        "steps_per_s": steps_per_s,
        "start_s": run.ready_after_s,
        "pss_mb": watch.pss_mb,
        **counts,
        "cpu_us_per_agent_step": cpu_us(used["agent"].total_s),
        "cpu_main_us_per_agent_step": cpu_us(used["agent"].main_s),
        "cpu_io_us_per_agent_step": cpu_us(used["agent"].other_threads_s),
        "cpu_world_us_per_agent_step": cpu_us(used["world"].total_s),
        "cpu_node_us_per_agent_step": cpu_us(used["node"].total_s),
        "cpu_launcher_us_per_agent_step": cpu_us(used["launcher"].total_s),
        "cores_busy": sum(cpu.total_s for cpu in used.values()) / wall_s,
    }
    if case.telemetry != "off":
        figures["latency_p50_us"] = float(summary["edge_latency_p50_us"])
        figures["latency_p99_us"] = float(summary["edge_latency_p99_us"])
    return figures


def _counts(case: LockstepCase, config: RunConfig, board: Scoreboard) -> dict[str, float | None]:
    """What the run has counted itself."""
    node, ticks = board.node, board.world["tick"]
    agent_ticks = max(ticks * case.agents, 1.0)
    agent_steps = max(node["agent_steps"], 1.0)
    figures: dict[str, float | None] = {
        "ticks": ticks,
        "open_share": node["edges_open"] / max(node["edge_slots"], 1.0),
        "alive_share": agent_steps / (agent_ticks * case.copies),
        "late_packets": node.get("late", 0.0),
        "missed_deadlines": board.world.get("missed_deadlines"),
        "edge_packets_counted": node.get("sent_packets_message", 0.0)
        + node.get("sent_packets_beacon", 0.0),
        "all_edges_float32_bytes_per_agent_step": _all_edges_bytes(config, case.agents),
    }
    if case.telemetry != "off":
        figures |= traffic(node, agent_ticks, agent_steps)
    return figures


def traffic(
    node: Mapping[str, float], agent_ticks: float, agent_steps: float
) -> dict[str, float | None]:
    """Packets and bytes by class; what the world sends is counted where it arrives."""
    figures: dict[str, float | None] = {}
    for name, way in (
        ("message", "sent"),
        ("beacon", "sent"),
        ("observation", "received"),
        ("action", "sent"),
    ):
        packets = node.get(f"{way}_packets_{name}", 0.0)
        figures[f"{name}s_per_agent_tick"] = packets / agent_ticks
        payload = node.get(f"{way}_payload_{name}", 0.0)
        figures[f"{name}_bytes"] = payload / packets if packets else 0.0
    edges = node.get("sent_zmtp_message", 0.0) + node.get("sent_zmtp_beacon", 0.0)
    world = node.get("received_zmtp_observation", 0.0) + node.get("sent_zmtp_action", 0.0)
    figures["edge_bytes_per_agent_step"] = edges / agent_steps
    figures["world_bytes_per_agent_step"] = world / agent_steps
    return figures


def _all_edges_bytes(config: RunConfig, num_agents: int) -> float:
    """ZMTP bytes of a float32 message over every edge in every step, as without gate and rounding:
    what the budget of docs/design.md is measured against.
    """
    rows = np.zeros((1, config.network.message), np.float32)
    copies = np.ones(1, np.uint8)
    packet = wire.Message(num_agents - 1, 100_000, time.monotonic_ns(), copies, rows)
    packet_bytes = frame_zmtp_bytes(len(wire.encode(packet)))
    return float(len(topology.offsets(num_agents)) * packet_bytes)


def _profile(logs: Path, num_agents: int) -> dict[str, float | None]:
    """Where the agents' time went, in µs of cpu for an agent-step; what they waited, of the wall's
    time.
    """
    total: Counter[str] = Counter()
    for agent in range(num_agents):
        total.update(json.loads(profile_path(logs, agent).read_text()))
    agent_steps = max(total["agent_steps"], 1)
    figures: dict[str, float | None] = {
        f"profile_{name}_us": 1e6 * total[f"cpu_{name}_s"] / agent_steps for name in SECTIONS
    }
    io_s = total["process_cpu_s"] - total["thread_cpu_s"]
    figures["profile_io_thread_us"] = 1e6 * io_s / agent_steps
    figures["profile_wake_ups_per_tick"] = total["wake_ups"] / max(total["ticks"], 1)
    figures["profile_idle_share"] = 1.0 - total["thread_cpu_s"] / max(total["wall_s"], 1e-9)
    return figures


if __name__ == "__main__":
    serve(LockstepCase, measure)
