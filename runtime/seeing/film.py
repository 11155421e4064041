"""An episode as a GIF or an MP4.

    Trace -> pictures, several for each step -> GIF (Pillow) | MP4 (imageio and its own ffmpeg)

A file is written beside its place and moved there when it is whole.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import UserError
from envs.scene import Map
from runtime.seeing.trace import Trace

GIF, MP4 = ".gif", ".mp4"
_NEEDS = {GIF: ("PIL",), MP4: ("PIL", "imageio", "imageio_ffmpeg")}
_LAST_S = 1.5
"""How long the end is shown."""
_COLOURS = 64
"""Of a GIF: fewer make it smaller, and pictures here have few."""
_SAMPLES = 6
"""Pictures from which a GIF's colours are chosen."""

Progress = Callable[[int], None]


class FilmError(UserError, ValueError):
    """A film cannot be made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast an episode is shown."""

    fps: int = 12
    """Pictures in a second."""
    speed: float = 4.0
    """Steps in a second."""

    @property
    def pictures_per_step(self) -> int:
        return max(round(self.fps / self.speed), 1)

    def number_of_pictures(self, steps: int) -> int:
        """Of a film, the end included."""
        return steps * self.pictures_per_step + round(_LAST_S * self.fps)


def require(suffix: str) -> None:
    """Look for what a kind of film is written with.

    Raises:
        FilmError: it is not installed, or there is no such kind.
    """
    if suffix not in _NEEDS:
        raise FilmError(f"no film ends with {suffix!r}: choose {GIF} or {MP4}")
    missing = [name for name in _NEEDS[suffix] if find_spec(name) is None]
    if missing:
        raise FilmError(
            f"a film {suffix} needs the package {missing[0].replace('_', '-')}, which is not "
            'installed: install it with pip install -e ".[render]" in the folder of Murmuration'
        )


def write_film(
    trace: Trace, out: Path, *, size: int, pace: Pace, progress: Progress | None = None
) -> None:
    """Draw an episode and write it.

    Args:
        out: ends with .gif or .mp4; a file that is there is replaced.
        size: width in pixels.
        progress: called with the number of pictures drawn.

    Raises:
        FilmError: as `require`.
        OSError: the file cannot be written.
    """
    require(out.suffix)
    pictures = _pictures(trace, size, pace, progress)
    with _whole(out) as scratch:
        if out.suffix == GIF:
            _write_gif(scratch, pictures, _palette(trace, size), pace.fps)
        else:
            _write_mp4(scratch, pictures, pace.fps)


def _pictures(trace: Trace, size: int, pace: Pace, progress: Progress | None) -> Iterator[Any]:
    from runtime.seeing.drawing import Painter

    painter, parts = Painter(trace, size), pace.pictures_per_step
    drawn = 0
    glides = isinstance(trace.scenes[0], Map)
    for moment in range(trace.steps):
        picture = painter.frame(moment)
        for part in range(parts):
            if part and glides:
                picture = painter.frame(moment, part / parts)
            yield picture
            drawn += 1
            if progress is not None:
                progress(drawn)
    last = painter.frame(trace.steps)
    for _ in range(pace.number_of_pictures(trace.steps) - drawn):
        yield last


def _palette(trace: Trace, size: int) -> Any:
    """Colours of some pictures from all over the film: one set for all, or the ground flickers."""
    from PIL import Image

    from runtime.seeing.drawing import Painter

    painter = Painter(trace, size)
    moments = np.linspace(0, trace.steps, _SAMPLES).astype(int).tolist()
    samples = np.concatenate([np.asarray(painter.frame(moment)) for moment in moments])
    return Image.fromarray(samples).quantize(_COLOURS)


def _write_gif(path: Path, pictures: Iterator[Any], palette: Any, fps: int) -> None:
    # By Pillow itself: imageio's own writer gives every picture colours of its own, which flicker
    # and take three times the room.
    flat = (picture.quantize(palette=palette, dither=0) for picture in pictures)
    first = next(flat)
    # A GIF counts hundredths of a second.
    duration_ms = max(round(100 / fps), 2) * 10
    first.save(
        path, format="GIF", save_all=True, append_images=flat, duration=duration_ms, loop=0,
        optimize=False,
    )  # fmt: skip


def _write_mp4(path: Path, pictures: Iterator[Any], fps: int) -> None:
    import imageio.v2 as imageio

    # Sides are even; with imageio's 16 the picture would be scaled.
    made: Any = imageio
    with made.get_writer(path, format="FFMPEG", fps=fps, macro_block_size=2) as writer:
        for picture in pictures:
            writer.append_data(np.asarray(picture))


@contextmanager
def _whole(out: Path) -> Generator[Path]:
    """Where to write what becomes `out` if all goes well."""
    scratch = out.with_name(f"{out.stem}.part{out.suffix}")
    try:
        yield scratch
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
