"""A graph that moves: world, agents, learner, simulation and commands agree about who is near.

Parity with the unroll, scheme by scheme, is in tests/test_scheme_parity.py, and over sockets in
tests/process/test_parity_neighbours.py.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.comm.graphs import graph_of
from agents.policy import PolicyFile, PolicySpec, initialise, save_policy
from configs.arrays import BoolArray, FloatArray
from configs.columns import Q_VALUES, recorded
from configs.load import preset_for
from configs.schema import EnvConfig, LearnerConfig, NetworkConfig, RunConfig
from envs import registry
from envs.base import Env
from envs.copies import Copies
from envs.gather.layout import lay_out
from envs.neighbours import neighbours
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, unroll
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner
from learner.experience.replay import Replay
from learner.learner import Learner
from learner.population import Population
from learner.ranks import shared_out
from learner.simulate import simulate
from runtime import deploy, launch
from runtime.acting import Policy
from runtime.host import preflight
from runtime.net.errors import SetupError
from runtime.net.topology import Graph, complete
from runtime.run.serial import SerialRun
from runtime.world.edges import EdgesInUse
from tests import agents_helpers, world_helpers
from tests.learner_helpers import array, load_part, make_network
from tests.world_helpers import ScriptedEnv, neighbours_by_place

AGENTS = 6
MANY = 70
"""With more edges than a number has bits."""
COMM, OPTIONS = "full", "neighbours=true"
NETWORK = NetworkConfig(hidden=8, message=6, attention=3, message_dtype="float32")


def run_config(env: EnvConfig, num_agents: int = AGENTS) -> RunConfig:
    return RunConfig(
        num_agents=num_agents,
        comm=COMM,
        comm_options=OPTIONS,
        env=env,
        network=NETWORK,
        learner=LearnerConfig(device="cpu", batch_size=4, learning_starts=1),
    )


def spec_for(env: Env) -> PolicySpec:
    return PolicySpec.of(
        NETWORK,
        env.spec.observation_dim,
        env.spec.num_actions,
        comm=COMM,
        comm_options=OPTIONS,
    )


def flat_of(spec: PolicySpec) -> FloatArray:
    return initialise(spec, np.random.default_rng(0)) * np.float32(3.0)


def play(
    envs: Sequence[Env], spec: PolicySpec, flat: FloatArray, episodes: int, seed: int = 0
) -> SerialRun:
    rules = agents_helpers.make_rules(
        num_agents=envs[0].spec.num_agents,
        copies=len(envs),
        spec=spec,
        comm=COMM,
        ships="all",
        record_q=True,
    )
    rules = replace(rules, comm_options=OPTIONS)
    world = replace(world_helpers.make_rules(train_steps=0), graph=rules.graph, moves=rules.moves)
    run = SerialRun(Copies(envs, seed), rules, flat, world, seed)
    run.evaluate(episodes)
    assert not run.dropped
    assert all(core.tally.late == 0 for core in run.agents)
    return run


def joined(run: SerialRun) -> list[Episode]:
    joiner = EpisodeJoiner(Dimensions.of(run.copies.spec, (Q_VALUES,), graph=run.rules.graph))
    found = [joiner.add(packet) for packet in (*run.trajectories, *run.records)]
    return [episode for episode in found if episode is not None]


def roaming(num_agents: int = AGENTS) -> list[Env]:
    return [
        ScriptedEnv(9, 12, num_agents=num_agents, deaths={4: [2], 7: [0, 3]}, roams=True),
        ScriptedEnv(11, num_agents=num_agents, deaths={0: [5]}, roams=True),
    ]


def neighbours_of(episode: Episode) -> BoolArray:
    """[T, N, N] by what was seen."""
    moments = zip(episode.observations[:-1], episode.alive[:-1], strict=True)
    return np.array([neighbours_by_place(seen_ND, alive_N) for seen_ND, alive_N in moments])


# --- who is near ----------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [complete(5), complete(20), Graph(9, (1, 4, 6))], ids=str)
def test_an_edge_has_what_is_said_of_its_two_ends(graph: Graph) -> None:
    size = graph.num_agents
    pairs: BoolArray = np.random.default_rng(0).random((3, size, size)) < 0.5
    edges = graph.edges_of(pairs)
    assert edges.shape == (3, size, graph.num_edges)
    for agent in range(size):
        for k, peer in enumerate(graph.out_neighbours(agent)):
            assert_array_equal(edges[:, agent, k], pairs[:, agent, peer])


@pytest.mark.parametrize("size", [6, 65, 115])
def test_the_world_names_neighbours_that_took_part_and_at_first_all_of_them(size: int) -> None:
    edges = EdgesInUse(2, graph := complete(size))
    near_ENN: BoolArray = np.zeros((2, size, size), dtype=np.bool_)
    for i, j in ((0, 1), (0, size - 1), (2, 3)):
        near_ENN[:, i, j] = near_ENN[:, j, i] = True
    present_EN: BoolArray = np.ones((2, size), dtype=np.bool_)
    present_EN[:, 1] = False
    edges.step_ends(present_EN)
    masks_EN = edges.peers_near(near_ENN, np.array([True, False]))

    def named(copy: int, agent: int) -> set[int]:
        open_K = graph.edge_bits.unpack(masks_EN[copy, agent])
        return set(np.array(graph.out_neighbours(agent))[open_K].tolist())

    assert named(0, 0) == {1, size - 1}, "in the first step nobody has been heard"
    assert named(1, 0) == {size - 1}
    assert named(0, 2) == named(1, 2) == {3}
    assert named(0, 4) == set()


@pytest.mark.parametrize("num_agents", [AGENTS, MANY])
def test_an_agent_speaks_to_its_living_neighbours_and_nobody_else(num_agents: int) -> None:
    envs = roaming(num_agents)
    spec = spec_for(envs[0])
    episodes = joined(play(envs, spec, flat_of(spec), 5))
    assert len(episodes) == 5
    graph = graph_of(COMM, OPTIONS, num_agents)
    changes = 0
    for episode in episodes:
        near_TNK = graph.edges_of(neighbours_of(episode))
        open_TNK = graph.edge_bits.unpack(episode.columns["gates"])
        # Neighbours live, and in these episodes nobody comes back.
        assert_array_equal(open_TNK, near_TNK & episode.alive[:-1, :, None])
        assert open_TNK[0].any(), "in the first step as well"
        assert not open_TNK.all(axis=-1).all()
        changes += int((open_TNK[1:] != open_TNK[:-1]).any(axis=-1).sum())
    assert changes > 50, "who is near must change for this test to mean something"


# --- what the learner makes of it -----------------------------------------------------------------


@pytest.mark.parametrize("num_agents", [AGENTS, MANY])
def test_the_learner_replays_whom_the_agents_heard(num_agents: int) -> None:
    """By the recorded gates, in whole episodes: values are those that the agents had."""
    envs = roaming(num_agents)
    spec = spec_for(envs[0])
    flat = flat_of(spec)
    episodes = joined(play(envs, spec, flat, 4))
    config = run_config(EnvConfig(name="relay"), num_agents)
    learner = Learner(config, spec, episodes[0].dimensions, flat)
    replay = Replay(10)
    for episode in episodes:
        replay.add(episode)
    ((share,),) = shared_out(replay.oldest(10).gather(), 100, 1)
    part = load_part(share, torch.Generator(), config)
    output = learner.algorithm.unroll_deployed(learner.network, part)
    lives = array(part.lives_TBN) & array(part.learns_TB)[..., None]
    q_values = array(part.columns["q_values"])
    assert_allclose(array(output.q_TBNA)[:-1][lives], q_values[lives], atol=1e-4)
    nobody = replace(
        part, columns={**part.columns, "gates": torch.zeros_like(part.columns["gates"])}
    )
    unheard = learner.algorithm.unroll_deployed(learner.network, nobody)
    assert np.abs(array(unheard.q_TBNA)[:-1][lives] - q_values[lives]).max() > 1e-2


def test_an_update_learns_from_what_neighbours_said() -> None:
    envs = roaming()
    spec = spec_for(envs[0])
    config = run_config(EnvConfig(name="relay"))
    episodes = joined(play(envs, spec, flat_of(spec), 4))
    learner = Learner(config, spec, episodes[0].dimensions, flat_of(spec))
    for episode in episodes:
        learner.add(episode)
    learner.compute_gradient()
    gradients = {n: p.grad for n, p in learner.network.tensors().items()}
    heard = gradients["value.weight"]
    assert heard is not None
    assert heard.abs().sum() > 0


def test_who_is_near_must_be_said() -> None:
    spec = spec_for(roaming()[0])
    network = make_network(spec, AGENTS, flat_of(spec))
    window = UnrollInput(torch.zeros(1, 1, AGENTS, 3), torch.ones(1, 1, AGENTS, dtype=torch.bool))
    with pytest.raises(ValueError, match="full hears its neighbours: say who they are"):
        unroll(network, window, GateRule("causal", "open"))


@pytest.mark.parametrize("name", ["gather", "battle"])
def test_a_simulation_plays_what_agents_play(name: str) -> None:
    """Episodes of a real environment, in which agents die in battle."""
    options = {"gather": "max_cycles=8", "battle": "neighbours=true"}[name]
    preset = preset_for(name).env
    config = run_config(replace(preset, copies=2, options=options, max_cycles=25), 8)
    env_spec = registry.spec_of(config.env, 8)
    assert env_spec.has_neighbours
    spec = PolicySpec.of(
        NETWORK,
        env_spec.observation_dim,
        env_spec.num_actions,
        comm=COMM,
        comm_options=OPTIONS,
    )
    flat = flat_of(spec)

    def copies() -> Copies:
        return registry.make_copies(config.env, 8, config.seed)

    rules = agents_helpers.make_rules(num_agents=8, copies=2, spec=spec, comm=COMM, ships="none")
    rules = replace(rules, comm_options=OPTIONS)
    world = replace(
        world_helpers.make_rules(train_steps=0, ships="none"),
        graph=rules.graph,
        moves=rules.moves,
        opponents=registry.opponents_of(config.env),
    )
    run = SerialRun(copies(), rules, flat, world, config.seed)
    run.evaluate(4)
    results = simulate(
        config,
        PolicyFile(spec, flat, 1, {}),
        copies(),
        4,
        opponents=registry.opponents_of(config.env),
    )
    assert sorted(r.episode_return for r in results) == pytest.approx(
        sorted(r.episode_return for r in run.results)
    )
    figures = run.world.kill.aftermath.figures()
    edges = sum(r.edges_open for r in results)
    assert edges == figures["evaluated_edges_open"]
    assert 0 < edges < 7 * figures["evaluated_agent_steps"] / 2, "far from everybody"


@pytest.mark.parametrize("size", [9, MANY])
def test_a_population_that_the_learner_plays_hears_its_own_neighbours(size: int) -> None:
    config = run_config(EnvConfig(name="gather", copies=2, options="position=true,max_cycles=6"))
    learner = replace(config.learner, also_agents=(size,), learning_starts=2)
    config = replace(config, learner=learner)
    env_spec = registry.spec_of(config.env, size)
    spec = PolicySpec.of(
        NETWORK,
        env_spec.observation_dim,
        env_spec.num_actions,
        comm=COMM,
        comm_options=OPTIONS,
    )
    network = make_network(spec, AGENTS, flat_of(spec))
    population = Population(config, size, torch.device("cpu"))
    population.catch_up(network, GateRule("causal", "open"), env_steps=0)
    graph, map_size = complete(size), lay_out(size).map_size
    for episode in population.replay.oldest(10).episodes:
        for t in range(episode.length):
            alive_N = episode.alive[t]
            living_L = np.flatnonzero(alive_N)
            places_L2 = episode.observations[t, living_L, -2:].astype(np.float64)
            cells_L2 = ((places_L2 + 1.0) / 2.0 * (map_size - 1)).round().astype(np.int64)
            near_NK = graph.edges_of(neighbours(size, living_L, cells_L2))
            open_NK = graph.edge_bits.unpack(episode.columns["gates"][t])
            assert_array_equal(open_NK, near_NK)
            assert not open_NK[alive_N].all()


# --- commands -------------------------------------------------------------------------------------


def test_an_environment_without_neighbours_is_refused_with_the_way_out() -> None:
    with pytest.raises(SetupError, match=r"relay has none: take another environment \(gather, b"):
        preflight.require_scheme(run_config(EnvConfig(name="relay")))
    with pytest.raises(SetupError, match=r"give --env\.options neighbours=true"):
        preflight.require_scheme(run_config(EnvConfig(name="battle"), 20))
    preflight.require_scheme(run_config(EnvConfig(name="battle", options=OPTIONS), 20))
    preflight.require_scheme(run_config(EnvConfig(name="gather"), 27))


def test_more_agents_than_a_mask_can_name_are_refused() -> None:
    config = run_config(EnvConfig(name="battle", options=OPTIONS), 300)
    with pytest.raises(SetupError, match="an agent may have 256 out-edges, and with 300 agents"):
        preflight.require_scheme(config)
    preflight.require_scheme(run_config(EnvConfig(name="gather"), 115))


def test_deployment_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_for(roaming()[0])
    path, hosts = tmp_path / "policy.safetensors", tmp_path / "hosts.yaml"
    save_policy(path, PolicyFile(spec, flat_of(spec), 1, {"comm": COMM}))
    hosts.write_text("hosts: {a: {address: 10.0.0.1}}")
    given = ["--policy", f"{path}", "--hosts", f"{hosts}", "--out", f"{tmp_path / 'out'}"]
    with pytest.raises(SystemExit) as error:
        deploy.main([*given, "--agents", "3"])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "speak to neighbours that change with every step" in line
    with pytest.raises(ValueError, match="in real time nobody says who they are"):
        replace(
            agents_helpers.make_rules(spec=spec, comm=COMM), comm_options=OPTIONS, realtime=True
        )


def test_a_team_in_python_wants_to_know_who_is_near() -> None:
    spec = spec_for(roaming()[0])
    policy = Policy(PolicyFile(spec, flat_of(spec), 1, {"comm": COMM}))
    team, seen = policy.team(AGENTS), np.zeros((AGENTS, 3))
    with pytest.raises(ValueError, match="comm full speaks to neighbours: say who they are"):
        team.act(seen)
    near = np.zeros((AGENTS, AGENTS), dtype=np.bool_)
    with pytest.raises(ValueError, match="neighbours are symmetric, and nobody is its own"):
        team.act(seen, None, np.eye(AGENTS, dtype=np.bool_))
    with pytest.raises(ValueError, match="got shape"):
        team.act(seen, None, near[:-1])
    assert team.act(seen, None, near).shape == (AGENTS,)
    assert team.out_degree == 0.0
    assert policy.agent().act(seen[0]) >= 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("algorithm", ["iql", pytest.param("ippo", marks=pytest.mark.slow)])
def test_a_run_in_one_process_trains_and_goes_on(
    algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With values and with probabilities; a checkpoint keeps what a run needs to go on."""
    given = ["--env", "gather", "--agents", "6", "--comm", COMM, "--comm.options", OPTIONS]
    given += ["--algorithm", algorithm, "--env-copies", "2", "--env.options", "max_cycles=6"]
    given += ["--serial", "--evaluation.episodes", "2", "--learner.learning-starts", "1"]
    given += ["--learner.batch-size", "2", "--runtime.runs-dir", str(tmp_path)]
    given += ["--metrics-port", "0"]
    if algorithm == "ippo":
        given += ["--algorithm.options", "episodes=2,epochs=1,minibatches=1"]
    assert launch.main([*given, "--steps", "48"]) == 0
    (folder,) = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["learner_updates"] > 0
    assert 0 < summary["out_degree_mean"] < 5
    assert launch.main(["--resume", str(folder), "--steps", "72"]) == 0
    assert json.loads((folder / "summary.json").read_text())["env_steps"] == 72
    capsys.readouterr()


def test_recorded_columns_are_those_of_any_scheme() -> None:
    """Who was near is in the gates, which are always recorded."""
    assert recorded(run_config(EnvConfig(name="gather"))) == ()
