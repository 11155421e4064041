"""Ours and the loops beside it, block by block in one process group: ratios of neighbours.

    warm-up of ours -> its packets -> Workload -> the loops are started as well, and stand still
    rounds: ours plays a block, a loop plays one, … -> medians, ratios of neighbours, quartiles

All populations are up at the same time, and all but one are stopped (SIGSTOP) at a tick's border:
whatever the machine does, it does to neighbouring blocks alike.
"""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from configs.schema import EnvConfig, EnvName, GateMode
from envs.registry import spec_of
from runtime.net.report_period import report_period_s
from tests.benchmarks.case import CaseError, Figures, IsDataclass, command_of, figures_in, serve
from tests.benchmarks.kinds import BARE, MODULES, OURS, RAY
from tests.benchmarks.lockstep import COUNTS, HALF, SCRAPE_PERIOD_S, LockstepCase, traffic
from tests.benchmarks.machine import ROOT, busy_s
from tests.benchmarks.process_cost import CpuTime, cpu_time, descendants, mean_pss_mb
from tests.benchmarks.turns import LEAST_TICKS, Door, Line, Played
from tests.benchmarks.workload import Workload, workload_of

_WARM_UP_S, _WARM_UP_TICKS = 1.5, 6
_STOP_S = 60.0
_STATUS_S = 0.8
"""A node says what it knows twice a second, and the launcher looks more often."""
_ROLES = ("agent", "world", "node", "driver", "other")
_OF = ": "

Telemetry = Literal["on", "off", "scraped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class InterleavedCase:
    env: EnvName
    agents: int
    copies: int = 1
    gate_mode: GateMode = "learned"
    policy: str = HALF
    """As of LockstepCase."""
    beside: Sequence[str] = (BARE,)
    """Loops that play beside a run of ours with telemetry."""
    telemetry: Sequence[Telemetry] = ()
    """Runs of ours that differ in this alone, the first of which is the reference."""
    rounds: int = 9
    """Blocks that each plays; one more, the first, is not counted."""
    group: int = 1
    """Neighbouring rounds that make one ratio together."""
    block_s: float = 0.0
    """Length of a block; 0 is the time between two reports of an agent, of which each then has its
    share."""
    ray_python: str = ""
    """Interpreter that has Ray; empty takes this one."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of all that play, the reference first."""
        return tuple(self.telemetry) or (OURS, *self.beside)

    @property
    def turn_s(self) -> float:
        """Seconds of a block."""
        return self.block_s or report_period_s(self.agents)


def of_kind(figures: Figures, kind: str) -> dict[str, float | None]:
    """Figures of one of those that have played."""
    start = kind + _OF
    return {
        name.removeprefix(start): value for name, value in figures.items() if name.startswith(start)
    }


def measure(case: InterleavedCase) -> Figures:
    """Figures of all, each with its kind before it: `bare loop: ratio`."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="beside-"))
        players = _players(case, Path(folder), stack)
        laps = _play(case, players)
        figures: dict[str, float | None] = {}
        for player, blocks in zip(players, laps, strict=True):
            pss_mb = mean_pss_mb(player.agents)
            own = player.finish() | {"pss_mb": pss_mb}
            # A packet that is sent at the end of a turn is read in the next one.
            own = {name: value for name, value in own.items() if not name.startswith("latency_")}
            own |= _rates(case, player, blocks, own.get("alive_share") or 1.0)
            if player is not players[0]:
                own |= ratios(laps[0], blocks, case.group)
            figures |= {f"{player.kind}{_OF}{name}": value for name, value in own.items()}
    return figures


def _players(case: InterleavedCase, folder: Path, stack: ExitStack) -> "list[Player]":
    """All of them, warm and suspended."""
    players: list[Player] = []

    def add(kind: str, module: str, of: Callable[[str], IsDataclass], python: str = "") -> Player:
        path = str(folder / str(len(players)))
        player = Player(kind, module, of(path), path, python or sys.executable)
        stack.callback(player.close)
        players.append(player)
        return player

    def ours(kind: str, telemetry: Telemetry) -> Player:
        one = LockstepCase(
            env=case.env,
            agents=case.agents,
            copies=case.copies,
            gate_mode=case.gate_mode,
            policy=case.policy,
            telemetry=telemetry,
        )
        return add(kind, "tests.benchmarks.lockstep", lambda path: replace(one, turns=path))

    for telemetry in case.telemetry:
        player = ours(telemetry, telemetry)
        player.play(_WARM_UP_S, _WARM_UP_TICKS)
        player.suspend()
    if case.telemetry:
        return players
    reference = ours(OURS, "on")
    work = _work_of(case, reference)
    reference.suspend()
    for kind in case.beside:
        python = case.ray_python if kind == RAY else ""
        add(kind, MODULES[kind], lambda path: replace(work, turns=path), python).suspend()
    return players


def _work_of(case: InterleavedCase, ours: "Player") -> Workload:
    """The packets of a warm-up: what was sent between two moments in which all stood still."""
    period_s = report_period_s(case.agents)
    first = ours.play(0.0).played.ticks  # which hear nobody
    before = ours.counts(period_s, first * case.agents)
    ticks = ours.play(_WARM_UP_S, _WARM_UP_TICKS).played.ticks
    after = ours.counts(period_s, (first + ticks) * case.agents)
    sent = {name: after[name] - before.get(name, 0.0) for name in after}
    env = spec_of(EnvConfig(name=case.env), case.agents)
    return workload_of(
        traffic(sent, ticks * case.agents, max(sent["agent_steps"], 1.0)),
        agents=case.agents,
        copies=case.copies,
        seconds=0.0,
        observation_dim=env.observation_dim,
        num_actions=env.num_actions,
    )


def _play(case: InterleavedCase, players: "Sequence[Player]") -> "list[list[Block]]":
    """Blocks of each. Everybody follows somebody else: who played twice in a row would find its
    data in the caches, and be faster by some percent.
    """
    laps: list[list[Block]] = [[] for _ in players]
    scraped_s = 0.0
    for number in range(1 + case.rounds):
        for player, blocks in zip(players, laps, strict=True):
            is_scraped = player.kind == "scraped" and scraped_s + case.turn_s >= SCRAPE_PERIOD_S
            if player.kind == "scraped":
                scraped_s = 0.0 if is_scraped else scraped_s + case.turn_s
            player.resume()
            block = player.play(case.turn_s, scrape=is_scraped)
            player.suspend()
            if number:
                blocks.append(block)
    return laps


# --- figures --------------------------------------------------------------------------------------


def _rates(
    case: InterleavedCase, player: "Player", blocks: "Sequence[Block]", alive_share: float
) -> dict[str, float | None]:
    def cpu_us(take: "Callable[[Block], float]") -> float:
        """Median over blocks, for a step of a living agent."""
        per_tick = statistics.median(take(block) / block.played.ticks for block in blocks)
        return 1e6 * per_tick / (case.agents * case.copies * alive_share)

    low, middle, high = _quartiles([block.rate for block in blocks])
    figures: dict[str, float | None] = {
        "steps_per_s": middle * case.copies,
        "steps_per_s_low": low * case.copies,
        "steps_per_s_high": high * case.copies,
        "cpu_all_us_per_agent_step": cpu_us(lambda block: block.cpu_s),
        "cores_busy": statistics.median(block.cpu_s / block.played.wall_s for block in blocks),
        "others_share": statistics.median(block.others_share for block in blocks),
        "rounds": float(len(blocks)),
    }
    if player.is_ours:
        for name, role in (("", "agent"), ("world_", "world"), ("node_", "node")):
            figures[f"cpu_{name}us_per_agent_step"] = cpu_us(lambda b, r=role: b.cpu[r].total_s)
        figures["cpu_launcher_us_per_agent_step"] = cpu_us(lambda b: b.cpu["driver"].total_s)
        figures["cpu_main_us_per_agent_step"] = cpu_us(lambda b: b.cpu["agent"].main_s)
        figures["cpu_io_us_per_agent_step"] = cpu_us(lambda b: b.cpu["agent"].other_threads_s)
    else:
        # Of the bare loop its agents; a star's driver has the messages in its hands.
        figures["cpu_us_per_agent_step"] = (
            cpu_us(lambda b: b.cpu["agent"].total_s)
            if player.kind == BARE
            else figures["cpu_all_us_per_agent_step"]
        )
    return figures


def ratios(
    reference: "Sequence[Block]", blocks: "Sequence[Block]", group: int
) -> dict[str, float | None]:
    """Of the reference to these, pair by pair: of its speed, and of the cpu of a tick.

    Args:
        group: neighbouring rounds that make one pair together.
    """
    pairs = [
        (_sum(reference[at : at + group]), _sum(blocks[at : at + group]))
        for at in range(0, len(blocks) - group + 1, group)
    ]
    figures: dict[str, float | None] = {}
    for name, values in (
        ("ratio", [ours.rate / other.rate for ours, other in pairs]),
        ("cpu_ratio", [ours.cpu_per_tick_s / other.cpu_per_tick_s for ours, other in pairs]),
    ):
        low, middle, high = _quartiles(values)
        figures |= {name: middle, f"{name}_low": low, f"{name}_high": high}
    return figures


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@dataclass(frozen=True, slots=True)
class Block:
    """One turn of one player."""

    played: Played
    cpu: Mapping[str, CpuTime]
    """By role: agent, world, node, driver, other."""
    busy_s: float
    """Of the whole machine."""

    @property
    def rate(self) -> float:
        """Ticks a second."""
        return self.played.ticks / self.played.wall_s

    @property
    def cpu_s(self) -> float:
        return sum(cpu.total_s for cpu in self.cpu.values())

    @property
    def cpu_per_tick_s(self) -> float:
        return self.cpu_s / self.played.ticks

    @property
    def others_share(self) -> float:
        """Of all cores, what was taken by processes that are no part of this."""
        return max(self.busy_s - self.cpu_s, 0.0) / (self.played.wall_s * (os.cpu_count() or 1))


def _sum(blocks: Sequence[Block]) -> Block:
    played = Played(
        sum(block.played.ticks for block in blocks), sum(block.played.wall_s for block in blocks)
    )
    roles = blocks[0].cpu
    cpu = {role: sum((block.cpu[role] for block in blocks), CpuTime()) for role in roles}
    return Block(played, cpu, sum(block.busy_s for block in blocks))


# --- players --------------------------------------------------------------------------------------


class Player:
    """The processes of one loop, which play when they are told to."""

    def __init__(
        self, kind: str, module: str, case: IsDataclass, path: str, python: str = sys.executable
    ) -> None:
        """Start it, and wait until it is ready to play.

        Args:
            path: where the process that begins the ticks reports.

        Raises:
            CaseError: it has ended.
        """
        self.kind = kind
        self.is_ours = isinstance(case, LockstepCase)
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed below
        doors = [Door(path), *([Door(path + COUNTS)] if self.is_ours else [])]
        self._process = subprocess.Popen(
            command_of(module, case, python),
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
        self._lines = [self._await(door) for door in doors]
        self._turns = self._lines[0]
        self._metrics_port = 0
        if self.is_ours:
            self._metrics_port = self._hear(self._lines[1])["metrics_port"]
        self._roles: dict[int, str] = {}
        self._cpu = {role: CpuTime() for role in _ROLES}
        """Up to the last look."""

    @property
    def agents(self) -> list[int]:
        """Pids of the agents' processes."""
        return [pid for pid, role in self._roles.items() if role == "agent"]

    def play(
        self, seconds: float, least_ticks: int = LEAST_TICKS, *, scrape: bool = False
    ) -> Block:
        """Have it play a block; the others must be suspended."""
        busy_before_s = busy_s()
        self._turns.say({"play_s": seconds, "least_ticks": least_ticks})
        if scrape:
            self._scrape()
        said = self._hear(self._turns)
        return Block(Played(**said), self._spent(), busy_s() - busy_before_s)

    def counts(self, period_s: float, observations: int) -> dict[str, float]:
        """Ours, while it stands still: its counters, once all reports that are due have come.

        Args:
            period_s: between two reports of an agent.
            observations: that agents have been handed by now.
        """
        time.sleep(period_s + _STATUS_S)
        while True:
            self._lines[1].say({})
            now = self._hear(self._lines[1])
            if now.get("received_packets_observation", 0.0) >= observations:
                return now
            time.sleep(_STATUS_S)

    def suspend(self) -> None:
        """Stop all its processes, where they stand at a tick's border."""
        if not self._roles:
            self._roles = _roles_below(self._process.pid, self.is_ours)
        self._signal(signal.SIGSTOP)
        self._spent()

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def finish(self) -> dict[str, float | None]:
        """End it and take its own figures.

        Raises:
            CaseError: it has none.
        """
        self._leave()
        self._output.seek(0)
        return figures_in(self._output.read(), self._process.returncode)

    def close(self) -> None:
        """Whatever happens: nothing of it is left."""
        if self._process.poll() is None:
            self._leave()
        self._output.close()

    def _leave(self) -> None:
        self.resume()
        for line in reversed(self._lines):  # of ours the launcher first, which stops the others
            line.close()
        self._lines = []
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            for pid in (*descendants(self._process.pid), self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._roles:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _spent(self) -> dict[str, CpuTime]:
        """Cpu by role since the last look."""
        now = {role: CpuTime() for role in _ROLES}
        for pid, role in self._roles.items():
            now[role] += cpu_time(pid)
        spent = {role: now[role] - self._cpu[role] for role in _ROLES}
        self._cpu = now
        return spent

    def _await(self, door: Door) -> Line:
        while (line := door.try_accept()) is None:
            if self._process.poll() is not None:
                raise self._failure()
        door.close()
        return line

    def _hear(self, line: Line) -> dict[str, Any]:
        said = line.hear()
        if said is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
            raise self._failure()
        return said

    def _failure(self) -> CaseError:
        self._output.seek(0)
        return CaseError(f"{self.kind}: {self._output.read().strip()[-2000:]}")

    def _scrape(self) -> None:
        """Like Prometheus, while it plays."""

        def ask() -> None:
            url = f"http://127.0.0.1:{self._metrics_port}/metrics"
            with urllib.request.urlopen(url, timeout=30) as answer:
                answer.read()

        threading.Thread(target=ask, daemon=True).start()


def _roles_below(pid: int, is_ours: bool) -> dict[int, str]:
    """Pids of a player's processes, and what each is."""
    roles = {pid: "driver"}
    for child, command in descendants(pid).items():
        title = command.removeprefix("murmuration: ").split()
        named = title[0] if command.startswith("murmuration: ") else "other"
        roles[child] = named if is_ours and named in _ROLES else "other" if is_ours else "agent"
    return roles


if __name__ == "__main__":
    serve(InterleavedCase, measure)
