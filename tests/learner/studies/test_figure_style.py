"""Pictures: names that can be read, colours that can be told apart, one style."""

import itertools
import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from learner.studies import gate_curve
from learner.studies.figure_style import (
    COLOURS,
    MARKERS,
    apart,
    canvas,
    draw_curve,
    label_ends,
    label_points,
    label_steps,
    standard_error,
)
from learner.studies.mast_plot import draw_reached
from learner.studies.study import names, read_study

PROJECT = Path(__file__).parents[3]

Box = tuple[float, float, float, float]


def boxes_of_names(axes: Any) -> dict[str, Box]:
    """Where the names in a panel stand, in pixels."""
    renderer = axes.figure.canvas.get_renderer()
    boxes: dict[str, Box] = {}
    for text in axes.texts:
        text_alone = cast("Any", super(type(text), text))  # without the leader
        extent = text_alone.get_window_extent(renderer)
        boxes[text.get_text()] = (extent.x0, extent.y0, extent.x1, extent.y1)
    return boxes


def overlapping(boxes: dict[str, Box]) -> list[tuple[str, str]]:
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes.items(), 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


GATE = {  # docs/results/gate.md: bytes, accuracy
    "unpriced": (596, 1.0),
    "unpriced, budget 2": (336, 0.747),
    "unpriced, budget 1": (205, 0.528),
    "priced": (205, 1.0),
    "priced, budget 2": (182, 1.0),
    "priced, budget 1": (139, 0.622),
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The panels of the next picture of gate_curve, which stay open."""
    kept: list[Any] = []

    def keep(axes: Any, labels: Any) -> None:
        label_points(axes, labels)
        kept.append((axes, boxes_of_names(axes), axes.get_window_extent()))

    monkeypatch.setattr(gate_curve, "label_points", keep)
    return kept


def test_names_of_gate_points_stand_apart_and_within_the_axes(
    tmp_path: Path, drawn: list[Any]
) -> None:
    files: list[str] = []
    for name, (size, reached) in GATE.items():
        path = tmp_path / f"{name}.json"
        figures = {
            "env_copies": 1,
            "evaluation_episodes": 512,
            "return_mean": reached,
            "return_error": 0.01,
        }
        figures |= {"open_share": 0.5, "out_degree_mean": 2, "edge_bytes_per_agent_step": size}
        path.write_text(json.dumps(figures))
        files.append(str(path))
    assert gate_curve.main([*files, "--out", str(tmp_path / "gate.png")]) == 0
    ((axes, boxes, frame),) = drawn
    assert boxes.keys() == GATE.keys()
    assert overlapping(boxes) == []
    for name, box in boxes.items():
        assert frame.x0 <= box[0], name
        assert box[2] <= frame.x1, name
        assert frame.y0 <= box[1], name
        assert box[3] <= frame.y1, name
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for size, reached in GATE.values():
        assert left < size < right
        assert bottom < reached < top


def test_names_of_curves_that_end_together_stand_apart(tmp_path: Path) -> None:
    ends = [(f"method {index}", 1.0 - 0.001 * index) for index in range(7)]
    with canvas(tmp_path / "curves.png") as (axes,):
        for index, (_, last) in enumerate(ends):
            draw_curve(axes, [0.0, 1.0], [0.0, last], [0.0, 0.1], index)
        axes.figure.canvas.draw()
        label_ends(axes, ends)
        axes.figure.canvas.draw()
        boxes = boxes_of_names(axes)
        frame = axes.get_window_extent()
        assert len(boxes) == 7
        assert overlapping(boxes) == []
        assert all(frame.y0 - 8 <= box[1] and box[3] <= frame.y1 + 8 for box in boxes.values())
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_steps_of_a_narrow_panel_stand_apart(tmp_path: Path) -> None:
    with canvas(tmp_path / "curves.png", columns=3, size=(2.0, 2.9)) as panels:
        for axes in panels:
            draw_curve(axes, [0.0, 160_000.0], [0.0, 1.0], [0.0, 0.0], 0)
            label_steps(axes)
        panels[0].figure.canvas.draw()
        names = [label for label in panels[0].get_xticklabels() if label.get_text()]
        boxes = {name.get_text(): name.get_window_extent().extents for name in names}
        assert overlapping(boxes) == []
        assert "50k" in boxes


def test_places_keep_their_order_and_distance_and_move_no_further_than_needed() -> None:
    assert apart([10.0, 50.0], 8.0, 0.0, 100.0) == [10.0, 50.0]
    assert apart([10.0, 12.0, 13.0], 8.0, 0.0, 100.0) == [10.0, 18.0, 26.0]
    assert apart([98.0, 99.0], 8.0, 0.0, 100.0) == [92.0, 100.0]


def test_every_arm_of_the_largest_study_has_a_colour_and_a_marker_of_its_own() -> None:
    most = max(len(read_study(name).arms) for name in names())
    assert len(set(COLOURS)) == len(COLOURS) >= most
    assert len(set(MARKERS)) == len(MARKERS) >= most


def test_one_seed_has_no_error_and_three_have_that_of_their_mean() -> None:
    assert standard_error([[0.2, 0.4]]).tolist() == [0.0, 0.0]
    assert float(standard_error([0.0, 1.0, 2.0])) == pytest.approx(1.0 / np.sqrt(3.0))


def test_seeds_are_drawn_for_each_opponent(tmp_path: Path) -> None:
    out = tmp_path / "seeds.png"
    methods = {"dense": [0.5, 1.0, 0.9], "rlx2": [1.0], "mast@0.95": [0.3, 0.3]}
    draw_reached({"scripted": methods, "idqn": methods}, "win rate", out)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_all_pictures_have_this_style() -> None:
    """What imports matplotlib by itself does not look like the others."""
    importing = re.compile(r"^\s*(import|from) matplotlib", re.MULTILINE)
    folders = ("agents", "configs", "envs", "learner", "runtime", "tests")
    found = [
        path.relative_to(PROJECT).as_posix()
        for folder in folders
        for path in (PROJECT / folder).rglob("*.py")
        if importing.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["learner/studies/figure_style.py"]
