"""Finite is not enough: packets with the most extreme numbers that decode, at those who get them.

Every packet crosses as a frame, so what is refused at the edge never arrives; whatever arrives
raises nothing, and what is made of it is finite where it goes into a file.
"""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from agents.core import AgentCore
from agents.events import Command, Dropped, PeersLate, SendMessage, ToWorld
from agents.parameters import ParameterStore
from agents.process.body_link import Sensed, as_observation
from agents.segment import Segment
from agents.shared_parameters import HostParameters
from configs.schema import EnvConfig, RunConfig
from learner.experience.episode import EpisodeJoiner
from learner.learner import Learner
from runtime.host.attendance import Attendance
from runtime.host.clock import HostClock
from runtime.host.exporter import Exporter
from runtime.host.host_table import HostTable
from runtime.host.sharing import Sharing
from runtime.host.start_patience import StartPatience
from runtime.host.supervisor import Supervisor
from runtime.net import latency, topology, wire
from runtime.net.codecs import LARGEST
from runtime.net.edge_bits import edge_bits
from runtime.net.errors import WireFormatError
from runtime.net.traffic import COUNTERS
from runtime.record.run_log import RunLog
from runtime.run.conductor import Conductor
from runtime.run.scoreboard import Scoreboard
from runtime.run.view import LiveView
from tests import agents_helpers, learner_helpers
from tests.agents_helpers import NUM_AGENTS, OFFSETS, SPEC, observation
from tests.world_helpers import ScriptedEnv, answer, make_rules, make_world

PacketT = TypeVar("PacketT", bound=wire.Packet)
ROUNDS = 25
"""Packets of each kind; every number is an extreme one, so a few meet all of them."""


def extremes(dtype: np.dtype[Any]) -> NDArray[Any]:
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    tiny = getattr(info, "tiny", 1)
    return np.array([info.min, info.max, info.max, 0, 1, tiny], dtype=dtype)


def number_of(codec: wire.Codec, rng: np.random.Generator) -> Any:
    match codec:
        case wire.Uint(bits):
            return int(rng.choice(np.array([0, 1, 2**bits - 1, 2**bits // 2], dtype=object)))
        case wire.Real(least, most):
            return float(rng.choice([least, most, max(least, 0.0), max(least, 1e-300)]))
        case wire.Choice(words):
            return str(rng.choice(words))
        case wire.Text(longest):
            return str(rng.choice(["", "\0" * longest, "x" * longest, "tcp://", "ipc://\n"]))
        case wire.Texts():
            return tuple("x" * int(rng.integers(3)) for _ in range(int(rng.integers(4))))
        case wire.Scalars():
            names = [*NAMES, "\n", "_" * 64]
            chosen = rng.choice(names, size=min(200, len(names)), replace=False).tolist()
            return {name: float(rng.choice([LARGEST, -LARGEST, 0.0, 1e-300])) for name in chosen}
        case wire.Tensors():
            return {name: extremes(np.dtype(kind)) for name, kind in (("gates", "u8"), ("x", "f4"))}
        case _:
            raise AssertionError(f"no extremes of {codec}")


def draw(
    cls: type[PacketT],
    rng: np.random.Generator,
    shapes: dict[str, tuple[int, ...]] | None = None,
    **given: Any,
) -> PacketT:
    """A packet of extremes, as it comes off the wire; `shapes` of the tensors that are to fit."""
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]  # every packet is a dataclass
        codec: wire.Codec = get_args(hints[field.name])[1]
        if field.name in given:
            values[field.name] = given[field.name]
        elif isinstance(codec, wire.Tensor):
            dtype = np.dtype(str(rng.choice(codec.dtypes)))
            default = tuple(int(n) for n in rng.integers(0, 4, size=codec.ndim))
            shape = (shapes or {}).get(field.name, default)
            values[field.name] = rng.choice(extremes(dtype), size=shape).astype(dtype)
        else:
            values[field.name] = number_of(codec, rng)
    arrived = wire.decode(wire.encode(cls(**values)), cls)
    assert isinstance(arrived, cls)
    return arrived


CONFIG = RunConfig(num_agents=6, env=EnvConfig(name="relay", copies=4), steps=1000)


def all_names() -> list[str]:
    """Of the figures that somebody reads: those of a node, and whatever the summary is made of."""
    known = {*COUNTERS, *HostTable(2).status(0.0)}

    class Noting(dict[str, float]):
        def get(self, name: str, default: Any = None) -> Any:
            known.add(name)
            return 1.0

        def __contains__(self, name: object) -> bool:
            return True

        def __getitem__(self, name: str) -> float:
            known.add(name)
            return 1.0

    board = make_board()
    for role in ("world", "node", "learner"):
        board.take_status(wire.Status(role, Noting(a=1.0)))
    board.snapshot("training", 1.0)
    board.metrics()
    return sorted(known - {"a"})


def make_board() -> Scoreboard:
    return Scoreboard(CONFIG, "run", trains=True, evaluation_episodes=2)


NAMES = all_names()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(12)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    log = RunLog(tmp_path)
    yield log
    log.close()


# --- at the edge ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1e308, -1e308, 1.01e18])
def test_a_figure_that_could_not_be_added_up_is_refused_at_the_edge(value: float) -> None:
    frame = wire.encode(wire.Status("world", {"env_steps": 4096.0}))
    assert frame.count(b"\xcb\x40\xb0" + bytes(6)) == 1
    false = frame.replace(b"\xcb\x40\xb0" + bytes(6), b"\xcb" + np.array(value, ">f8").tobytes())
    with pytest.raises(WireFormatError) as refused:
        wire.decode(false, wire.Status)
    assert refused.value.reason == "range"


def test_who_has_a_figure_that_is_too_large_sends_the_largest_there_is() -> None:
    status = wire.Status("learner", {"td_error": 1e300, "loss": -1e300})
    arrived = wire.decode(wire.encode(status), wire.Status)
    assert isinstance(arrived, wire.Status)
    assert arrived.values == {"td_error": LARGEST, "loss": -LARGEST}


# --- the launcher ---------------------------------------------------------------------------------


def test_no_figure_ends_the_launcher(rng: np.random.Generator, log: RunLog, tmp_path: Path) -> None:
    board, view = make_board(), LiveView(1000, "steps", Console(file=io.StringIO(), width=80))
    view.start()
    for step in range(ROUNDS):
        for host in ("a", "b"):
            board.take_status(draw(wire.Status, rng, role="node"), host)
        for role in ("world", "learner"):
            board.take_status(draw(wire.Status, rng, role=role))
        for _ in range(4):
            result = draw(wire.EpisodeResult, rng)
            evaluation = board.take_result(result)
            log.episode(result)
            if evaluation is not None:
                log.evaluation(evaluation.env_steps, board.evaluation_metrics(evaluation))
        if step % 5 == 0:
            board.host_begins_anew("b")
        view.update(board.snapshot("training", 2.0 * step))
        metrics = board.metrics()
        log.metrics(int(metrics.get("env/steps", 0)), metrics)
        log.summary(board.summary("end", 1.0, 1.0, "cpu"))
    view.finish(board.snapshot("end", 99.0), {})
    for path in tmp_path.glob("*.json*"):
        for line in (
            path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        ):
            json.loads(line, parse_constant=pytest.fail)


def test_no_packet_ends_the_course_of_a_run(rng: np.random.Generator) -> None:
    def conductor() -> Conductor:
        return Conductor(
            trains=True,
            has_learner=True,
            evaluation_episodes=2,
            max_learner_restarts=1,
            patience=StartPatience(100.0, 0.0),
        )

    attendance = Attendance({"a": range(3), "b": range(3, 6)}, local="a", host_timeout_s=5.0)
    course = conductor()
    for now_s in range(ROUNDS):
        course.hello("world", "w")
        course.hello("learner", "l")
        course.node_ready()
        course.world_state(draw(wire.WorldState, rng))
        course.learner_state(draw(wire.LearnerState, rng))
        course.trained(draw(wire.Trained, rng).version, float(now_s))
        course.kill(draw(wire.Instruction, rng).value)
        course.due(float(now_s))
        attendance.open(float(now_s))
        for host in ("a", "b", "c"):
            course.node_state(host, draw(wire.NodeState, rng))
            attendance.join(host, float(now_s))
            attendance.agent_state(host, draw(wire.AgentState, rng))
            attendance.agent_state(host, draw(wire.AgentState, rng, agent=4))
            attendance.counted(host, draw(wire.NodeState, rng).agents_ready)
            attendance.due(float(now_s))


# --- the world ------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", ["causal", "paper"])
def test_no_packet_ends_the_world(timing: Any, rng: np.random.Generator) -> None:
    copies = 2
    world = make_world(ScriptedEnv(2), ScriptedEnv(3), rules=make_rules(timing=timing))
    fit = {"actions": (copies,), "out_masks": (copies,), "beacons": (1,)}
    for _ in range(ROUNDS):
        if world.may_tick:
            world.begin_tick()
        for shapes in (None, fit):
            for tick in (world.tick, 0, 2**32 - 1):
                world.gates(1, draw(wire.Gates, rng, shapes, tick=tick))
                world.action(1, draw(wire.Action, rng, shapes, tick=tick))
        state = draw(wire.LearnerState, rng)
        world.learner.progress(updates_owed=state.updates_owed, episodes_taken=state.episodes_taken)
        assert math.isfinite(world.learner.backlog)
        answer(world, copies=copies)
        while world.waits_for_agents:
            world.deadline()
        assert 0 <= world.min_version < 2**32
        wire.decode(wire.encode(wire.Status("world", world.kill.aftermath.figures())))
        world.learner.gone()
    assert world.episodes.env_steps > ROUNDS


# --- agents ---------------------------------------------------------------------------------------

SPECS = (SPEC, agents_helpers.make_spec(message_dtype="float32", beacon_dtype="float32"))


def observe(core: AgentCore, copies: int, tick: int, rng: np.random.Generator) -> list[Command]:
    alive = np.full(copies, wire.ALIVE | wire.EXPLORE, np.uint8)
    zeros = np.zeros(copies, np.uint16)
    observations = rng.normal(size=(copies, SPEC.observation_dim)).astype(np.float16)
    steps = np.full(copies, min(tick, 9), np.uint16)
    episodes = np.zeros(copies, np.uint32)
    masks = np.full(copies, 0xFFFF, np.uint16)  # edges that do not exist among them
    now = wire.Observation(tick, 0.5, episodes, steps, alive, zeros, masks, masks, observations)
    return core.handle(now)


@pytest.mark.parametrize("spec", SPECS, ids=["float16", "float32"])
def test_no_packet_ends_an_agent_or_makes_it_say_what_is_not_a_number(
    spec: Any, rng: np.random.Generator
) -> None:
    copies = 2
    core = agents_helpers.make_agent(agents_helpers.make_rules(copies=copies, spec=spec))
    outs, ins = (f(0, NUM_AGENTS) for f in (topology.out_neighbours, topology.in_neighbours))
    kinds = (wire.Observation, wire.InMask, *wire.PARAMETERS)
    acted = 0
    for tick in range(1, ROUNDS):
        for peer in ins:
            shape = {"rows": (copies, spec.message), "copies": (1,)}
            both = np.array([3], np.uint8)
            core.handle(draw(wire.Message, rng, shape, sender=peer, tick=tick - 1, copies=both))
            core.handle(draw(wire.Message, rng))
        for peer in outs:
            shape = {"rows": (copies, spec.beacon)}
            both = np.array([3], np.uint8)
            core.handle(draw(wire.Beacon, rng, shape, sender=peer, tick=tick - 1, copies=both))
        for kind in kinds:
            core.handle(draw(kind, rng, tick=0) if kind in kinds[:2] else draw(kind, rng))
        commands = observe(core, copies, tick, rng)
        assert core.missing[1] >> OFFSETS == 0, "no edge, nobody to wait for"
        commands += core.handle(PeersLate())
        acted += any(isinstance(command, ToWorld) for command in commands)
        for command in commands:
            if isinstance(command, SendMessage):
                assert np.isfinite(command.rows).all()
                assert np.abs(command.rows).max(initial=0) <= 1.0
    assert acted == ROUNDS - 1


def test_a_sensor_that_reads_too_much_does_not_silence_an_agent_for_good(
    rng: np.random.Generator,
) -> None:
    rules = agents_helpers.AgentRules(
        num_agents=NUM_AGENTS, copies=1, spec=SPEC, comm="sops", gate_timing="causal",
        gate_mode="learned", dead="silent", ships="none", realtime=True,
    )  # fmt: skip
    core = agents_helpers.make_agent(rules)
    for tick in range(1, ROUNDS):
        packet = draw(wire.BodyObservation, rng, {"observation": (SPEC.observation_dim,)})
        commands = core.handle(as_observation(Sensed(packet, 0).packet, tick, tick, edge_bits(3)))
        assert commands
        for command in commands:
            assert not isinstance(command, SendMessage) or np.isfinite(command.rows).all()
    sane = wire.BodyObservation(1, wire.ALIVE, 0, np.ones(SPEC.observation_dim, np.float32))
    (*_, last) = core.handle(as_observation(sane, ROUNDS, 9, edge_bits(3)))
    assert isinstance(last, ToWorld)


def test_observations_beyond_what_training_can_hold_are_refused() -> None:
    core = agents_helpers.make_agent(agents_helpers.make_rules(copies=1))
    wild = np.full((1, SPEC.observation_dim), 1e38, np.float32)
    one, flags = np.zeros(1, np.uint16), np.ones(1, np.uint8)
    packet = wire.Observation(1, 0.0, np.zeros(1, np.uint32), one, flags, one, one, one, wild)
    assert core.handle(packet) == [Dropped("range")]


@pytest.mark.parametrize("kind", wire.AGENT_PARAMETERS)
def test_no_policy_version_ends_its_receiver(kind: Any, rng: np.random.Generator) -> None:
    store = ParameterStore(np.zeros(9, np.float32), 1)
    for size in range(ROUNDS):
        tensors = ["values", "indices", "mask", "difference"]
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(tensors, (size,))
        store.apply(
            draw(kind, rng, shapes, base_version=1)
            if size % 2 and "Delta" in kind.__name__
            else draw(kind, rng, shapes)
        )
    assert store.flat.shape == (9,)


def test_no_announcement_of_a_version_ends_an_agent(rng: np.random.Generator) -> None:
    sharing = Sharing(agents_helpers.make_rules(), ParameterStore(agents_helpers.make_flat(), 1))
    core = agents_helpers.AgentCore(
        0, agents_helpers.make_rules(), HostParameters(Segment(sharing.handle), SPEC), rng
    )
    for _ in range(ROUNDS):
        core.handle(draw(wire.SharedVersion, rng))
    assert core.handle(observation(agents_helpers.make_rules(), 1))
    assert core.policy_version == 1
    sharing.close()


# --- the node -------------------------------------------------------------------------------------


def test_no_report_ends_a_node_or_its_launcher(rng: np.random.Generator) -> None:
    table, board = HostTable(5, ("a", "b", "c"), 1, (0, 0, 1, 1, 2)), make_board()
    offsets = len(topology.offsets(5))
    shapes = {
        "counters": (len(COUNTERS),),
        "latency": (3, latency.BINS),
        "action_latency": (latency.BINS,),
        "edges": (offsets, 4),
    }
    before = -1.0
    for now_s in range(ROUNDS):
        for agent in (2, 3):
            table.update(draw(wire.AgentReport, rng, shapes, agent=agent, incarnation=now_s), now_s)
            with pytest.raises(ValueError, match="report"):
                table.update(draw(wire.AgentReport, rng, agent=9), now_s)
        values = table.status(float(now_s))
        assert all(0.0 <= value < 1e19 for value in values.values()), values
        assert values["late"] >= before, "sums only grow"
        before = values["late"]
        status = wire.decode(wire.encode(wire.Status("node", values)), wire.Status)
        assert isinstance(status, wire.Status)
        board.take_status(status, "b")
        board.summary("end", 1.0, 1.0, "cpu")
    assert list(table.out_edges())
    assert list(table.in_edges())
    exporter = Exporter(table, 0)
    exporter.close()


def test_no_packet_ends_the_watch_over_agents(rng: np.random.Generator) -> None:
    supervisor = Supervisor(range(3), 3, max_restarts=5, patience=StartPatience(10.0, 0.0))
    supervisor.start()
    for _ in range(ROUNDS):
        hello, ready = draw(wire.Hello, rng), draw(wire.Ready, rng)
        for agent in (0, 1, 99):
            supervisor.hello(agent, hello.incarnation, hello.endpoint)
            supervisor.agent_ready(agent, ready.incarnation)
            supervisor.kill(draw(wire.Instruction, rng).value)


def test_no_clock_ends_a_node(rng: np.random.Generator) -> None:
    clock = HostClock()
    for now_ns in range(0, 10**9, 10**8):
        probe = clock.probe(now_ns)
        reply = draw(wire.ClockReply, rng, sequence=probe.sequence, sent_ns=probe.sent_ns)
        clock.hear(reply, now_ns + 10**6)
        estimate = clock.estimate(now_ns + 10**7)
        if estimate is not None:
            np.array([estimate.offset_ns], dtype=np.int64)


# --- the learner ----------------------------------------------------------------------------------


def test_no_part_of_an_episode_ends_the_learner(rng: np.random.Generator) -> None:
    known = learner_helpers.DIMENSIONS
    joiner, spec = EpisodeJoiner(known), learner_helpers.make_spec()
    config = learner_helpers.make_config()
    learner = Learner(config, spec, known, learner_helpers.make_flat(spec), torch.device("cpu"))
    length, joined = 3, 0
    for number in range(4):
        fit = {
            "observations": (length, known.observation_dim),
            "states": (length + 1, known.state_dim),
            "rewards": (length, known.num_agents),
            "final_observations": (known.num_agents, known.observation_dim),
        }
        alive = np.ones((length + 1, known.num_agents), np.uint8)
        played = np.zeros((length, known.num_agents), np.uint8)
        record = draw(
            wire.EpisodeRecord,
            rng,
            fit,
            episode=number,
            alive=alive,
            terminated=0,
            complete=1,
            actions=played,
        )
        episode = joiner.add(record)
        for agent in range(known.num_agents):
            joiner.add(draw(wire.Trajectory, rng))
            actions = np.zeros(length, np.uint8)
            gates = rng.choice(extremes(np.dtype(np.uint16)), size=length).astype(np.uint16)
            halves = rng.choice(extremes(np.dtype(np.float16)), size=fit["observations"])
            episode = joiner.add(
                draw(
                    wire.Trajectory,
                    rng,
                    fit,
                    agent=agent,
                    episode=number,
                    actions=actions,
                    columns={"gates": gates},
                    observations=halves,
                )
            )
        if episode is not None:
            joined += 1
            learner.add(episode)
    assert joined == 4
    while learner.updates_owed > 0:
        learner.apply_gradient(learner.compute_gradient())
    assert np.isfinite(learner.parameters_flat()).all()


def test_a_trajectory_of_observations_that_no_agent_can_have_seen_is_refused() -> None:
    known = learner_helpers.DIMENSIONS
    joiner = EpisodeJoiner(known)
    wild = np.full((1, known.observation_dim), 1e38, np.float32)
    gates = {"gates": np.zeros(1, np.uint16)}
    trajectory = wire.Trajectory(0, 0, 1, 1, wild, np.zeros(1, np.uint8), gates)
    assert joiner.add(trajectory) is None
    assert joiner.dropped_packets == {"range": 1}
