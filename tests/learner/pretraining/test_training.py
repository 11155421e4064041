"""Pre-training without its folder: what falls, what is counted, and that it goes on anywhere."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.policy import PolicySpec
from learner.pretraining.model import Guess
from learner.pretraining.options import PretrainOptions
from learner.pretraining.played import Played
from learner.pretraining.training import CODE, FLOW, EpisodeBatch, Pretraining
from tests.agents_helpers import make_spec
from tests.learner.pretraining.made_up import AGENTS, SEEN, lines

SIZES = "encoder=16,code=8,flow=8,state=8,latent=4,neighbours=true"
OPTIONS = PretrainOptions(
    out="-",
    agents=AGENTS,
    comm_options=SIZES,
    episodes=24,
    code_epochs=2,
    code_batch=64,
    epochs=2,
    decoder=16,
    learning_rate=3e-3,
)
SPEC: PolicySpec = replace(
    make_spec(observation_dim=SEEN + 2), message=17, scheme="nvif", scheme_options=SIZES
)


def training_of(options: PretrainOptions = OPTIONS, played: Played | None = None) -> Pretraining:
    return Pretraining(options, SPEC, played or lines(options.episodes))


def finish(training: Pretraining) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    while (name := training.stage) is not None:
        rows.append(training.stages[name].update())
    return rows


def parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def test_both_losses_fall_on_episodes_that_nothing_was_trained_on() -> None:
    training = training_of(replace(OPTIONS, code_epochs=20, epochs=40, alpha=0.1, kl=0.1))
    before = training.held_out(CODE), training.held_out(FLOW)
    finish(training)
    after = training.held_out(CODE), training.held_out(FLOW)
    for old, new in zip(before, after, strict=True):
        assert new["reconstruction"] < 0.9 * old["reconstruction"]
    # What shines is the same for all agents of an episode: one bit, and nothing else is to be told.
    assert before[1]["told"] < 0.05
    assert 0.1 < after[1]["told"] < math.log(2.0)


def test_states_are_compared_with_those_of_the_same_step_in_other_episodes() -> None:
    played = lines(4)
    played.alive_ETN[:2, 2:] = False  # the two episodes that are held out have lengths of their own
    played.alive_ETN[1, 1:] = False
    training = training_of(replace(OPTIONS, episodes=4, held_out=0.5), played)
    assert training.held_out(FLOW)["told"] == 0.0, "nobody lives at the same time"
    alone = training_of(replace(OPTIONS, episodes=4, held_out=0.0), lines(4))
    assert "told" not in alone.held_out(FLOW)


def test_what_a_state_tells_is_that_of_a_comparison_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three episodes of an agent that sees one number; of the third it does not live to see step
    1. By a state of 2 the number is 1 with the logistic function of 2, by -1 with that of -1.
    """
    training = training_of()
    ones = torch.ones(2, 3, 1, 1)
    batch = EpisodeBatch(
        seen_TBNO=ones * torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1),
        positions_TBN2=torch.zeros(2, 3, 1, 2),
        codes_TBNF=ones,
        alive_TBN=torch.tensor([[[True], [True], [True]], [[True], [True], [False]]]),
        neighbours_TBNK=None,
    )
    states = ones * torch.tensor([2.0, -1.0, -1.0]).view(1, 3, 1, 1)

    def made(*_: object) -> Guess:
        return Guess(states, states, states, states)

    def decoded(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        del positions
        return states

    monkeypatch.setattr(training.model, "forward", made)
    monkeypatch.setattr(training.model, "decoded", decoded)
    told = training.of_episodes(batch, torch.Generator(), compares=True)["told"]

    def chance(state: float, seen: int) -> float:
        one = 1.0 / (1.0 + math.exp(-state))
        return one if seen else 1.0 - one

    def told_by(sharp: float) -> float:
        first = [chance(state, 1) ** sharp for state in (2, -1)]
        second = [chance(state, 0) ** sharp for state in (-1, 2)]
        of_both = [math.log(own / ((own + other) / 2)) for own, other in (first, second)]
        return sum(of_both) / 2

    by_hand = [told_by(sharp) for sharp in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)]
    assert told.item() == pytest.approx(max(by_hand), rel=1e-5)


def test_the_autoencoder_stays_as_it_is_while_the_flow_is_trained() -> None:
    training = training_of()
    while training.stage == CODE:
        training.stages[CODE].update()
    coder, flow = parameters(training.model.coder), parameters(training.model.decoder)
    finish(training)
    assert_close(parameters(training.model.coder), coder, rtol=0.0, atol=0.0)
    assert not torch.equal(parameters(training.model.decoder)["0.weight"], flow["0.weight"])


def test_what_comes_out_are_the_tensors_of_the_policys_layout() -> None:
    from agents.comm.nvif import Nvif

    found = {name: tuple(tensor.shape) for name, tensor in training_of().tensors().items()}
    assert found == dict(Nvif.pretrained_layout(SPEC))


def test_the_dead_and_the_first_step_do_not_count() -> None:
    played = lines(OPTIONS.episodes)
    training = training_of(played=played)
    rows = np.arange(3)
    noise = training.stages[FLOW].passes.noise(0, 1)
    episodes = training.episodes(training.played, rows, training.codes(training.played))
    losses = training.of_episodes(episodes, noise)
    seen = episodes.seen_TBNO.clone()
    seen[0] = 1.0 - seen[0]
    seen[~episodes.alive_TBN] = 1.0
    noise = training.stages[FLOW].passes.noise(0, 1)
    others = training.of_episodes(replace(episodes, seen_TBNO=seen), noise)
    assert_close(dict(losses), dict(others), rtol=0.0, atol=0.0)


def test_an_update_depends_on_its_number_and_not_on_who_took_those_before() -> None:
    whole, first = training_of(), training_of()
    rows = finish(whole)
    for _ in range(5):
        first.stages[first.stage or CODE].update()
    second = training_of()
    for name, stage in second.stages.items():
        stage.done = first.stages[name].done
        stage.begin_moments()
        for parameter in stage.parameters:
            moments = first.stages[name].optimiser.state.get(
                first.stages[name].parameters[parameter]
            )
            if moments:
                stage.optimiser.state[stage.parameters[parameter]] = moments
    second.model.load_state_dict(first.model.state_dict())
    assert finish(second) == rows[5:]
    assert_close(parameters(second.model), parameters(whole.model), rtol=0.0, atol=0.0)


def test_observations_beyond_0_and_1_are_squared_and_cross_entropy_refuses_them() -> None:
    played = lines(4)
    assert training_of(played=played).loss == "bce"
    played.observations_ETND[0, 0, 0, 0] = 2.0
    assert training_of(played=played).loss == "mse"
    with pytest.raises(ValueError, match="loss bce is for observations in"):
        training_of(replace(OPTIONS, loss="bce"), played)


def test_positions_may_be_anything_within_the_map() -> None:
    losses = finish(training_of())
    assert all(np.isfinite(list(row.values())).all() for row in losses)
