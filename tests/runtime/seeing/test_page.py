"""The page plays an episode in a real browser, from a file and without a network."""

import base64
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from envs.scene import Map
from runtime.seeing import looks
from runtime.seeing import page as page_module
from runtime.seeing.film import FilmError
from runtime.seeing.page import page, write_page
from runtime.seeing.trace import Trace
from tests.process.browser import browser, require_chromium
from tests.runtime.seeing.traces import battle, episode, relay

WAIT_S = 60.0


def pursuit() -> Trace:
    return episode("untrained", "adversarial-pursuit", 6, max_steps=6)


def frames() -> Trace:
    options = {"env_options": "N=3,max_cycles=4"}
    return episode("untrained", "pettingzoo:mpe2.simple_spread_v3", None, **options)


# --- the file -------------------------------------------------------------------------------------


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script id="episode" type="application/json">(.*?)</script>', text, re.S)
    assert found is not None
    return json.loads(found[1])


def unpacked(data: dict[str, Any], name: str) -> NDArray[Any]:
    packed = data["arrays"][name]
    raw = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(raw, dtype=packed["type"]).reshape(packed["shape"])


def test_the_page_holds_the_whole_episode() -> None:
    trace = battle()
    data = data_of(page(trace))
    assert (data["steps"], data["agents"]) == (trace.steps, 20)
    assert len(data["moments"]) == trace.steps + 1
    assert_array_equal(unpacked(data, "open"), trace.open_TNK)
    assert_array_equal(unpacked(data, "heard"), trace.heard_TNK)
    assert_array_equal(unpacked(data, "actions"), trace.actions_TN)
    scene = trace.scenes[5]
    assert isinstance(scene, Map)
    places = np.concatenate([team.positions_U2 for team in scene.teams])
    assert_array_equal(unpacked(data, "positions")[5], places)
    observations = unpacked(data, "observations") * data["observationScale"]
    assert (data["sight"]["rows"], data["sight"]["columns"]) == (7, 7)
    own_TNVV = trace.observations_TND.reshape(trace.steps, 20, 7, 2, 7)[:, :, :, 0]
    seen_TNPVV = observations.reshape(trace.steps, 20, 2, 7, 7)
    assert np.abs(seen_TNPVV[:, :, 0] - own_TNVV).max() < 0.01


def test_a_position_behind_the_window_does_not_disturb_it() -> None:
    options = {"env_options": "position=true", "opponent": "random"}
    trace = episode("untrained", "battle", 4, max_steps=2, **options)
    assert trace.observations_TND.shape == (2, 4, 100)
    assert unpacked(data_of(page(trace)), "observations").shape == (2, 4, 98)


def test_nothing_in_the_page_asks_a_network() -> None:
    for trace in (battle(), frames()):
        text = page(trace)
        assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", text)
        assert "default-src 'none'" in text


def test_names_cannot_end_the_element_that_holds_them() -> None:
    trace = replace(relay(), env="</script><script>alert(1)</script>")
    text = page(trace)
    assert "<script>alert" not in text
    assert data_of(text)["title"].startswith("</script>")


def test_a_long_battle_of_many_agents_is_a_small_file() -> None:
    trace = episode("shipped", "battle", 64, opponent="scripted")
    assert trace.steps > 20
    assert len(page(trace)) * 200 / trace.steps < 3_000_000


def test_observations_that_would_be_too_many_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "_MOST_OBSERVED", 10)
    assert "observations" not in data_of(page(relay()))["arrays"]


def test_frames_without_pillow_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> None:
        del name

    monkeypatch.setattr(page_module, "find_spec", find)
    with pytest.raises(FilmError, match=r"needs the package pillow.*\[render\]"):
        page(frames())


# --- in a browser ---------------------------------------------------------------------------------


class Shown:
    """A page in the browser, as somebody uses it."""

    def __init__(self, driver: Chrome, trace: Trace, file: Path) -> None:
        self.driver, self.trace = driver, trace
        write_page(trace, file)
        driver.get("about:blank")
        driver.get(file.as_uri())
        self.until(lambda: self.script("return document.body.dataset.ready") == "yes")

    def until(self, condition: Any) -> None:
        WebDriverWait(self.driver, WAIT_S).until(lambda _: condition())

    def script(self, code: str, *arguments: object) -> Any:
        driver: Any = self.driver
        return driver.execute_script(code, *arguments)

    def text(self, part: str) -> str:
        return self.driver.find_element(By.ID, part).text

    def click(self, part: str) -> None:
        self.driver.find_element(By.ID, part).click()

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def picture(self) -> NDArray[np.int64]:
        """[height, width, 3] of the field."""
        png = self.driver.find_element(By.ID, "field").screenshot_as_png
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int64)

    def click_agent(self, agent: int, moment: int) -> None:
        """Where the agent stands in this moment."""
        field: Any = self.driver.find_element(By.ID, "field")
        x, y = looks.places(self.trace, moment)[agent]
        wide, high = field.size["width"], field.size["height"]
        square = min(wide, high)
        left = wide - square - wide / 2 + x * square
        ActionChains(self.driver).move_to_element_with_offset(
            field, round(left), round(y * square - high / 2)
        ).click().perform()

    def step(self) -> int:
        return int(self.text("clock").split()[1])

    def complaints(self) -> list[str]:
        driver: Any = self.driver
        return [str(entry["message"]) for entry in driver.get_log("browser")]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    require_chromium()
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def share_of(colour: str, picture: NDArray[np.int64]) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float((np.abs(picture - wanted).max(axis=-1) < 12).mean())


@pytest.mark.process
@pytest.mark.timeout(240)
class TestInABrowser:
    def test_battle_steps_and_shows_both_teams(self, driver: Chrome, tmp_path: Path) -> None:
        shown = Shown(driver, battle(), tmp_path / "battle.html")
        first = shown.picture()
        for colour in looks.TEAMS[:2]:
            assert share_of(colour, first) > 0.01
        shown.click("forward")
        assert shown.step() == 1
        second = shown.picture()
        assert (first != second).any(axis=-1).mean() > 0.01
        shown.click("back")
        assert shown.step() == 0
        assert_array_equal(shown.picture(), first)
        assert shown.text("standing") == "red 20 of 20, blue 20 of 20"
        assert shown.text("traffic") == looks.traffic(shown.trace, 0)
        assert shown.complaints() == []

    def test_a_click_tells_what_an_agent_hears(self, driver: Chrome, tmp_path: Path) -> None:
        trace = battle()
        shown = Shown(driver, trace, tmp_path / "battle.html")
        shown.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        agent, step = 7, 2
        plain = shown.picture()
        shown.click_agent(agent, step)
        assert shown.text("who") == "Agent 7"
        assert (shown.picture() != plain).any(axis=-1).mean() > 0.001
        rows = [row.text for row in driver.find_elements(By.CSS_SELECTOR, "#hears tr")][2:]
        assert trace.weights_TNL is not None
        for k, (row, offset) in enumerate(zip(rows, trace.offsets, strict=True)):
            assert row.startswith(f"agent {(agent - offset) % 20}")
            if trace.heard_TNK[step, agent, k]:
                assert f"{trace.weights_TNL[step, agent, k + 1] * 100:.0f} %" in row
            else:
                assert row.endswith("closed")
        says = [row.text for row in driver.find_elements(By.CSS_SELECTOR, "#says tr.open")]
        assert len(says) == trace.open_TNK[step, agent].sum()
        assert len(driver.find_elements(By.CSS_SELECTOR, "#sees canvas")) == 2
        shown.press(Keys.ESCAPE)
        assert not driver.find_elements(By.ID, "who")
        assert shown.complaints() == []

    def test_it_plays_to_the_end_and_pauses(self, driver: Chrome, tmp_path: Path) -> None:
        trace = battle()
        shown = Shown(driver, trace, tmp_path / "battle.html")
        driver.find_element(By.CSS_SELECTOR, "#speed option[value='16']").click()
        shown.click("play")
        shown.until(lambda: shown.step() > 2)
        shown.press(" ")
        paused = shown.step()
        assert shown.text("play") == "Play"
        shown.press(Keys.ARROW_LEFT)
        assert shown.step() == paused - 1
        shown.press(Keys.END)
        assert shown.text("clock") == f"step {trace.steps} of {trace.steps}"
        assert shown.text("traffic").startswith("won")
        shown.click("play")
        shown.until(lambda: shown.step() < trace.steps)
        shown.until(lambda: shown.step() == trace.steps)
        assert shown.text("play") == "Play"
        assert shown.complaints() == []

    def test_the_slider_goes_anywhere(self, driver: Chrome, tmp_path: Path) -> None:
        shown = Shown(driver, battle(), tmp_path / "battle.html")
        shown.script(
            "slider.value = 9; slider.dispatchEvent(new Event('input', {bubbles: true}));"
            "slider.focus()"
        )
        assert shown.step() == 9
        shown.press(Keys.ARROW_RIGHT)
        assert shown.step() == 10

    def test_open_edges_are_lines_and_closed_ones_are_none(
        self, driver: Chrome, tmp_path: Path
    ) -> None:
        def difference(trace: Trace) -> float:
            """What the edges change in the picture."""
            shown = Shown(driver, trace, tmp_path / "battle.html")
            shown.press(Keys.ARROW_RIGHT)
            pictures: list[NDArray[np.int64]] = []
            for which in ("all", "none"):
                driver.find_element(By.CSS_SELECTOR, f"#edges option[value='{which}']").click()
                pictures.append(shown.picture())
            return float((pictures[0] != pictures[1]).any(axis=-1).mean())

        silent = replace(battle(), open_TNK=np.zeros_like(battle().open_TNK))
        assert difference(battle()) > 0.01
        assert difference(silent) == 0.0

    def test_relay_tells_who_is_right(self, driver: Chrome, tmp_path: Path) -> None:
        trace = relay()
        shown = Shown(driver, trace, tmp_path / "relay.html")
        last = trace.steps - 1
        for _ in range(last):
            shown.press(Keys.ARROW_RIGHT)
        shown.click_agent(3, last)
        assert shown.text("who") == "Agent 3"
        assert f"names colour {trace.actions_TN[last, 3]}, which is right" in shown.text("panel")
        assert shown.text("standing") == looks.standing(trace, last)
        assert shown.complaints() == []

    def test_pursuit_shows_large_predators(self, driver: Chrome, tmp_path: Path) -> None:
        trace = pursuit()
        shown = Shown(driver, trace, tmp_path / "pursuit.html")
        picture = shown.picture()
        assert share_of(looks.TEAMS[0], picture) > share_of(looks.TEAMS[1], picture) > 0.005
        shown.click_agent(4, 0)
        assert shown.text("who") == "Agent 4"
        assert "predators" in shown.text("sees")
        assert shown.complaints() == []

    def test_an_environment_of_others_shows_its_frames(
        self, driver: Chrome, tmp_path: Path
    ) -> None:
        trace = frames()
        shown = Shown(driver, trace, tmp_path / "frames.html")
        first = shown.picture()
        shown.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        left = slice(None), slice(0, first.shape[1] // 2)
        assert (first[left] != shown.picture()[left]).any(axis=-1).mean() > 0.001
        shown.click_agent(2, 2)
        assert shown.text("who") == "Agent 2"
        assert shown.complaints() == []

    def test_a_narrow_window_needs_no_sideways_scrolling(self, tmp_path: Path) -> None:
        require_chromium()
        with browser(tmp_path / "profile", width=380, height=700) as narrow:
            shown = Shown(narrow, battle(), tmp_path / "battle.html")
            shown.click_agent(0, 0)
            assert shown.text("who") == "Agent 0"
            assert shown.script("return document.documentElement.scrollWidth") <= 380
