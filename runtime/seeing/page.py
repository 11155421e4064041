"""An episode as a page: one HTML file that plays it step by step, without a server or a network.

    Trace -> JSON (arrays as zlib in base64) -> page.html with page.css and the scripts put into it

Dimension key: T = steps, M = T + 1 moments, N = agents, U = units of all teams, D = observation
features, P = planes of an observation, K = edges of each direction.
"""

import base64
import html
import io
import json
import math
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import write_atomically
from configs.arrays import FloatArray
from envs.scene import Map, Ring
from runtime.seeing import looks
from runtime.seeing.film import FilmError
from runtime.seeing.trace import Trace

_HERE = Path(__file__).parent
_SCRIPTS = ("field.js", "panel.js", "page.js")
_MOST_OBSERVED = 40_000_000
"""Numbers of observations that a page holds; of a larger episode it shows none."""
_FRAME_WIDTH = 420
"""Pixels that a frame is made smaller to."""


def write_page(trace: Trace, out: Path) -> None:
    """Write the page; a file that is there is replaced.

    Raises:
        FilmError: the environment shows frames, and Pillow is not installed.
        OSError: the file cannot be written.
    """
    write_atomically(out, page(trace).encode())


def page(trace: Trace) -> str:
    """The whole file.

    Raises:
        FilmError: as `write_page`.
    """
    parts = {
        "TITLE": html.escape(looks.title(trace)),
        "STYLE": (_HERE / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        # Nothing within can end the element that holds it.
        "DATA": json.dumps(_data(trace), separators=(",", ":")).replace("<", "\\u003c"),
    }
    text = (_HERE / "page.html").read_text(encoding="utf-8")
    for name, content in parts.items():
        text = text.replace(f"@{name}@", content)
    return text


def _data(trace: Trace) -> dict[str, Any]:
    moments = range(trace.steps + 1)
    first = trace.scenes[0]
    sight = first.sight if isinstance(first, Map) else None
    observations_TND, scale = _observations(trace)
    arrays: dict[str, NDArray[Any] | None] = {
        "alive": np.array([looks.alive(trace, m) for m in moments], dtype=np.uint8),
        "open": trace.open_TNK.astype(np.uint8),
        "heard": trace.heard_TNK.astype(np.uint8),
        "rewards": trace.rewards_TN.astype(np.float32),
        "actions": trace.actions_TN.astype(
            np.float32 if trace.actions_TN.dtype.kind == "f" else np.int32
        ),
        "scores": None if trace.scores_TNK is None else _hundredths(trace.scores_TNK),
        "weights": (
            None if trace.weights_TNL is None
            else np.round(np.nan_to_num(trace.weights_TNL) * 255).astype(np.uint8)
        ),
        "observations": observations_TND,
        **_units(trace),
    }  # fmt: skip
    return {
        "title": looks.title(trace),
        "outcome": looks.outcome(trace),
        "steps": trace.steps,
        "agents": trace.num_agents,
        "offsets": trace.offsets,
        "messageBytes": trace.message_bytes,
        "moments": [
            [looks.clock(trace, m), looks.standing(trace, m), looks.traffic(trace, m)]
            for m in moments
        ],
        "map": _map(first) if isinstance(first, Map) else None,
        "ring": first._asdict() if isinstance(first, Ring) else None,
        "frames": _frames(trace),
        "sight": (
            None if sight is None
            else {
                "planes": sight.planes,
                **dict(zip(("rows", "columns"), _without(sight.shape, sight.axis), strict=True)),
            }
        ),
        "observationScale": scale,
        "colours": {
            "teams": looks.TEAMS, "answers": looks.ANSWERS, "edge": looks.EDGE,
            "ground": looks.GROUND, "wall": looks.WALL, "text": looks.TEXT,
            "hears": looks.HEARS, "says": looks.SAYS,
        },
        "arrays": {name: _packed(array) for name, array in arrays.items() if array is not None},
    }  # fmt: skip


def _map(scene: Map) -> dict[str, Any]:
    teams = [
        {
            "name": team.name,
            "size": len(team.alive_U),
            "body": team.body,
            "colour": looks.TEAMS[index % len(looks.TEAMS)],
        }
        for index, team in enumerate(scene.teams)
    ]
    walls = scene.walls_W2.tolist()
    return {"width": scene.width, "height": scene.height, "teams": teams, "walls": walls}


def _units(trace: Trace) -> dict[str, NDArray[Any]]:
    """[M, U, 2] positions and [M, U] health in 255ths, teams one after the other."""
    maps = [scene for scene in trace.scenes if isinstance(scene, Map)]
    if not maps:
        return {}
    positions = [np.concatenate([team.positions_U2 for team in scene.teams]) for scene in maps]
    health = [np.concatenate([team.health_U for team in scene.teams]) for scene in maps]
    return {
        "positions": np.array(positions, dtype=np.int16),
        "health": np.round(np.array(health).clip(0.0, 1.0) * 255).astype(np.uint8),
    }


def _observations(trace: Trace) -> tuple[NDArray[np.int8] | None, float]:
    """[T, N, D] in 127ths of the second number, plane by plane where there are planes."""
    seen = trace.observations_TND
    if not 0 < seen.size <= _MOST_OBSERVED:
        return None, 1.0
    values = np.nan_to_num(seen.astype(np.float32))
    largest = float(np.abs(values).max()) or 1.0
    first = trace.scenes[0]
    if isinstance(first, Map) and first.sight is not None:
        shape, axis = first.sight.shape, first.sight.axis
        # What may follow, such as a position, is not part of the window.
        planes = values[..., : math.prod(shape)].reshape(*values.shape[:2], *shape)
        values = np.moveaxis(planes, 2 + axis, 2).reshape(*values.shape[:2], -1)
    return np.round(values / largest * 127).astype(np.int8), largest / 127


def _frames(trace: Trace) -> list[str] | None:
    """PNG pictures as addresses that hold them."""
    frames = [scene for scene in trace.scenes if isinstance(scene, np.ndarray)]
    if not frames:
        return None
    if find_spec("PIL") is None:
        raise FilmError(
            f"a page of {trace.env} needs the package pillow, which is not installed: install it "
            'with pip install -e ".[render]" in the folder of Murmuration'
        )
    from PIL import Image

    addresses: list[str] = []
    for frame in frames:
        picture = Image.fromarray(frame)
        picture.thumbnail((_FRAME_WIDTH, _FRAME_WIDTH))
        file = io.BytesIO()
        picture.quantize(128).save(file, "PNG", optimize=True)
        addresses.append(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")
    return addresses


def _hundredths(scores: FloatArray) -> NDArray[np.int16]:
    return np.round(np.nan_to_num(scores) * 100).clip(-32_000, 32_000).astype(np.int16)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    data = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode()
    return {"type": array.dtype.name, "shape": array.shape, "data": data}
