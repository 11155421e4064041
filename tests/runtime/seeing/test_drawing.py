"""Pictures show who is where, how healthy, and who talks to whom."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.scene import Map
from runtime.seeing import looks
from runtime.seeing.drawing import Painter
from runtime.seeing.trace import Trace
from tests.runtime.seeing.traces import battle, episode, relay

SIZE = 480


def pixels(trace: Trace, moment: int, onward: float = 0.0) -> NDArray[np.int64]:
    """[height, width, 3]"""
    return np.asarray(Painter(trace, SIZE).frame(moment, onward)).astype(np.int64)


def rgb(colour: str) -> NDArray[np.int64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def share_of(colour: str, picture: NDArray[np.int64]) -> float:
    """Of a picture, what is very nearly this colour."""
    return float((np.abs(picture - rgb(colour)).max(axis=-1) < 12).mean())


def cell_of(trace: Trace, moment: int, team: int, unit: int) -> NDArray[np.int64]:
    """The pixels of a unit."""
    scene = trace.scenes[moment]
    assert isinstance(scene, Map)
    side = SIZE / scene.width
    x, y = (scene.teams[team].positions_U2[unit] * side).round().astype(int)
    return pixels(trace, moment)[y : y + int(side), x : x + int(side)]


def silent(trace: Trace) -> Trace:
    """The same without an open edge."""
    return replace(trace, open_TNK=np.zeros_like(trace.open_TNK))


def test_both_teams_have_their_colours_and_losses_show() -> None:
    trace = battle()
    first, last = pixels(trace, 0), pixels(trace, trace.steps)
    assert share_of(looks.TEAMS[0], first) > 0.01
    assert share_of(looks.TEAMS[1], first) > 0.01
    assert share_of(looks.TEAMS[1], last) < 0.2 * share_of(looks.TEAMS[1], first)


def test_a_unit_is_as_full_as_it_is_healthy() -> None:
    trace = silent(battle())
    full = share_of(looks.TEAMS[1], cell_of(trace, 0, 1, 0))
    found = 0
    for moment, scene in enumerate(trace.scenes):
        assert isinstance(scene, Map)
        blue = scene.teams[1]
        for unit in np.flatnonzero(blue.alive_U & (blue.health_U < 0.6) & (blue.health_U > 0.2)):
            share = share_of(looks.TEAMS[1], cell_of(trace, moment, 1, int(unit)))
            assert share / full == pytest.approx(blue.health_U[unit], abs=0.15)
            found += 1
        if found > 5:
            break
    assert found


def test_an_open_edge_is_a_line_and_a_closed_one_is_none() -> None:
    trace = battle()
    with_edges, without = pixels(trace, 1), pixels(silent(trace), 1)
    changed = (with_edges != without).any(axis=-1)[:SIZE]  # the caption counts them as well
    assert changed.mean() > 0.01
    one = np.zeros_like(trace.open_TNK)
    one[1, 0, 2] = True
    single = replace(trace, open_TNK=one)
    rows, columns = np.nonzero((pixels(single, 1) != without).any(axis=-1)[:SIZE])
    places = looks.places(trace, 1)[[0, trace.offsets[2]]] * SIZE
    for axis, where in ((0, columns), (1, rows)):
        low, high = sorted(places[:, axis])
        assert low - 8 <= where.min()
        assert where.max() <= high + 8


def test_an_edge_is_broad_at_its_sender() -> None:
    trace = battle()
    one = np.zeros_like(trace.open_TNK)
    one[0, 0, 4] = True
    changed = (pixels(replace(trace, open_TNK=one), 0) != pixels(silent(trace), 0)).any(axis=-1)
    rows, columns = np.nonzero(changed[:SIZE])
    sender, receiver = looks.places(trace, 0)[[0, trace.offsets[4]]] * SIZE
    at = np.stack([columns, rows], axis=1)
    nearer = np.hypot(*(at - sender).T) < np.hypot(*(at - receiver).T)
    assert nearer.sum() > 1.3 * (~nearer).sum()


def test_units_glide_between_moments() -> None:
    trace = silent(battle())
    start, half, end = pixels(trace, 0), pixels(trace, 0, 0.5), pixels(trace, 1)
    assert (start != half).any()
    assert (half != end).any()
    assert share_of(looks.TEAMS[1], half) == pytest.approx(share_of(looks.TEAMS[1], start), rel=0.1)


def test_predators_are_drawn_larger_than_prey() -> None:
    trace = silent(episode("untrained", "adversarial-pursuit", 4, max_steps=2))
    scene = trace.scenes[0]
    assert isinstance(scene, Map)
    predators, prey = (share_of(colour, pixels(trace, 0)) for colour in looks.TEAMS[:2])
    per_unit = predators / len(scene.teams[0].alive_U), prey / len(scene.teams[1].alive_U)
    assert per_unit[0] > 3 * per_unit[1]
    assert share_of(looks.WALL, pixels(trace, 0)) > 0.05


def test_relay_shows_answers_in_their_colours() -> None:
    trace = relay()
    scene = trace.scenes[-1]
    assert not isinstance(scene, (Map, np.ndarray))
    assert scene is not None
    assert trace.won
    last = pixels(trace, trace.steps)
    right = looks.ANSWERS[scene.colour]
    assert share_of(right, last) > 0.02
    assert looks.standing(trace, trace.steps) == "16 of 16 agents name the right colour"
    wrong = np.full_like(trace.actions_TN, (scene.colour + 1) % scene.num_colours)
    assert share_of(right, pixels(replace(trace, actions_TN=wrong), trace.steps)) < share_of(
        right, last
    )


def test_a_frame_stands_beside_the_agents() -> None:
    options = {"env_options": "N=3,max_cycles=4"}
    trace = episode("untrained", "pettingzoo:mpe2.simple_spread_v3", None, **options)
    first, later = pixels(trace, 0), pixels(trace, 3)
    assert Painter(trace, SIZE).size == (first.shape[1], first.shape[0])
    left = slice(0, 230), slice(0, 240)
    assert (first[left] != later[left]).any()
    assert share_of(looks.TEAMS[0], first[:240, 240:]) > 0.01


def test_an_environment_without_a_picture_has_its_agents_on_a_circle() -> None:
    trace = episode("untrained", "tests.foreign_envs:Foreign", None)
    assert share_of(looks.TEAMS[0], pixels(trace, 0)) > 0.005


@pytest.mark.parametrize("size", [160, 333, 480, 1000])
@pytest.mark.parametrize("played", [battle, relay])
def test_every_picture_has_the_size_that_was_said_and_both_sides_are_even(
    size: int, played: Any
) -> None:
    trace = played()
    painter = Painter(trace, size)
    width, height = painter.size
    assert size - 2 < width <= size
    assert width % 2 == height % 2 == 0
    assert {painter.frame(moment).size for moment in (0, trace.steps)} == {(width, height)}


def test_captions_count_what_is_there() -> None:
    trace = battle()
    number = int(trace.open_TNK[2].sum())
    living = int(trace.alive_TN[2].sum())
    assert looks.title(trace) == "battle, 20 agents against scripted"
    assert looks.clock(trace, 2) == f"step 2 of {trace.steps}"
    assert looks.standing(trace, 0) == "red 20 of 20, blue 20 of 20"
    assert f"{number} open edges" in looks.traffic(trace, 2)
    assert f"{number * trace.message_bytes / living:.0f} message bytes" in looks.traffic(trace, 2)
    assert looks.traffic(trace, trace.steps).startswith("won, return")
