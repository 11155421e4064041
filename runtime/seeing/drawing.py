"""A moment of an episode as a picture: the swarm, the health of each unit, the edges that are open.

    Trace, moment, share of the way to the next -> Painter.frame -> image

A unit is as full as it is healthy. An edge is a wedge: broad at its sender, a point at its
receiver. Everything is drawn at twice the size and made smaller, which smooths it.

Dimension key: N = agents, U = units of a team, K = edges of each direction.
"""

from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from envs.scene import NOWHERE, Map, Ring, Team
from runtime.seeing import looks
from runtime.seeing.trace import Trace

_FINER = 2
"""Drawn so many times as large."""
_MOST_OPAQUE, _LEAST_OPAQUE = 150, 50
"""Of an edge, of 255: where many are open each is fainter."""

Points = NDArray[np.float64]


class Painter:
    """Draws the moments of one trace, all of the same size."""

    def __init__(self, trace: Trace, size: int) -> None:
        """
        Args:
            size: width of a picture in pixels; its height follows.
        """
        self._trace = trace
        self._unit = max(size / 480.0, 0.5) * _FINER
        """Pixels of the drawing for one at 480 wide."""
        self._margin = round(8 * self._unit)
        self._wide = size * _FINER
        self._foot = round(46 * self._unit)
        """Height of the caption."""
        frames = [scene for scene in trace.scenes if isinstance(scene, np.ndarray)]
        self._shows_both = bool(frames)
        """A frame of the environment's own, and beside it who talks to whom."""
        self._field = self._wide if not self._shows_both else self._wide // 2
        """Pixels along each side of the square with agents and edges."""
        self._frame_high = self._field
        if frames:
            high, wide = frames[0].shape[:2]
            self._frame_high = max(self._field, round(high / wide * self._field))
        # Films want even numbers.
        self._high = (self._frame_high + self._foot) // (2 * _FINER) * (2 * _FINER)
        self._wide = self._wide // (2 * _FINER) * (2 * _FINER)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every picture, both even."""
        return self._wide // _FINER, self._high // _FINER

    def frame(self, moment: int, onward: float = 0.0) -> Image.Image:
        """Draw one moment.

        Args:
            moment: of `Trace.scenes`; its edges are those of the step that follows.
            onward: share of the way that units have gone to the next moment, in [0, 1).
        """
        image = Image.new("RGB", (self._wide, self._high), "white")
        draw = ImageDraw.Draw(image, "RGBA")
        scene = self._trace.scenes[moment]
        if isinstance(scene, Map):
            self._paint_map(draw, scene, moment, onward)
        else:
            left = 0
            if isinstance(scene, np.ndarray):
                left = self._field
                height = round(scene.shape[0] / scene.shape[1] * self._field)
                picture = Image.fromarray(scene).resize((self._field, height))
                image.paste(picture, (0, (self._frame_high - height) // 2))
            self._paint_circle(draw, scene if isinstance(scene, Ring) else None, moment, left)
        self._paint_caption(draw, moment)
        return image.reduce(_FINER)

    # --- on a map ---------------------------------------------------------------------------------

    def _paint_map(self, draw: ImageDraw.ImageDraw, scene: Map, moment: int, onward: float) -> None:
        cell = self._field / max(scene.width, scene.height)
        draw.rectangle((0, 0, scene.width * cell, scene.height * cell), fill=looks.GROUND)
        for x, y in scene.walls_W2.tolist():
            draw.rectangle(
                (x * cell, y * cell, (x + 1) * cell - 1, (y + 1) * cell - 1), fill=looks.WALL
            )
        after = self._trace.scenes[min(moment + 1, self._trace.steps)]
        assert isinstance(after, Map)
        for index, (team, then) in enumerate(zip(scene.teams, after.teams, strict=True)):
            self._paint_graves(draw, index, moment, cell)
            self._paint_team(draw, index, team, then, onward, cell)
        team = scene.teams[0]
        centres_N2 = (_between(team, after.teams[0], onward) + team.body / 2) * cell
        self._paint_edges(draw, centres_N2, moment, 0.42 * cell * team.body)

    def _paint_team(
        self,
        draw: ImageDraw.ImageDraw,
        index: int,
        team: Team,
        then: Team,
        onward: float,
        cell: float,
    ) -> None:
        colour = looks.TEAMS[index % len(looks.TEAMS)]
        size, gap = cell * team.body, max(cell * 0.06, 1.0)
        corners_U2 = _between(team, then, onward) * cell
        health_U = team.health_U + (then.health_U - team.health_U) * onward
        for unit in np.flatnonzero(team.alive_U).tolist():
            x, y = corners_U2[unit].tolist()
            fades = 1.0 if then.alive_U[unit] else 1.0 - onward
            box = (x + gap, y + gap, x + size - gap, y + size - gap)
            draw.rectangle(box, fill=_shade(colour, 70 * fades))
            full = (size - 2 * gap) * float(np.clip(health_U[unit], 0.0, 1.0))
            draw.rectangle(
                (box[0], box[3] - full, box[2], box[3]), fill=_shade(colour, 255 * fades)
            )

    def _paint_graves(
        self, draw: ImageDraw.ImageDraw, index: int, moment: int, cell: float
    ) -> None:
        """A small cross where a unit has fallen."""
        colour = _shade(looks.TEAMS[index % len(looks.TEAMS)], 90)
        for x, y in self._graves[moment][index]:
            centre_x, centre_y, arm = (x + 0.5) * cell, (y + 0.5) * cell, 0.2 * cell
            for sign in (-1, 1):
                draw.line(
                    (centre_x - arm, centre_y - sign * arm, centre_x + arm, centre_y + sign * arm),
                    fill=colour,
                    width=max(round(0.08 * cell), 1),
                )

    @cached_property
    def _graves(self) -> list[list[list[tuple[int, int]]]]:
        """By moment and team, where units have fallen until then."""
        maps = [scene for scene in self._trace.scenes if isinstance(scene, Map)]
        fallen: list[list[tuple[int, int]]] = [[] for _ in maps[0].teams]
        by_moment = [[list(places) for places in fallen]]
        for before, after in pairwise(maps):
            for places, team, then in zip(fallen, before.teams, after.teams, strict=True):
                died_U = team.alive_U & ~then.alive_U
                places += [(x, y) for x, y in team.positions_U2[died_U].tolist()]
            by_moment.append([list(places) for places in fallen])
        return by_moment

    # --- on a circle ------------------------------------------------------------------------------

    def _paint_circle(
        self, draw: ImageDraw.ImageDraw, ring: Ring | None, moment: int, left: int
    ) -> None:
        trace = self._trace
        top = (self._frame_high - self._field) // 2
        draw.rectangle((left, 0, left + self._field, self._frame_high), fill=looks.GROUND)
        centres_N2 = looks.places(trace, moment) * self._field + [left, top]
        spacing = 0.8 * np.pi * self._field / trace.num_agents
        radius = min(0.04 * self._field, 0.36 * spacing)
        self._paint_edges(draw, centres_N2, moment, radius)
        living_N = looks.alive(trace, moment)
        answers = looks.answers(trace, moment) if ring is not None else None
        for agent in range(trace.num_agents):
            colour = looks.TEAMS[0]
            if ring is not None and answers is not None:
                colour = looks.ANSWERS[int(answers[agent]) % len(looks.ANSWERS)]
                right = int(answers[agent]) == ring.colour
            else:
                right = bool(living_N[agent])
            x, y = centres_N2[agent].tolist()
            _dot(draw, x, y, radius, "white", None, 0)
            _dot(draw, x, y, radius, colour if right else _shade(colour, 60), colour, self._unit)
            if ring is not None and agent == ring.source:
                _dot(draw, x, y, 0.4 * radius, looks.TEXT, "white", self._unit * 2)
        if ring is not None:
            x, y = left + self._field / 2, top + self._field / 2
            mark = looks.ANSWERS[ring.colour % len(looks.ANSWERS)]
            _dot(draw, x, y, 0.05 * self._field, mark, "white", self._unit * 3)

    # --- edges and words --------------------------------------------------------------------------

    def _paint_edges(
        self, draw: ImageDraw.ImageDraw, centres_N2: Points, moment: int, radius: float
    ) -> None:
        """From sender to receiver, the rims of both left free."""
        trace = self._trace
        if moment >= trace.steps:
            return
        living_N = looks.alive(trace, moment)
        open_NK = trace.open_TNK[moment] & living_N[:, None]
        number = int(open_NK.sum())
        opaque = round(np.clip(9000 / max(number, 1), _LEAST_OPAQUE, _MOST_OPAQUE))
        fill = _shade(looks.EDGE, opaque)
        half = 1.5 * self._unit
        for sender, k in np.argwhere(open_NK).tolist():
            receiver = (sender + trace.offsets[k]) % trace.num_agents
            if not living_N[receiver]:
                continue
            way_2 = centres_N2[receiver] - centres_N2[sender]
            length = float(np.hypot(*way_2))
            if length < 2 * radius:
                continue
            ahead_2 = way_2 / length
            begin, end = (
                centres_N2[sender] + ahead_2 * radius,
                centres_N2[receiver] - ahead_2 * radius,
            )
            # All of it to the left, so that two opposite edges show.
            aside_2 = np.array([ahead_2[1], -ahead_2[0]]) * 2 * half
            corners = [tuple(begin), tuple(begin + aside_2), tuple(end)]
            draw.polygon(corners, fill=fill)

    def _paint_caption(self, draw: ImageDraw.ImageDraw, moment: int) -> None:
        trace, top = self._trace, self._high - self._foot
        draw.rectangle((0, top, self._wide, self._high), fill="white")
        first, second = top + 5 * self._unit, top + 24 * self._unit
        left, right = self._margin, self._wide - self._margin
        draw.text((left, first), looks.title(trace), fill=looks.TEXT, font=self._font)
        draw.text(
            (right, first),
            looks.clock(trace, moment),
            fill=looks.TEXT,
            font=self._font,
            anchor="ra",
        )
        draw.text((left, second), looks.standing(trace, moment), fill=looks.FAINT, font=self._font)
        draw.text(
            (right, second),
            looks.traffic(trace, moment),
            fill=looks.FAINT,
            font=self._font,
            anchor="ra",
        )

    @cached_property
    def _font(self) -> Any:
        """Letters with which the longest line of any moment fits."""
        most = self._wide - 2 * self._margin
        letters = 13.0 * self._unit
        font: Any = ImageFont.load_default(letters)
        trace, lines = self._trace, list[str]()
        for moment in range(trace.steps + 1):
            lines.append(f"{looks.title(trace)}    {looks.clock(trace, moment)}")
            lines.append(f"{looks.standing(trace, moment)}    {looks.traffic(trace, moment)}")
        longest = max(float(font.getlength(line)) for line in lines)
        return ImageFont.load_default(letters * min(1.0, most / longest))


def _between(team: Team, then: Team, onward: float) -> Points:
    """[U, 2] where units are on their way; those who fall stay where they were."""
    stays_U1 = (then.positions_U2 == NOWHERE).any(axis=1, keepdims=True)
    target_U2 = np.where(stays_U1, team.positions_U2, then.positions_U2)
    return team.positions_U2 + (target_U2 - team.positions_U2) * onward


def _dot(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    radius: float,
    fill: Any,
    outline: Any,
    width: float,
) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(box, fill=fill, outline=outline, width=max(round(width), 1))


def _shade(colour: str, opaque: float) -> tuple[int, int, int, int]:
    """A colour that lets through what is below it; `opaque` of 255."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue, round(opaque)
