"""What the documents point to exists: links, headings, files and modules."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"`((?:agents|configs|docs|envs|learner|runtime|tests)/[a-z\d_./-]+\.\w+)`")
_MODULE = re.compile(r"python -m ((?:agents|envs|learner|runtime|tests)\.[\w.]+\w)")


def anchors(page: Path) -> Iterator[str]:
    """The fragment of each heading, as the usual Markdown viewers make it."""
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            yield words.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if link.startswith(("http:", "https:")):
            continue
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if fragment:
            assert fragment in set(anchors(target)), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    for name in _FILE.findall(text):
        assert (PROJECT / name).exists(), name
    for module in _MODULE.findall(text):
        assert find_spec(module) is not None, module
