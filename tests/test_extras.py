"""Optional dependencies: training needs no engine, and each name brings what it says."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
NAMED = sorted(
    {
        (package, extra)
        for path in (PROJECT / "envs").rglob("*.py")
        for package, extra in re.findall(
            r'check_installed\(self\.name, "(\w+)", "(\w+)"\)', path.read_text()
        )
    }
)
"""(package, extra) of every refusal."""


def packages_of(*extras: str) -> set[str]:
    return {Requirement(line).name for extra in extras for line in EXTRAS[extra]}


def test_what_trains_has_no_engine_because_arm_has_none() -> None:
    assert "magent2" not in packages_of("train")
    assert ("magent2", "magent") in NAMED


@pytest.mark.parametrize(("package", "extra"), NAMED)
def test_the_extra_that_a_refusal_names_brings_the_package(package: str, extra: str) -> None:
    assert package in packages_of(extra)


@pytest.mark.parametrize("purpose", ["run", "test"])
def test_the_readmes_commands_install_all_that_they_need(purpose: str) -> None:
    text = (PROJECT / "README.md").read_text()
    found = re.search(
        rf'<!-- {purpose} command -->\n```\npip install -e "\.\[([\w,]+)\]" && ', text
    )
    assert found is not None
    extras = found[1].split(",")
    assert {"torch", "magent2"} <= packages_of(*extras), "Battle is run, and tested"
    assert ("pytest" in packages_of(*extras)) == (purpose == "test")
    if purpose == "test":
        optional = packages_of("magent", "ray", "render", "studies", "track")
        assert optional <= packages_of(*extras), "what is optional is tested as well"
