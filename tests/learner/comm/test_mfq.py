"""What the head reads of the neighbours' actions, by hand, and who learns from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from agents.comm.mfq import mean_action
from agents.policy import PolicyFile, PolicySpec, views
from configs.arrays import FloatArray
from configs.schema import GateConfig, RunConfig
from envs.copies import Copies
from learner.comm.carry import Carry
from learner.comm.gates import GateRule
from learner.comm.unroll import UnrollInput, UnrollOutput, unroll
from learner.network import PolicyNetwork
from learner.simulate import simulate
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers
from tests.learner_helpers import array, make_flat, make_spec
from tests.scheme_cases import Case
from tests.world_helpers import ScriptedEnv

AGENTS, STEPS = 4, 3
SPEC: PolicySpec = Case("mfq", "", "causal").applied(make_spec())
RULE = GateRule("causal", "open")
ACTIONS = torch.tensor([[[0, 1, 1, 3]], [[2, 2, 0, 1]], [[3, 3, 3, 3]]])
ALIVE = torch.ones(STEPS, 1, AGENTS, dtype=torch.bool)


def network() -> PolicyNetwork:
    made = PolicyNetwork(SPEC, AGENTS)
    made.load_flat(make_flat(SPEC))
    return made


def played(actions: torch.Tensor = ACTIONS, alive: torch.Tensor = ALIVE) -> UnrollOutput:
    seen = torch.zeros(STEPS, 1, AGENTS, SPEC.observation_dim)
    return unroll(network(), UnrollInput(seen, alive, actions_TBN=actions), RULE)


def q_of(mean_TNA: FloatArray) -> FloatArray:
    """[T, N, A] what the head makes of mean actions, where nothing was seen."""
    its = network()
    seen = torch.zeros(STEPS, 1, AGENTS, SPEC.observation_dim)
    with torch.no_grad():
        hidden = its.recur(seen, torch.zeros(1, AGENTS, SPEC.hidden))
        mean = torch.tensor(mean_TNA)[:, None]
        context = torch.relu(its.mean(torch.relu(its.mean_hidden(mean))))
        both = torch.cat((hidden, context), dim=-1)
        return array(its.q_out(torch.relu(its.q_hidden(both))))[:, 0]


def test_the_mean_action_of_neighbours_is_the_one_worked_out_by_hand() -> None:
    said = np.array([[2.0, 0.0, 2.0, 1.0], [3.0, 3.0, 0.0, 3.0], [1.0, 1.0, 1.0, 1.0]], np.float32)
    present = np.array([[1, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0]], np.bool_)
    expected = [[1 / 3, 0, 2 / 3, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    actions_A = np.arange(4, dtype=np.float32)
    assert_allclose(mean_action(said, present, actions_A), expected, atol=1e-7)
    everybody = mean_action(said[:1], None, actions_A)
    assert_array_equal(everybody, np.array([[0.25, 0.25, 0.5, 0.0]], np.float32))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -1.0, 4.0, 0.5])
def test_what_names_no_action_counts_as_not_said(odd: float) -> None:
    said = np.array([[odd, 2.0]], np.float32)
    found = mean_action(said, None, np.arange(4, dtype=np.float32))
    assert_array_equal(found, np.array([[0.0, 0.0, 1.0, 0.0]], np.float32))


def test_the_head_reads_the_mean_of_the_step_before() -> None:
    mean_TNA = np.zeros((STEPS, AGENTS, 4), np.float32)
    mean_TNA[1] = [[0, 2, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1], [1, 2, 0, 0]]
    mean_TNA[2] = [[1, 1, 1, 0], [1, 1, 1, 0], [0, 1, 2, 0], [1, 0, 2, 0]]
    mean_TNA /= np.float32(3.0)
    assert_allclose(array(played().q_TBNA)[:, 0], q_of(mean_TNA), atol=1e-5)


def test_the_dead_have_no_part_in_the_mean() -> None:
    alive = ALIVE.clone()
    alive[1:, 0, 2] = False
    mean_TNA = np.zeros((STEPS, AGENTS, 4), np.float32)
    # What it did before it died is still heard, as messages are.
    mean_TNA[1, [0, 1, 3]] = np.array([[0, 2, 0, 1], [1, 1, 0, 1], [1, 2, 0, 0]], np.float32) / 3
    mean_TNA[2, [0, 1, 3]] = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 2, 0]], np.float32) / 2
    living = [0, 1, 3]
    q_TNA = array(played(alive=alive).q_TBNA)[:, 0]
    assert_allclose(q_TNA[:, living], q_of(mean_TNA)[:, living], atol=1e-5)


def test_a_step_whose_actions_are_yet_to_be_chosen_hands_them_on() -> None:
    its, seen = network(), torch.zeros(1, 1, AGENTS, SPEC.observation_dim)
    carry, steps = Carry.begin(its, 1), list[torch.Tensor]()
    for actions_BN in ACTIONS:
        output = unroll(its, UnrollInput(seen, ALIVE[:1]), RULE, carry)
        steps.append(output.q_TBNA)
        carry = output.carry.after_acting(its, actions_BN)
    assert torch.allclose(torch.cat(steps), played().q_TBNA, atol=1e-6)
    with pytest.raises(ValueError, match="comm mfq says actions"):
        unroll(its, UnrollInput(seen.expand(2, -1, -1, -1), ALIVE[:2]), RULE)


def test_a_simulation_hears_what_was_done_as_agents_do() -> None:
    task = ScriptedEnv(num_agents=AGENTS).spec
    spec = replace(SPEC, observation_dim=task.observation_dim, num_actions=task.num_actions)
    flat = make_flat(spec)
    mean = views(spec, flat)
    mean["mean_hidden.weight"][...] *= 5.0  # what others did decides
    mean["q_out.bias"][1] += 0.5  # number 0 is what an agent would hear that hears nothing
    envs = [ScriptedEnv(9, num_agents=AGENTS, deaths={4: [2]}, roams=True) for _ in range(2)]
    rules = agents_helpers.make_rules(
        num_agents=AGENTS, spec=spec, comm="mfq", mode="open", ships="none"
    )
    world = replace(world_helpers.make_rules(train_steps=0, ships="none"), graph=rules.graph)
    SerialRun(Copies(envs[:1], 0), rules, flat, world, 0).evaluate(1)
    config = RunConfig(num_agents=AGENTS, comm="mfq", gate=GateConfig(mode="open"))
    simulate(config, PolicyFile(spec, flat, 1, {}), Copies(envs[1:], 0), 1)
    by_agents, by_simulation = (np.array(env.played) for env in envs)
    by_agents[5:, 2] = by_simulation[5:, 2]  # what is played for the dead
    assert_array_equal(by_simulation, by_agents)
    assert len(np.unique(by_agents)) > 1, "who always does the same says nothing"


def test_what_the_mean_action_is_worth_is_learnt() -> None:
    output = unroll(
        its := network(),
        UnrollInput(
            torch.zeros(STEPS, 1, AGENTS, SPEC.observation_dim), ALIVE, actions_TBN=ACTIONS
        ),
        RULE,
    )
    names = ("mean_hidden.weight", "mean.weight", "q_hidden.weight")
    parameters = [its.tensors()[name] for name in names]
    gradients = torch.autograd.grad(output.q_TBNA.square().sum(), parameters)
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.abs().sum() > 0, name


def test_any_number_of_agents_plays_by_one_policy() -> None:
    assert Case("mfq", "", "causal").applied(replace(SPEC)).size == SPEC.size
    assert (SPEC.message, SPEC.context) == (1, 32)
