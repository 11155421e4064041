"""The package of docs/extending.md, taken out of the document and laid where Python finds it."""

import os
import re
import tomllib
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
_FILE = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A fenced block whose first line names a file after the language."""


def files_of(page: Path = PAGE) -> dict[str, str]:
    """Content of each file that the document shows, by its path in the package."""
    return dict(_FILE.findall(page.read_text(encoding="utf-8")))


def install(folder: Path) -> dict[str, str]:
    """Write the package as an installation leaves it, with the entry points of its pyproject.toml.

    Returns:
        The environment of a process that finds it.
    """
    for name, content in files_of().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = project["name"], project["version"]
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    (about / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    there = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": there}
