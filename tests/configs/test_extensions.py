"""Names of extensions: found without an import, loaded when asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from configs import extensions
from configs.extensions import ALGORITHM, ENVIRONMENT, KINDS, SCHEME, ExtensionError, Kind

PROJECT = Path(extensions.__file__).resolve().parent.parent


@pytest.fixture
def fruit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """A kind of its own, with two modules that carry the mark, one that does not, and a package
    that announces another."""
    folder = tmp_path / "orchard" / "fruit"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "red_apple.py").write_text("class Apple:\n    pass\n\nFRUIT = Apple\n")
    (folder / "plum").mkdir()
    (folder / "plum" / "__init__.py").write_text("FRUIT: object = 3\n")
    (folder / "basket.py").write_text("# FRUIT is what lies in it\nFRUITS = 3\n")
    (folder / "rotten.py").write_text("import no_such_module\nFRUIT = 1\n")
    info = tmp_path / "pears-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pears\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[orchard.fruit]\npear = pears.all:PEAR\n")
    (tmp_path / "pears").mkdir()
    (tmp_path / "pears" / "all.py").write_text("class Kind:\n    inner = 5\nPEAR = 'pear'\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(extensions, "_HOME", tmp_path)
    return Kind("fruit", "--fruit", "FRUIT", "orchard.fruit", "orchard.fruit")


def test_a_module_with_the_mark_is_found_and_no_other(fruit: Kind) -> None:
    assert extensions.own_names(fruit) == ("plum", "red-apple", "rotten")
    assert extensions.names(fruit) == ("plum", "red-apple", "rotten", "pear")


def test_names_lead_to_objects(fruit: Kind) -> None:
    assert extensions.address(fruit, "red-apple") == "orchard.fruit.red_apple:FRUIT"
    assert extensions.load(fruit, "plum") == 3
    assert extensions.load(fruit, "pear") == "pear"
    assert extensions.load(fruit, "pears.all:Kind.inner") == 5


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cherry", "unknown fruit 'cherry', choose from plum, red-apple, rotten, pear, or give"),
        ("pears.all:STONE", "pears.all has no STONE"),
        ("nowhere.at_all:X", "nowhere.at_all cannot be imported: ModuleNotFoundError"),
        ("rotten", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        (":x", "unknown fruit"),
    ],
)
def test_what_is_not_there_is_one_line(fruit: Kind, name: str, says: str) -> None:
    with pytest.raises(ExtensionError, match=says):
        extensions.load(fruit, name)


def test_listing_imports_none_of_the_extensions() -> None:
    code = (
        "import sys\nfrom configs.extensions import KINDS, names\n"
        "for kind in KINDS: names(kind)\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(bool(loaded & {'torch', 'learner', 'agents', 'envs', 'numpy'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=PROJECT).returncode == 0


def test_kinds_have_their_own_flags_and_groups() -> None:
    assert len({kind.option for kind in KINDS}) == len({kind.group for kind in KINDS}) == 4
    assert {ALGORITHM, SCHEME, ENVIRONMENT} < set(KINDS)
