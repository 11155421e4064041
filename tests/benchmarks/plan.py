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
from tests.benchmarks.interleaved import InterleavedCase
from tests.benchmarks.kinds import BARE, MODULES, OURS, PIPES, RAY
from tests.benchmarks.lockstep import HALF, LockstepCase
from tests.benchmarks.update_case import UpdateCase

ABOUT = {
    "lockstep": "ours against a bare loop, pipes and Ray, block by block; cpu, bytes, memory",
    "gates": "the same with all edges open and with all closed",
    "edge_latency": "latency of a message beside the bare loop's, two sizes only",
    "growth": "cpu of an agent-step from 20 to 1000 agents, relay throughout",
    "startup": "seconds until all agents are ready, and memory",
    "telemetry": "what measuring costs: counters off, on and scraped, block by block",
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

OF_THEIR_OWN = {
    "on_policy": "steps/s of training from rollouts (python -m tests.benchmarks.on_policy)",
    "rollout_cpu": "CPU seconds of a rollout of CoordSum (python -m tests.benchmarks.rollout_cpu)",
    "commits": "two commits side by side (python -m tests.benchmarks.commits OLD NEW)",
    "time_to_result": "the wait for a good policy (python -m tests.benchmarks.time_to_result TASK)",
}
"""Commands beside this file that take arguments of their own."""


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
    """That steps are played for in each case that plays alone."""
    rounds: int
    """Blocks that ours and each loop beside it play in turn."""
    block_s: float = 0.0
    """Length of such a block; 0 is as long as between two reports of an agent."""
    telemetry_rounds: int
    telemetry_group: int
    """Rounds that make one ratio: in so many one scrape falls due."""
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
    """`murmuration`, or what stands beside it; the first of those that play in turn."""
    module: str
    case: IsDataclass
    """Of a loop beside ours: the case of ours that it does the work of."""
    repetition: int
    expected_s: float
    """On two quiet cores, processes' start included."""


_TRAINING_OPTIONS = ("--learner.learning-starts", "16")
"""The preset waits for 32 episodes, of which a short run has few more."""

STANDARD = Extent(
    seconds=3.0,
    rounds=7,
    telemetry_rounds=20,
    telemetry_group=5,
    lockstep=tuple(Size("battle", n, e) for n in (20, 100, 400) for e in (1, 32)),
    pipes=(Size("battle", 20), Size("battle", 100), Size("battle", 100, 32)),
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
    rounds=2,
    telemetry_rounds=2,
    telemetry_group=1,
    lockstep=(Size("battle", 20), Size("battle", 20, 32), Size("battle", 100)),
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

NOT_BY_DEFAULT = ("startup",)
"""A part of growth that stands for itself when it is named alone."""


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
    own = sorted(unknown & set(OF_THEIR_OWN))
    if own:
        raise ValueError(f"{own[0]} is a command of its own: python -m tests.benchmarks.{own[0]}")
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
        seconds: float = extent.seconds,
        profile: bool = False,
    ) -> Turn:
        case = LockstepCase(
            env=size.env,
            agents=size.agents,
            copies=size.copies,
            gate_mode=gate_mode,
            # All edges are open whatever it thinks.
            policy=policy_of(size) if gate_mode == "learned" else HALF,
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

    def policy_of(size: Size) -> str:
        return policy if size.env == "battle" else HALF  # it is of one environment

    def in_turn(case: InterleavedCase) -> Turn:
        is_slow = case.agents * case.copies > 10_000  # a tick takes a second
        start_s = 50.0 if is_slow else 12.0
        a_block_s = case.turn_s * (2.5 if is_slow else 1.1)
        waits_s = 40.0 if RAY in case.beside else 0.0
        return Turn(
            benchmark=name,
            kind=case.kinds[0],
            module="tests.benchmarks.interleaved",
            case=case,
            repetition=repetition,
            expected_s=start_s
            + waits_s
            + len(case.kinds) * (0.04 * case.agents + (1 + case.rounds) * a_block_s),
        )

    match name:
        case "lockstep":
            for size in extent.lockstep:
                others = [BARE]
                others += [PIPES] if size in extent.pipes else []
                others += [RAY] if size in extent.ray and has_ray else []
                yield in_turn(
                    InterleavedCase(
                        env=size.env,
                        agents=size.agents,
                        copies=size.copies,
                        policy=policy_of(size),
                        beside=others,
                        rounds=extent.rounds,
                        block_s=extent.block_s,
                    )
                )
        case "gates":
            for size in extent.gates:
                yield rollout(size, "open")
                yield rollout(size, "closed")
        case "edge_latency":
            for size in extent.edge_latency:
                ours = rollout(size)
                yield ours
                yield replace(ours, kind=BARE, module=MODULES[BARE])
        case "growth":
            for size in extent.growth:
                yield rollout(size)
        case "startup":
            for size in extent.startup:
                yield rollout(size, seconds=0.5)
        case "telemetry":
            for size in extent.telemetry:
                yield in_turn(
                    InterleavedCase(
                        env=size.env,
                        agents=size.agents,
                        copies=size.copies,
                        policy=policy_of(size),
                        beside=(),
                        telemetry=("off", "on", "scraped"),
                        rounds=extent.telemetry_rounds,
                        block_s=extent.block_s,
                        group=extent.telemetry_group,
                    )
                )
        case "profile":
            for size in extent.profile:
                yield rollout(size, profile=True)
        case "learner_update":
            for case in _updates_on(device, extent.updates):
                yield Turn(
                    benchmark=name,
                    kind=case.unroll,
                    module="tests.benchmarks.learner_update",
                    case=case,
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


def _updates_on(
    device: Literal["cpu", "cuda"], cases: tuple[UpdateCase, ...]
) -> Iterator[UpdateCase]:
    """The cases, on a GPU in all precisions and recorded as well."""
    for case in cases:
        yield replace(case, device=device)
    if device == "cuda":
        for case in (replace(case, device=device) for case in cases if case.unroll == "ours"):
            yield replace(case, precision="tf32")
            yield replace(case, precision="bfloat16")
            yield replace(case, cuda_graph="on")
            yield replace(case, cuda_graph="on", precision="bfloat16")


def _update_s(case: UpdateCase) -> float:
    """A rough guess, for the estimate of the time that is left."""
    agent_steps = case.agents * case.batch * (case.window or case.steps)
    per_s = 200_000 if case.unroll == "ours" else 40_000
    return 5.0 + (2 + case.updates) * agent_steps / per_s / min(case.threads, 2)
