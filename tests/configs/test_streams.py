"""Random streams: no two roles, agents, copies or lives share one, and nobody makes another."""

import ast
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.parameters import ParameterStore
from configs import streams
from configs.streams import Role
from envs.copies import Copies
from envs.opponent_schedule import OpponentSchedule
from envs.relay import Relay
from runtime.host.setup import training_setup
from runtime.world.commands import ToLauncher
from runtime.world.lockstep import World
from tests.process.runs import run_config, undecided_policy
from tests.world_helpers import ScriptedEnv, make_rules

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "configs", "envs", "learner", "runtime")
MAKERS = {"configs/streams.py", "learner/noise.py", "learner/studies/intervals.py"}
"""The only files that may make a stream; the last seeds what rliable draws from."""

_FORBIDDEN = {
    *("default_rng", "SeedSequence", "RandomState", "PCG64", "PCG64DXSM", "MT19937", "Philox"),
    *("SFC64", "manual_seed"),
}
_GLOBAL = {"seed", "rand", "randn", "randint", "random", "normal", "uniform", "choice", "shuffle"}
"""What numpy.random draws from its global stream."""


def all_of(role: Role) -> Iterator[dict[str, int]]:
    """Keys of a role: small numbers, where collisions would be, and some large ones."""
    numbers = (*range(5), 255, 1 << 16, (1 << 32) - 1)
    for key in itertools.product(numbers, repeat=len(role.key)):
        yield dict(zip(role.key, key, strict=True))


def state(sequence: np.random.SeedSequence) -> bytes:
    return sequence.generate_state(4).tobytes()


def test_no_two_roles_agents_lives_incarnations_copies_or_seeds_share_a_stream() -> None:
    whose: dict[bytes, str] = {}
    for seed in (0, 1, 2, 2**31 - 1):
        for role in Role:
            for key in all_of(role):
                sequence = streams.sequence(seed, role, **key)
                name = f"{seed} {role.name} {key}"
                found = [(name, sequence)]
                if role is Role.AGENT:  # agents/comm/link_loss.py
                    found.append((f"link loss of {name}", sequence.spawn(1)[0]))
                for name, one in found:
                    other = whose.setdefault(state(one), name)
                    assert other == name, f"{name} and {other} are one stream"
    assert len(whose) > 4000


def test_what_one_role_draws_says_nothing_about_another() -> None:
    """The learner's stream was agent 1's, and the initial weights were agent 0's exploration."""
    agent = {"life": 0, "incarnation": 0}
    drawn = [
        streams.generator(0, Role.POLICY).random(50),
        streams.generator(0, Role.REPLAY).random(50),
        streams.generator(0, Role.TOPOLOGY).random(50),
        *(streams.generator(0, Role.AGENT, agent=i, **agent).random(50) for i in range(4)),
    ]
    correlations = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(correlations).max() < 0.6


def test_equal_keys_give_equal_streams_in_whatever_order_they_are_named() -> None:
    one = streams.generator(7, Role.EPISODE, life=1, copy=2, episode=3).random(5)
    two = streams.generator(7, Role.EPISODE, episode=3, copy=2, life=1).random(5)
    np.testing.assert_array_equal(one, two)
    assert streams.number(7, Role.POLICY) == streams.number(7, Role.POLICY) < 2**63


def test_without_a_seed_no_stream_comes_twice() -> None:
    first, second = (streams.number(None, Role.PARALLEL) for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ({"agent": 0, "life": 0}, "is told apart by"),
        ({"agent": 0, "life": 0, "incarnation": 0, "copy": 0}, "is told apart by"),
        ({"agent": -1, "life": 0, "incarnation": 0}, "numbers in"),
        ({"agent": 1 << 32, "life": 0, "incarnation": 0}, "numbers in"),
    ],
)
def test_a_key_that_does_not_fit_its_role_is_refused(key: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        streams.sequence(0, Role.AGENT, **key)


def test_every_role_has_a_number_of_its_own() -> None:
    numbers = [role.number for role in Role]
    assert len(set(numbers)) == len(numbers)


def made_in(path: Path) -> Iterator[str]:
    """Lines of a file that make a stream, or draw from one that nobody has seeded."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr="Generator") | ast.Name(id="Generator")):
                name = "Generator"
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in _FORBIDDEN:
                pass
            case ast.Attribute(value=ast.Attribute(attr="random"), attr=name) if name in _GLOBAL:
                pass
            case ast.Import(names=names) if any(alias.name == "random" for alias in names):
                name = "import of the standard library's random"
            case ast.ImportFrom(module=str(name)) if name in ("random", "numpy.random"):
                pass
            case _:
                continue
        yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name}"


def test_streams_are_made_in_one_place() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    elsewhere = [
        line
        for path in files
        if path.relative_to(ROOT).as_posix() not in MAKERS
        for line in made_in(path)
    ]
    assert elsewhere == []


def test_the_scan_sees_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.configs.test_streams.ROOT", tmp_path)
    path = tmp_path / "sample.py"
    path.write_text(
        "import random\n"
        "from numpy.random import default_rng\n"
        "rng = np.random.default_rng(0)\n"
        "rng = np.random.Generator(bits)\n"
        "np.random.shuffle(x)\n"
        "torch.manual_seed(0)\n"
        "def draw(rng: np.random.Generator) -> None:\n"
        "    rng.random(3)\n"
    )
    lines = {int(line.split(":")[1]) for line in made_in(path)}
    assert lines == {1, 2, 3, 4, 5, 6}


def seeds_of(life: int) -> list[int]:
    """Seeds of the episodes that two copies begin."""
    envs = [Relay(4), Relay(4)]
    seeds: list[int] = []
    for env in envs:
        begin = env.reset
        env.reset = lambda seed, begin=begin: (seeds.append(seed), begin(seed))[1]  # type: ignore[method-assign]  # to look at what comes in
    copies = Copies(envs, 0, life=life)
    for _ in range(5):
        copies.reset()
    return seeds


def test_another_life_plays_other_episodes_even_where_the_count_of_episodes_was_lost() -> None:
    assert seeds_of(life=0) == seeds_of(life=0)
    assert not set(seeds_of(life=0)) & set(seeds_of(life=1))


def opponents_met(life: int) -> list[int]:
    envs = [ScriptedEnv(1, num_agents=2)]
    schedule = OpponentSchedule.parse("random+scripted")
    rules = replace(make_rules(train_steps=1000), opponents=schedule, life=life)
    world = World(Copies(envs, 0), 1, rules, env_steps=0, episodes=0)
    met: list[int] = []
    for agent in range(2):
        world.agent_state(agent, up=True)
    while len(met) < 60:
        world.begin_tick()
        for command in world.deadline():
            if isinstance(command, ToLauncher):
                met.append(command.packet.opponent)
        for agent in range(2):
            world.agent_state(agent, up=True)
    return met


def test_another_life_draws_other_opponents() -> None:
    assert opponents_met(life=0) == opponents_met(life=0) != opponents_met(life=1)


def test_the_node_hands_a_runs_life_to_its_agents() -> None:
    config = replace(run_config("relay", 4), life=3)
    spec = undecided_policy(config).spec
    setup = training_setup(
        config,
        spec,
        ParameterStore(np.zeros(spec.size, dtype=np.float32), 1),
        ships="training",
        learns=True,
        place=None,
        launcher_endpoint="",
        world_endpoint="",
        learner_endpoint="",
        ipc_dir="",
        logs=Path("logs"),
    )
    assert setup.life == 3
