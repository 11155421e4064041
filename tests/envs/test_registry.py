"""From the configuration to environments, and refusals before anything is started."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import envs.installed
from configs.schema import EnvConfig
from envs.registry import check, family_of, make_copies, spec_of


def test_specs_follow_the_configuration() -> None:
    battle = spec_of(EnvConfig(name="battle", max_cycles=50), 20)
    assert (battle.observation_dim, battle.num_actions, battle.state_dim) == (98, 21, 98)
    assert (battle.num_agents, battle.episode_limit, battle.noop_action) == (20, 50, 6)
    relay = spec_of(EnvConfig(name="relay"), 16)
    assert (relay.observation_dim, relay.num_actions, relay.state_dim) == (6, 4, 5)
    assert (relay.num_agents, relay.episode_limit, relay.noop_action) == (16, 6, 0)


@pytest.mark.parametrize(
    ("config", "num_agents"),
    [(EnvConfig(name="battle", copies=2), 4), (EnvConfig(name="relay", copies=2), 5)],
)
def test_copies_keep_the_promised_spec(config: EnvConfig, num_agents: int) -> None:
    copies = make_copies(config, num_agents, seed=0)
    spec = spec_of(config, num_agents)
    assert copies.spec == spec
    snapshots = copies.reset()
    assert len(snapshots) == 2
    steps = copies.step(np.full((2, num_agents), spec.noop_action))
    for snapshot in (*snapshots, *(step.now for step in steps)):
        assert snapshot.observations_ND.shape == (num_agents, spec.observation_dim)
        assert snapshot.state_S.shape == (spec.state_dim,)
        assert snapshot.alive_N.shape == (num_agents,)
    copies.close()


@pytest.mark.parametrize("num_agents", [3, 1025])
def test_an_impossible_population_is_refused_before_anything_starts(num_agents: int) -> None:
    config = EnvConfig(name="battle")
    refusal = f"battle takes between 4 and 1024 agents, got {num_agents}"
    with pytest.raises(ValueError, match=refusal):
        spec_of(config, num_agents)
    with pytest.raises(ValueError, match=refusal):
        check(config, num_agents)
    with pytest.raises(ValueError, match=refusal):
        make_copies(config, num_agents, seed=0)


@pytest.mark.parametrize(
    ("name", "agents", "package", "extra"),
    [
        ("battle", 20, "magent2", "magent"),
        ("gather", 25, "magent2", "magent"),
        ("adversarial-pursuit", 25, "magent2", "magent"),
        ("pettingzoo:mpe2.simple_spread_v3", 3, "pettingzoo", "train"),
        ("lbforaging", 2, "lbforaging", "lbforaging"),
        ("rware", 2, "rware", "rware"),
        ("mpe", 3, "mpe2", "mpe"),
    ],
)
def test_a_missing_package_is_refused_with_the_remedy(
    name: str, agents: int, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_installed(name: str) -> None:
        return None

    family_of.cache_clear()  # what it knows of an environment, it knows from making one
    monkeypatch.setattr(envs.installed, "find_spec", nothing_installed)
    with pytest.raises(ValueError, match="is not installed") as refused:
        check(EnvConfig(name=name), agents)
    assert str(refused.value) == (
        f"{name} needs the package {package}, which is not installed: install it with "
        f'pip install -e ".[{extra}]" in the folder of Murmuration'
    )
    check(EnvConfig(name="relay"), 20)


def test_an_unusable_opponent_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="cannot be read"):
        check(EnvConfig(opponent=str(broken)), 20)
    with pytest.raises(ValueError, match="no opponent 'nobody'"):
        check(EnvConfig(opponent="nobody"), 20)
    check(EnvConfig(opponent="scripted"), 20)


@pytest.mark.process
def test_asking_for_a_spec_loads_no_engine() -> None:
    question = (
        "import sys\n"
        "from configs.schema import EnvConfig\n"
        "from envs.registry import check, spec_of\n"
        "check(EnvConfig(), 20)\n"
        "assert not {'magent2', 'pygame', 'torch'} & set(sys.modules), 'loaded'\n"
    )
    done = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
