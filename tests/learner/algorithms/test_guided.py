"""Guides in real worlds: on policy to rounding, and each loss against its formula by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from agents.carry import carry_dim
from configs.columns import GUIDE_LOG_PROB
from configs.schema import EvaluationConfig, LearnerConfig
from envs.base import Env
from envs.copies import Copies
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner
from learner.guides.acting import MEMORY
from learner.learner import Learner
from runtime.net import wire
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers
from tests.agents_helpers import make_flat, make_spec
from tests.learner_helpers import make_config
from tests.piece_run import COLUMNS, make_piece_run
from tests.rich_env import RichEnv
from tests.uneven_env import UnevenEnv

COPIES = 3
EPISODES = 6
OPTIONS = f"episodes={EPISODES},minibatches=1,size=16,heads=2"
ALGORITHMS = {"sable": "", "mat": "", "magpo": "", "ctds": ",guide=mat"}


def shake(learner: Learner) -> None:
    """Draw the guide's parameters: as it begins, it says the same of everything."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in learner.online["guide"].parameters():
            parameter.normal_(0.0, 0.5, generator=generator)


class Stage:
    """A world, its agents, and a learner whose guide the world asks."""

    def __init__(self, algorithm: str, extra: str = "", *, envs: list[Env] | None = None) -> None:
        envs = envs or [RichEnv(masks=True, away={2: [1, 4], 3: [1]}) for _ in range(COPIES)]
        task = envs[0].spec
        spec = make_spec(observation_dim=task.observation_dim, num_actions=task.num_actions)
        rules = agents_helpers.make_rules(num_agents=task.num_agents, spec=spec, ships="all")
        rules = replace(
            rules,
            copies=len(envs),
            columns=(),
            comes_back=task.comes_back,
            acting="sample",
        )
        always = algorithm in ("sable", "mat")
        world = replace(
            world_helpers.make_rules(train_steps=1000, max_backlog=10**6),
            columns=(GUIDE_LOG_PROB.name,),
            asks="always" if always else "training",
        )
        flat = make_flat(spec, score_bias=-1.5)
        self.run = SerialRun(Copies(envs, 0), rules, flat, world)
        settings = LearnerConfig(
            device="cpu",
            algorithm=algorithm,
            options=OPTIONS + ALGORITHMS[algorithm] + extra,
            gamma=0.9,
        )
        config = make_config(learner=settings)
        config = replace(
            config,
            num_agents=task.num_agents,
            env=replace(config.env, copies=len(envs)),
            network=replace(config.network, hidden=spec.hidden, message=spec.message),
        )
        sizes = Dimensions.of(task, (GUIDE_LOG_PROB,))
        self.learner = Learner(config, spec, sizes, self.run.parameters.flat)
        shake(self.learner)
        self.questions: list[wire.GuideQuestion] = []
        self.run.ask = self.answer

    def answer(self, question: wire.GuideQuestion) -> wire.GuideAnswer:
        self.questions.append(question)
        return self.learner.guide(question)

    def episodes(self, count: int = EPISODES) -> list[Episode]:
        """The first that are whole."""
        joiner = EpisodeJoiner(self.learner.dimensions)
        found: list[Episode] = []
        while len(found) < count:
            self.run.tick()
            for packet in (*self.run.trajectories, *self.run.records):
                episode = joiner.add(packet)
                if episode is not None:
                    found.append(episode)
            self.run.trajectories.clear()
            self.run.records.clear()
        assert not joiner.dropped_packets
        return found[:count]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_minibatch_is_on_policy_to_rounding(algorithm: str) -> None:
    stage = Stage(algorithm)
    for episode in stage.episodes():
        assert (episode.columns[GUIDE_LOG_PROB.name][episode.alive[:-1]] < -1e-3).all()
        stage.learner.add(episode)
    metrics = stage.learner.update()
    assert abs(metrics["policy_moved"]) < 1e-6
    assert metrics["entropy"] > 0.1


@pytest.mark.parametrize("algorithm", ["sable", "magpo"])
def test_with_a_guide_that_has_moved_it_would_not_be(algorithm: str) -> None:
    stage = Stage(algorithm)
    episodes = stage.episodes()
    with torch.no_grad():
        for parameter in stage.learner.online["guide"].parameters():
            parameter.mul_(0.9)
    for episode in episodes:
        stage.learner.add(episode)
    assert stage.learner.update()["policy_moved"] > 1e-4


def test_what_is_played_is_what_the_guide_says_and_nothing_that_is_forbidden() -> None:
    stage = Stage("sable")
    told: list[wire.GuideAnswer] = []
    answer = stage.answer
    stage.run.ask = lambda question: told.append(answer(question)) or told[-1]  # type: ignore[func-returns-value]  # append says nothing
    episodes = stage.episodes(COPIES)
    for copy, episode in enumerate(episodes[:COPIES]):
        alive_TN = episode.alive[:-1]
        said = np.array([a.actions[copy] for a in told[: episode.length]])
        assert_allclose(episode.actions[alive_TN], said[alive_TN])
        allowed = np.take_along_axis(
            episode.columns["action_mask"][:-1], episode.actions[..., None].astype(int), -1
        )
        assert allowed[..., 0][alive_TN].all()


def test_a_question_that_comes_twice_is_answered_alike_and_remembered_once() -> None:
    stage = Stage("sable")
    stage.run.tick()
    (question,) = stage.questions
    first, again = (stage.learner.guide(question) for _ in range(2))
    assert first is again
    stage.episodes(1)


def test_a_learner_that_begins_within_an_episode_does_not_learn_from_it() -> None:
    stage = Stage("sable")
    stage.run.tick()
    other = Stage("sable")
    stage.run.ask = other.learner.guide
    episodes = stage.episodes(COPIES + 1)
    for episode in episodes:
        other.learner.add(episode)
    assert other.learner.progress.episodes == COPIES + 1
    assert len(other.learner.replay) == 1, "the first episodes were begun with another learner"


def evaluated(algorithm: str, *, sampled: bool = False) -> tuple[Stage, list[wire.GuideAnswer]]:
    stage = Stage(algorithm)
    stage.learner = _with_sampled(stage, sampled=sampled)
    told: list[wire.GuideAnswer] = []

    def ask(question: wire.GuideQuestion) -> wire.GuideAnswer:
        told.append(stage.learner.guide(question))
        return told[-1]

    stage.run.ask = ask
    stage.run.evaluate(COPIES)
    return stage, told


def _with_sampled(stage: Stage, *, sampled: bool) -> Learner:
    learner: Any = stage.learner
    run = replace(
        learner._run, evaluation=EvaluationConfig(sampled=sampled)
    )  # its own configuration
    return Learner(run, learner.spec, learner.dimensions, stage.run.parameters.flat)


def test_agents_that_a_guider_has_taught_are_evaluated_alone() -> None:
    assert evaluated("magpo")[1] == []


def test_a_guide_that_has_no_pupils_plays_evaluations_by_its_likeliest_actions() -> None:
    _, told = evaluated("sable")
    assert told
    _, again = evaluated("sable")
    for one, other in zip(told, again, strict=True):
        assert (one.actions == other.actions).all()
    _, drawn = evaluated("sable", sampled=True)
    pairs = zip(told, drawn, strict=False)
    assert any((one.actions != other.actions).any() for one, other in pairs)


def test_gradients_of_the_guiders_terms_stay_with_the_guider_and_the_pupils_with_theirs() -> None:
    stage = Stage("magpo", ",improve=0,follow=0")
    for episode in stage.episodes():
        stage.learner.add(episode)
    stage.learner.compute_gradient()
    by_policy = [p.grad for p in stage.learner.online["policy"].parameters() if p.grad is not None]
    assert all((gradient == 0.0).all() for gradient in by_policy)
    by_guide = [p.grad for p in stage.learner.online["guide"].parameters()]
    assert any(g is not None and bool((g != 0.0).any()) for g in by_guide)


def test_what_agents_know_is_left_to_them_where_the_guide_is_not_asked() -> None:
    one, other = Stage("magpo"), Stage("magpo")
    other.learner.online["guide"].load_state_dict(one.learner.online["guide"].state_dict())
    for a, b in zip(one.episodes(2), other.episodes(2), strict=True):
        assert_allclose(a.observations.astype(np.float32), b.observations.astype(np.float32))
        assert torch.equal(
            torch.tensor(a.columns["gates"].astype(np.int64)),
            torch.tensor(b.columns["gates"].astype(np.int64)),
        )


# --- rollouts of fixed length ---------------------------------------------------------------------

STEPS, ROLLOUTS = 5, 6
PIECE_COLUMNS = (*COLUMNS, GUIDE_LOG_PROB)


def pieces_of(algorithm: str, *, late: int = 0) -> tuple[Learner, list[Episode]]:
    """A learner, and the pieces in which its guide has played episodes of uneven lengths.

    Args:
        late: ticks that another learner's guide plays before.
    """
    run = make_piece_run(
        [UnevenEnv() for _ in range(COPIES)],
        STEPS,
        ROLLOUTS,
        more=(GUIDE_LOG_PROB,),
        asks="always" if algorithm in ("sable", "mat") else "training",
    )
    spec = run.rules.spec
    remembered = carry_dim(spec, run.rules.graph.num_edges)
    sizes = Dimensions.of(run.copies.spec, PIECE_COLUMNS, remembered)
    options = f"{OPTIONS},rollout_steps={STEPS},epochs=1{ALGORITHMS[algorithm]}"
    settings = LearnerConfig(device="cpu", algorithm=algorithm, options=options, gamma=0.9)
    config = make_config(learner=settings)
    config = replace(
        config,
        num_agents=run.rules.num_agents,
        env=replace(config.env, copies=COPIES),
        network=replace(config.network, hidden=8, message=8, attention=3, beacon=6, scorer=9),
    )

    def make_learner() -> Learner:
        learner = Learner(config, spec, sizes, run.parameters.flat)
        shake(learner)
        return learner

    learner, first = make_learner(), make_learner()
    run.ask = first.guide if late else learner.guide
    while run.is_playing:
        if not run.world.may_tick:
            run.world.learner.progress(updates_owed=0.0, episodes_taken=len(run.records))
        run.tick()
        if run.world.tick == late:
            run.ask = learner.guide
    run.farewell()
    joiner = EpisodeJoiner(sizes)
    found = [joiner.add(packet) for packet in (*run.trajectories, *run.records)]
    return learner, [episode for episode in found if episode is not None]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rollouts_that_cut_episodes_are_on_policy_to_rounding(algorithm: str) -> None:
    learner, pieces = pieces_of(algorithm)
    assert sum(piece.piece.start > 0 for piece in pieces) > ROLLOUTS, "many cuts"
    for piece in pieces:
        learner.add(piece)
    assert learner.updates_owed == 1
    for _ in range(ROLLOUTS):
        assert abs(learner.compute_gradient()["policy_moved"]) < 1e-6
        learner.progress.gradient_steps += 1
        learner.replay.stepped()  # without the step that would move the policy


def test_without_what_the_guide_remembered_they_would_not_be() -> None:
    learner, pieces = pieces_of("sable")
    for piece in pieces:
        learner.add(piece)
    for episode in learner.replay._episodes:  # pyright: ignore[reportPrivateUsage]  # to look inside
        episode.columns[MEMORY.name][:] = 0.0
    learner.compute_gradient()
    learner.replay.stepped()
    assert learner.compute_gradient()["policy_moved"] > 1e-4


def test_pieces_that_go_on_with_what_another_learner_began_are_left_out_and_hold_nothing_up() -> (
    None
):
    learner, pieces = pieces_of("sable", late=2)
    for piece in pieces:
        learner.add(piece)
    first = min(piece.piece.rollout for piece in pieces)
    kept = [episode.piece for episode in learner.replay._episodes]  # pyright: ignore[reportPrivateUsage]
    assert len(kept) < len(pieces)
    assert all(piece.start == 0 for piece in kept if piece.rollout == first)
    assert learner.updates_owed == 1
