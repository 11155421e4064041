"""What comes with the project: found by name, loads, fits."""

from pathlib import Path

import numpy as np
import pytest

from agents.policy import load_policy
from configs.load import load_run_config
from configs.shipped import SHIPPED, idqn_path, policy_path
from envs.battle.opponents import PolicyFileOpponent, make_opponent
from envs.registry import spec_of
from learner.opponents.selfplay import contest
from runtime.evaluate import EvaluateOptions, resolve


@pytest.mark.parametrize("env", ["battle", "relay"])
def test_each_environment_has_a_policy_that_fits(env: str) -> None:
    options = EvaluateOptions(policy=SHIPPED, env=env, agents=20)  # type: ignore[arg-type]
    config, policy = resolve(options)
    spec = spec_of(config.env, 20)
    assert (policy.spec.observation_dim, policy.spec.num_actions) == (
        spec.observation_dim,
        spec.num_actions,
    )
    assert policy.trained["env"] == env
    assert policy == load_policy(policy_path(SHIPPED, env)) or policy.flat.size == policy.spec.size


def test_a_path_is_a_path_and_an_unknown_environment_has_none() -> None:
    assert policy_path("runs/x/policy.safetensors", "battle") == Path("runs/x/policy.safetensors")
    with pytest.raises(ValueError, match="no policy is shipped for chess"):
        policy_path(SHIPPED, "chess")


def test_idqn_is_an_opponent_that_beats_random_from_both_sides() -> None:
    assert idqn_path().is_file()
    idqn, random = make_opponent("idqn"), make_opponent("random")
    assert isinstance(idqn, PolicyFileOpponent)
    wins, _, margin = contest(idqn, random, agents=20, battles=2, seed=0)
    assert (wins, margin > 5) == (1.0, True)
    _, wins, margin = contest(random, idqn, agents=20, battles=2, seed=0)
    assert (wins, margin < -5) == (1.0, True)


def test_who_begins_with_a_policy_begins_where_the_schedules_end() -> None:
    fresh = load_run_config(["--agents", "20", "--env", "battle"])
    assert fresh.agents.epsilon_start > fresh.agents.epsilon_end
    assert fresh.gate.temperature_start > fresh.gate.temperature_end
    assert fresh.gate.price_start > 0
    assert fresh.learner.teacher == "idqn"
    config = load_run_config(["--agents", "20", "--env", "battle", "--policy", SHIPPED])
    assert config.agents.epsilon_start == fresh.agents.epsilon_end
    assert config.gate.temperature_start == fresh.gate.temperature_end
    assert (config.gate.price, config.gate.price_start) == (fresh.gate.price, 0)
    assert config.learner.teacher == ""
    assert config.env.opponent == "scripted+idqn"
    own = ["--agents.epsilon-start", "0.5", "--opponent", "random"]
    config = load_run_config(["--env", "battle", "--policy", SHIPPED, *own])
    assert (config.agents.epsilon_start, config.env.opponent) == (0.5, "random")


def test_an_evaluation_meets_idqn_unless_told_otherwise() -> None:
    config, _ = resolve(EvaluateOptions(policy="untrained", env="battle", agents=20))
    assert config.env.opponent == "idqn"
    options = EvaluateOptions(
        policy="untrained", env="battle", agents=20, opponent="random+scripted"
    )
    assert resolve(options)[0].env.opponent == "random+scripted"
    assert np.isfinite(resolve(options)[1].flat).all()


def test_a_policy_meets_the_last_opponents_of_a_schedule() -> None:
    phases = ["--opponent", "random@0,scripted+idqn@50"]
    assert load_run_config(["--env", "battle", *phases]).env.opponent == phases[1]
    # What is said on the command line is meant as it is said.
    assert load_run_config(["--policy", SHIPPED, *phases]).env.opponent == phases[1]
