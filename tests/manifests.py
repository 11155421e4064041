"""The manifests of docs/clusters, filled in as its page says and rendered by kustomize.

docs/clusters.md, block `sh make` -> bash -> the overlay, with keys -> kubectl kustomize -> objects
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "clusters.md"

Manifest = dict[str, Any]


def commands(name: str) -> str:
    """The shell commands of a block of the page."""
    (body,) = re.findall(rf"^```sh {name}\n(.+?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return body


def environment(**more: str) -> dict[str, str]:
    """With our own commands first in the search path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **more}


def make(home: Path, **edited: str) -> list[Manifest]:
    """Follow the page in a home folder; what it would apply. Skips where nothing can render it.

    Args:
        edited: text for files of the overlay, by name without its ending.
    """
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl, whose kustomize renders the manifests without a cluster")
    home.mkdir(exist_ok=True)
    steps = commands("copy") + "".join(
        f"cat > {name}.yaml <<'END'\n{text}\nEND\n" for name, text in edited.items()
    )
    rendered = subprocess.run(
        ["bash", "-euc", steps + commands("make")],
        cwd=PROJECT,
        env=environment(HOME=str(home)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert rendered.returncode == 0, rendered.stderr
    return objects((home / "cluster" / "example" / "rendered.yaml").read_text())


def objects(text: str) -> list[Manifest]:
    return [cast("Manifest", found) for found in yaml.safe_load_all(text) if found]


def only(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The object of that kind, of which there is one, or one whose name begins so."""
    (found,) = (
        found
        for found in manifests
        if found["kind"] == kind and found["metadata"]["name"].startswith(name)
    )
    return found
