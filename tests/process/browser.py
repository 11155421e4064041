"""A real browser for tests: Debian's Chromium without a window, driven by selenium.

with browser(profile) as driver: driver.get("file:///…")
"""

import contextlib
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests import debian

_PROGRAMS, _PACKAGES = ("chromium", "chromedriver"), ("chromium", "chromium-driver")


def require_chromium() -> None:
    """Install the Debian packages if need be; skip the running test, with the reason, if not."""
    reason = debian.skip_reason(_PROGRAMS, _PACKAGES)
    if reason is not None:
        pytest.skip(reason)


@contextlib.contextmanager
def browser(profile: Path, width: int = 1280, height: int = 800) -> Generator[Chrome]:
    """A browser with nothing remembered, gone when the `with` block is left.

    Args:
        profile: folder for what it keeps.
    """
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "headless=new",
        "no-sandbox",  # which refuses to start as root
        "disable-dev-shm-usage",  # /dev/shm of a container holds 64 MB
        "disable-gpu",
        "hide-scrollbars",
        f"window-size={width},{height}",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver: Any = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        yield driver
    finally:
        driver.quit()
