"""Options of an extension: text in, a dataclass out."""

from dataclasses import dataclass
from typing import Literal

import pytest

from configs.options import OptionsError, parse, read


@dataclass(frozen=True)
class Heads:
    heads: int = 4
    share: float = 0.5
    name: str = "plain"
    wide: bool = False
    sizes: tuple[int, ...] = (8, 8)
    shape: Literal["round", "flat", "long"] = "round"


def test_values_are_what_yaml_makes_of_them() -> None:
    text = "n=8,max_cycles=50,share=0.5,local=true,sizes=[1, 2],name=some word"
    assert parse(text, "--env.options") == {
        "n": 8, "max_cycles": 50, "share": 0.5, "local": True, "sizes": [1, 2], "name": "some word",
    }  # fmt: skip
    assert parse("", "--env.options") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("heads", "takes name=value"),
        ("=3", "takes name=value"),
        ("a=1,a=2", "gives a twice"),
        ("a=[1,2", "leaves a bracket open"),
        ("a=1]", "closes a bracket"),
        ("a={[", "bracket"),
        ("a=@b", "a: "),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, says: str) -> None:
    with pytest.raises(OptionsError, match=says) as caught:
        parse(text, "--comm.options")
    assert str(caught.value).startswith("--comm.options")
    assert "\n" not in str(caught.value)


def test_an_extension_gets_its_own_dataclass() -> None:
    assert read(Heads, "heads=2,share=1", "--comm.options") == Heads(heads=2, share=1.0)
    assert read(Heads, "", "--comm.options") == Heads()
    assert read(Heads, "sizes=[4, 2]", "--comm.options") == Heads(sizes=(4, 2))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("head=2", "has no head .known: heads, share, name, wide, sizes, shape"),
        ("heads=two", "heads must be int, got 'two'"),
        ("wide=3", "wide must be bool"),
        ("sizes=[a]", "sizes must be tuple"),
        ("shape=square", "shape must be round, flat or long, got 'square'"),
    ],
)
def test_unknown_names_and_wrong_types_are_refused(text: str, says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        read(Heads, text, "--comm.options")
