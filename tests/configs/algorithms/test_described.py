"""What is known of an algorithm without torch, also of one from outside."""

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from configs import extensions
from configs.algorithms.base import OnPolicy, Traits
from configs.algorithms.described import (
    Described,
    describe,
    from_json,
    special_options,
    to_json,
    traits_of,
    with_sizes,
)
from configs.extensions import ALGORITHM, ExtensionError, own_names
from configs.load import ConfigError, load_run_config
from configs.options import OptionsError
from configs.resumed import forbidden_change
from configs.schema import LearnerConfig, RunConfig
from learner.algorithms import find_algorithm

PROJECT = Path(extensions.__file__).resolve().parent.parent

OUTSIDE = """
from dataclasses import dataclass
from configs.algorithms.base import OnPolicy, Traits
from learner.algorithms.iql import Iql

print("a word while it is imported")

@dataclass(frozen=True)
class Options:
    epochs: int = 4
    width: int = 8

class Mine(Iql):
    Options = Options
    def traits(options):
        return Traits(
            acting="sample",
            columns=frozenset({"log_prob"}),
            experience=OnPolicy(episodes=8, epochs=options.epochs),
            sizes={"critic": ("width",)},
        )

class NoAlgorithm:
    pass
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "outside_algorithm.py").write_text(OUTSIDE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return "outside_algorithm:Mine"


@pytest.mark.parametrize("name", own_names(ALGORITHM))
def test_the_file_without_torch_and_the_class_say_the_same(name: str) -> None:
    module = import_module(f"configs.algorithms.{name.replace('-', '_')}")
    algorithm = find_algorithm(name)
    assert algorithm.traits is module.TRAITS
    assert algorithm.Options is getattr(module, "OPTIONS", None)
    described = describe(name, "")
    known = {**dict.fromkeys(LearnerConfig.__dataclass_fields__, 0), **described.options}
    assert {*described.traits.kept, *described.traits.reads} <= set(known)


def test_describing_our_own_algorithms_imports_no_torch() -> None:
    code = (
        "import sys\nfrom configs.algorithms.described import describe\n"
        "from configs.extensions import ALGORITHM, own_names\n"
        "for name in own_names(ALGORITHM): describe(name, '')\n"
        "sys.exit(bool({'torch', 'learner', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=PROJECT).returncode == 0


def test_an_algorithm_from_outside_is_asked_in_a_process_of_its_own(outside: str) -> None:
    found = describe(outside, "epochs=2")
    assert found.options == {"epochs": 2, "width": 8}
    assert found.traits == Traits(
        acting="sample",
        columns=frozenset({"log_prob"}),
        experience=OnPolicy(episodes=8, epochs=2),
        sizes={"critic": ("width",)},
    )
    assert "outside_algorithm" not in sys.modules
    before = RunConfig(learner=LearnerConfig(algorithm=outside, options="epochs=2"))
    others = replace(before, learner=replace(before.learner, options="epochs=9,width=9"))
    change = forbidden_change(before, others)
    assert change is not None
    assert (change.name, change.before, change.asked) == ("--algorithm.options width", 8, 9)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--algorithm qmux", "unknown algorithm 'qmux', choose from .*qmix.* package.module:attr"),
        ("--algorithm qmix --algorithm.options depth=3", "has no depth"),
        ("--algorithm outside_algorithm:NoAlgorithm", "is no algorithm: give a class that inher"),
        ("--algorithm outside_algorithm:Mine --algorithm.options epochs=x", "epochs must be int"),
    ],
)
def test_what_does_not_fit_is_one_line(outside: str, arguments: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        load_run_config(["--env", "relay", *arguments.split()])
    assert "\n" not in str(refused.value)


def test_description_survives_its_line() -> None:
    for traits in (
        Traits(),
        Traits(
            experience=OnPolicy(episodes=3),
            sizes={"mixer": ("a", "b")},
            reads=("a",),
            keeps=("b",),
            columns=frozenset({"log_prob"}),
        ),
    ):
        found = Described(traits, {"a": 1, "b": "x"})
        assert from_json(to_json(found)) == found


def test_a_mixer_of_other_sizes_or_agents_cannot_be_resumed_and_plain_agents_can() -> None:
    mixed = RunConfig(num_agents=4, learner=LearnerConfig(algorithm="qmix"))
    change = forbidden_change(mixed, replace(mixed, num_agents=5))
    assert change is not None
    assert change.name == "num_agents"
    larger = replace(mixed, learner=replace(mixed.learner, mixing_embed=64))
    assert forbidden_change(mixed, larger) is not None
    alone = RunConfig(num_agents=4)
    assert forbidden_change(alone, replace(alone, num_agents=5)) is None


def test_options_of_other_algorithms_are_known() -> None:
    assert {"wqmix_alpha", "res_beta", "critic_rate", "mixing_embed"} <= special_options()
    assert "gamma" not in special_options()
    assert "mixing_embed" in traits_of(LearnerConfig(algorithm="res")).reads


def test_sizes_go_where_they_belong(outside: str) -> None:
    config = LearnerConfig(algorithm=outside, options="epochs=2,width=8")
    found = with_sizes(config, {"mixing_embed": 3, "width": 5})
    assert found == replace(config, mixing_embed=3, options="epochs=2,width=5")


def test_unknown_names_and_options_have_errors_of_their_own() -> None:
    with pytest.raises(ExtensionError):
        describe("qmux", "")
    with pytest.raises(OptionsError):
        describe("vdn", "depth=3")
