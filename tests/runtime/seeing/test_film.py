"""Films have as many pictures as their pace says, of the size that was asked for."""

import subprocess
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from runtime.seeing import film
from runtime.seeing.drawing import Painter
from runtime.seeing.film import FilmError, Pace, write_film
from tests.runtime.seeing.traces import battle, episode, relay

PACE = Pace(fps=10, speed=5.0)


def duration_s(path: Path) -> float:
    """Of a GIF; pictures that are alike are one, shown for longer."""
    with Image.open(path) as gif:
        frames: int = getattr(gif, "n_frames", 1)
        total = 0
        for number in range(frames):
            gif.seek(number)
            total += gif.info["duration"]
    return total / 1000


def decoded(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """[pictures, height, width, 3] of an MP4, by ffmpeg itself."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    return np.frombuffer(done.stdout, dtype=np.uint8).reshape(-1, height, width, 3)


@pytest.mark.parametrize("played", [battle, relay])
def test_a_gif_lasts_as_long_as_its_pace_says(played: Any, tmp_path: Path) -> None:
    trace, out = played(), tmp_path / "episode.gif"
    drawn: list[int] = []
    write_film(trace, out, size=240, pace=PACE, progress=drawn.append)
    pictures = PACE.number_of_pictures(trace.steps)
    assert PACE.pictures_per_step == 2
    assert pictures == 2 * trace.steps + 15
    assert drawn == list(range(1, 2 * trace.steps + 1))
    assert duration_s(out) == pytest.approx(pictures / 10)
    with Image.open(out) as gif:
        assert gif.size == Painter(trace, 240).size
        assert gif.info["loop"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["episode.gif"]


def test_a_gif_shows_the_pictures_in_their_order(tmp_path: Path) -> None:
    trace, out = battle(), tmp_path / "episode.gif"
    write_film(trace, out, size=240, pace=Pace(fps=10, speed=10.0))
    read: Any = iio
    frames = read.imread(out, plugin="pillow", mode="RGB").astype(int)
    painter = Painter(trace, 240)
    for moment in (0, 5, trace.steps):
        drawn = np.asarray(painter.frame(moment)).astype(int)
        apart = [np.abs(frame - drawn).mean() for frame in frames]
        assert int(np.argmin(apart)) == min(moment, len(frames) - 1)
        assert min(apart) < 3.0, "its colours are those that were drawn"


def test_an_mp4_has_every_picture(tmp_path: Path) -> None:
    trace, out = relay(), tmp_path / "episode.mp4"
    write_film(trace, out, size=250, pace=PACE)
    width, height = Painter(trace, 250).size
    frames = decoded(out, width, height)
    assert frames.shape == (PACE.number_of_pictures(trace.steps), height, width, 3)
    drawn = np.asarray(Painter(trace, 250).frame(trace.steps)).astype(int)
    assert np.abs(frames[-1].astype(int) - drawn).mean() < 6.0


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "episode.gif"
    out.write_bytes(b"before")

    def fails(self: Painter, moment: int, onward: float = 0.0) -> Image.Image:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Painter, "frame", fails)
        with pytest.raises(OSError, match="No space"):
            write_film(relay(), out, size=240, pace=PACE)
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["episode.gif"]
    write_film(relay(), out, size=240, pace=PACE)
    assert out.read_bytes() != b"before"


@pytest.mark.parametrize(("suffix", "missing"), [(".gif", "PIL"), (".mp4", "imageio_ffmpeg")])
def test_a_missing_package_is_named_with_its_extra(
    suffix: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> object | None:
        return None if name == missing else object()

    monkeypatch.setattr(film, "find_spec", find)
    with pytest.raises(FilmError, match=r"needs the package .*\[render\]"):
        film.require(suffix)


def test_an_episode_that_stops_early_is_a_film_too(tmp_path: Path) -> None:
    trace = episode("untrained", "adversarial-pursuit", 4, max_steps=2)
    write_film(trace, tmp_path / "a.gif", size=200, pace=PACE)
    assert duration_s(tmp_path / "a.gif") == pytest.approx(1.9)
