"""What is measured, in which order: names on the command line become turns.

    Extent (sizes) -> plan(names) -> Turn, Turn, …     interleaved: ours, then what stands beside

Every turn is one case in an interpreter of its own. Loops beside ours take their packets from the
turn of ours with the same case, which therefore comes first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from configs.schema import EnvName, GateMode
from tests.benchmarks.case import IsDataclass
from tests.benchmarks.end_to_end import TrainingCase
from tests.benchmarks.lockstep import HALF, LockstepCase
from tests.benchmarks.update_case import UpdateCase

OURS = "murmuration"
BARE, PIPES, RAY = "bare loop", "pipe star", "ray actors"
Kind = Literal["murmuration", "bare loop", "pipe star", "ray actors"]
MODULES: dict[str, str] = {
    BARE: "tests.benchmarks.bare_loop",
    PIPES: "tests.benchmarks.pipe_star",
    RAY: "tests.benchmarks.ray_actors",
}
"""Where the loops beside ours are."""

ABOUT = {
    "lockstep": "steps a second, cpu, bytes and memory beside a bare loop, pipes and Ray",
    "gates": "the same with all edges open and with all closed",
    "edge_latency": "latency of a message beside the bare loop's, two sizes only",
    "growth": "cpu of an agent-step from 20 to 1000 agents, relay throughout",
    "startup": "seconds until all agents are ready, and memory",
    "telemetry": "what measuring costs: counters off, on, and scraped",
    "profile": "cpu of an agent-step by section",
    "learner_update": "seconds and memory of an update beside a plain unroll",
    "end_to_end": "training runs: steps and updates a second",
}
"""Names that write JSON, in the order of a run."""

STANDALONE = {
    "event_loops": "why agents block on poll (prints its own table)",
    "scrape": "what a scrape of /metrics costs (prints its own table)",
}
"""Scripts beside this file that stand for themselves; only run when they are named."""


@dataclass(frozen=True, slots=True)
class Size:
    """A population: environment, agents N, copies E."""

    env: EnvName
    agents: int
    copies: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """Sizes of all benchmarks."""

    seconds: float
    """That steps are played for in each case."""
    telemetry_seconds: float
    lockstep: tuple[Size, ...]
    pipes: tuple[Size, ...]
    ray: tuple[Size, ...]
    gates: tuple[Size, ...]
    edge_latency: tuple[Size, ...]
    growth: tuple[Size, ...]
    startup: tuple[Size, ...]
    telemetry: tuple[Size, ...]
    profile: tuple[Size, ...]
    updates: tuple[UpdateCase, ...]
    trainings: tuple[TrainingCase, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One measurement."""

    benchmark: str
    kind: str
    """`murmuration`, or what stands beside it."""
    module: str
    case: IsDataclass
    """Of a loop beside ours: the case of ours that it does the work of."""
    repetition: int
    expected_s: float
    """On two quiet cores, processes' start included."""


def battle_or_relay(agents: int, copies: int = 1) -> Size:
    """Battle's map ends at 400 agents."""
    return Size("battle" if agents <= 400 else "relay", agents, copies)


_SIZES = tuple(battle_or_relay(n, e) for n in (20, 64, 100, 121, 400, 1000) for e in (1, 8, 32))

_TRAINING_OPTIONS = ("--learner.learning-starts", "16")
"""The preset waits for 32 episodes, of which a short run has few more."""

STANDARD = Extent(
    seconds=3.0,
    telemetry_seconds=6.0,
    lockstep=_SIZES,
    pipes=tuple(battle_or_relay(n, e) for n, e in ((20, 1), (100, 1), (100, 32), (400, 1))),
    ray=(Size("battle", 20), Size("battle", 100)),
    gates=(Size("battle", 20), Size("battle", 100), Size("battle", 100, 32), Size("relay", 1000)),
    edge_latency=(Size("battle", 20), Size("battle", 100)),
    growth=tuple(Size("relay", n) for n in (20, 100, 400, 1000)),
    startup=(Size("battle", 100), Size("relay", 1000)),
    telemetry=(Size("battle", 100), Size("battle", 100, 32)),
    profile=(Size("battle", 20), Size("battle", 100), Size("battle", 100, 32)),
    updates=(
        *(UpdateCase(agents=n, threads=2) for n in (20, 64, 100)),
        UpdateCase(agents=100, threads=1, updates=1),
        *(UpdateCase(agents=n, unroll="plain", threads=2, updates=1) for n in (20, 64, 100)),
        UpdateCase(agents=20, batch=8, window=24, updates=30, as_trained=True),
        UpdateCase(agents=20, batch=8, window=40, updates=10),
        UpdateCase(agents=20, batch=8, window=40, updates=5, unroll="plain"),
    ),
    trainings=(
        TrainingCase(agents=20, steps=12_800, options=_TRAINING_OPTIONS),
        TrainingCase(agents=100, steps=9_600, options=_TRAINING_OPTIONS),
    ),
)
"""At most twenty minutes on two quiet cores."""

QUICK = Extent(
    seconds=2.0,
    telemetry_seconds=2.0,
    lockstep=(Size("battle", 20), Size("battle", 20, 8), Size("battle", 100)),
    pipes=(Size("battle", 20),),
    ray=(),
    gates=(Size("battle", 20),),
    edge_latency=(Size("battle", 20),),
    growth=(Size("relay", 20), Size("relay", 64)),
    startup=(Size("battle", 64),),
    telemetry=(Size("battle", 20),),
    profile=(Size("battle", 20),),
    updates=(
        UpdateCase(agents=20, threads=2, updates=1),
        UpdateCase(agents=20, batch=8, window=40),
        UpdateCase(agents=20, batch=8, window=40, unroll="plain"),
    ),
    trainings=(
        TrainingCase(
            agents=8, env="relay", steps=2_000, copies=8, options=("--learner.batch-size", "8")
        ),
    ),
)
"""At most three minutes: everything once, nothing large."""

NOT_BY_DEFAULT = ("edge_latency", "startup")
"""Parts of lockstep that stand for themselves when they are named alone."""


def plan(
    names: Sequence[str],
    extent: Extent,
    *,
    repeat: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
    policy: str = HALF,
    has_ray: bool = False,
) -> list[Turn]:
    """All turns of the named benchmarks (none named: all), repetitions as a whole one by one.

    Raises:
        ValueError: there is no benchmark of such a name.
    """
    unknown = set(names) - set(ABOUT)
    if unknown:
        raise ValueError(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(ABOUT)}")
    chosen = [n for n in ABOUT if (n in names if names else n not in NOT_BY_DEFAULT)]
    return [
        turn
        for repetition in range(repeat)
        for name in chosen
        for turn in _turns(name, extent, repetition, device, policy, has_ray)
    ]


def _turns(
    name: str,
    extent: Extent,
    repetition: int,
    device: Literal["cpu", "cuda"],
    policy: str,
    has_ray: bool,
) -> Iterator[Turn]:
    def rollout(
        size: Size,
        gate_mode: GateMode = "learned",
        telemetry: Literal["on", "off", "scraped"] = "on",
        seconds: float = extent.seconds,
        profile: bool = False,
    ) -> Turn:
        case = LockstepCase(
            env=size.env,
            agents=size.agents,
            copies=size.copies,
            gate_mode=gate_mode,
            # A policy is of one environment, and all edges are open whatever it thinks.
            policy=policy if size.env == "battle" and gate_mode == "learned" else HALF,
            telemetry=telemetry,
            profile=profile,
            seconds=seconds,
        )
        expected_s = seconds + 4.0 + 0.02 * size.agents
        return Turn(
            benchmark=name,
            kind=OURS,
            module="tests.benchmarks.lockstep",
            case=case,
            repetition=repetition,
            expected_s=expected_s,
        )

    def beside(turn: Turn, kind: Kind) -> Turn:
        expected_s = 50.0 if kind == RAY else turn.expected_s
        return replace(turn, kind=kind, module=MODULES[kind], expected_s=expected_s)

    match name:
        case "lockstep":
            for size in extent.lockstep:
                ours = rollout(size)
                yield ours
                yield beside(ours, BARE)
                if size in extent.pipes:
                    yield beside(ours, PIPES)
                if size in extent.ray and has_ray:
                    yield beside(ours, RAY)
        case "gates":
            for size in extent.gates:
                yield rollout(size, "open")
                yield rollout(size, "closed")
        case "edge_latency":
            for size in extent.edge_latency:
                ours = rollout(size)
                yield ours
                yield beside(ours, BARE)
        case "growth":
            for size in extent.growth:
                yield rollout(size)
        case "startup":
            for size in extent.startup:
                yield rollout(size, seconds=0.5)
        case "telemetry":
            for size in extent.telemetry:
                # There and back, so that a drift of the machine does not look like a cost.
                there: tuple[Literal["on", "off", "scraped"], ...] = ("off", "on", "scraped")
                for way, kinds in enumerate((there, there[::-1])):
                    for telemetry in kinds:
                        seconds = extent.telemetry_seconds
                        turn = rollout(size, telemetry=telemetry, seconds=seconds)
                        yield replace(turn, repetition=2 * repetition + way)
        case "profile":
            for size in extent.profile:
                yield rollout(size, profile=True)
        case "learner_update":
            for case in extent.updates:
                yield Turn(
                    benchmark=name,
                    kind=case.unroll,
                    module="tests.benchmarks.learner_update",
                    case=replace(case, device=device),
                    repetition=repetition,
                    expected_s=_update_s(case),
                )
        case "end_to_end":
            for case in extent.trainings:
                yield Turn(
                    benchmark=name,
                    kind=OURS,
                    module="tests.benchmarks.end_to_end",
                    case=replace(case, device=device),
                    repetition=repetition,
                    expected_s=15.0 + case.steps * case.agents / 10_000,
                )
        case _:
            raise AssertionError(name)


def _update_s(case: UpdateCase) -> float:
    """A rough guess, for the estimate of the time that is left."""
    agent_steps = case.agents * case.batch * (case.window or case.steps)
    per_s = 200_000 if case.unroll == "ours" else 40_000
    return 5.0 + (2 + case.updates) * agent_steps / per_s / min(case.threads, 2)
