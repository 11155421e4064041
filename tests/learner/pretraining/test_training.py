"""Pre-training without its folder: what falls, what is counted, and that it goes on anywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.policy import PolicySpec
from learner.pretraining.options import PretrainOptions
from learner.pretraining.played import Played
from learner.pretraining.training import CODE, FLOW, Pretraining
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
    # What shines is the same for all agents of an episode, and for no others.
    assert after[1]["strangers"] > after[1]["reconstruction"] + 0.1


def test_strangers_are_agents_that_live_in_that_step_of_another_episode() -> None:
    played = lines(4)
    played.alive_ETN[:2, 2:] = False  # the two episodes that are held out have lengths of their own
    played.alive_ETN[1, 1:] = False
    training = training_of(replace(OPTIONS, episodes=4, held_out=0.5), played)
    found = training.held_out(FLOW)
    assert found["strangers"] == found["reconstruction"], "nobody lives at the same time"
    alone = training_of(replace(OPTIONS, episodes=4, held_out=0.0), lines(4))
    assert "strangers" not in alone.held_out(FLOW)


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
