"""The random policy takes no gradient steps."""

from numpy.testing import assert_array_equal

from configs.schema import LearnerConfig
from learner.learner import Learner
from tests.learner_helpers import DIMENSIONS, make_config, make_episode, make_flat, make_spec


def test_no_update_is_owed_and_episodes_count() -> None:
    spec = make_spec()
    settings = LearnerConfig(device="cpu", algorithm="random", learning_starts=1)
    learner = Learner(make_config(learner=settings), spec, DIMENSIONS, make_flat(spec))
    before = learner.parameters_flat()
    for number in range(3):
        learner.add(make_episode(number))
    assert learner.updates_owed == 0
    assert learner.progress.episodes == 3
    assert_array_equal(learner.parameters_flat(), before)
