"""What every test leaves as it found it."""

import logging
from collections.abc import Iterator

import hypothesis
import pytest

# Tests assert behaviour, and never time: on a crowded machine anything takes long.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    """Commands that a test runs in this very process set up logging as a process of their own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
