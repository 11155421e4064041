"""Files and texts of others: refusing what nobody needs costs less than accepting what is right."""

import json
import os
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from agents.policy import FORMAT, PolicyFileError, load_policy
from configs import bounded
from configs.bounded import MOST_DEPTH, MOST_VALUES, Unfit, brief, parse_json, parse_yaml
from configs.load import ConfigError, dump_run_config, load_run_config, parse_run_config
from configs.schema import RunConfig
from learner.checkpoint_file import CheckpointError, read_progress
from runtime.deployment.bundle import MANIFEST, read_bundle
from runtime.deployment.hosts import load_hosts
from runtime.net.errors import SetupError
from runtime.record.json_lines import read_records

LEVELS = "abcdefghi"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{below}'] * 9)}]" for below, name in pairwise(LEVELS)
)
"""Aliases that stand for 9^9 values."""
MANY_KEYS = "\n".join(f"key{i}: 1" for i in range(60_000))
TEXTS: dict[str, str] = {
    "aliases": BOMB,
    "aliases in a known key": "seed:\n" + indent(BOMB, "  "),
    "an alias of itself": "seed: &a [*a]",
    "deep brackets": "[" * 5_000,
    "deep indents": "- " * 5_000,
    "deep keys": "{a: " * 5_000,
    "many keys": MANY_KEYS,
    "many of one key": "\n".join(["seed: 1"] * 3_000),
    "a long key": "k" * 200_000 + ": 1",
    "a long value": "seed: " + "v" * 200_000,
    "a long list": f"seed: [{'1,' * 3_000}]",
    "a long number": "seed: " + "9" * 5_000,
    "more than anybody reads": "#" * (1 << 19),
    "no integer": "seed: !!int ''",
    "no truth": "seed: !!bool x",
    "no time": "seed: !!timestamp x",
    "no day": "seed: 2001-99-99",
    "an object": "seed: !!python/object/apply:os.getpid []",
    "a key of lists": "? [seed]\n: 1",
    "a control character": "seed: \0",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_configuration_that_is_too_much_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_run_config(text, "it")
    assert str(refused.value).startswith("it: ")
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hosts_that_are_too_much_are_refused_in_one_short_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    for content in (text, "hosts:\n  a: {address: 10.0.0.1, agents: " + "9" * 5_000 + "}"):
        path.write_text(content)
        with pytest.raises(SetupError) as refused:
            load_hosts(path, 6)
        assert len(str(refused.value)) < 600 + len(str(path))


def test_a_bomb_is_refused_before_it_fills_the_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Unfit, match="values"):
            parse_yaml(BOMB)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_aliases_that_stand_for_little_are_welcome() -> None:
    text = "a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\nf: &f x\ng: [*f, *f]"
    assert parse_yaml(text) == {
        "a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}, "f": "x", "g": ["x", "x"],
    }  # fmt: skip


def test_the_bounds_themselves_are_allowed() -> None:
    assert parse_yaml("[" * MOST_DEPTH + "]" * MOST_DEPTH) is not None
    assert len(parse_yaml(f"[{'1,' * (MOST_VALUES - 1)}]")) == MOST_VALUES - 1
    assert parse_json("[" * MOST_DEPTH + "]" * MOST_DEPTH) is not None
    assert parse_run_config(dump_run_config(RunConfig())) == RunConfig()


short = st.text('ab[]{}"\\: ', max_size=5)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | short,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, max_examples=50)
@given(plain)
def test_what_is_small_arrives_as_it_was(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_yaml(yaml.safe_dump(value)) == value


@settings(deadline=None, max_examples=100)
@given(st.text('[]{}"\\a1,:\n&*-? ', max_size=60))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    for parse in (parse_json, parse_yaml):
        with suppress(ValueError):
            parse(text * 20)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[" * 33 + "]" * 33, "9" * 5_000],
)
def test_json_that_is_too_much_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"deep|digits"):
        parse_json(text)


def test_brackets_in_a_text_are_no_depth() -> None:
    assert parse_json(json.dumps({"a": "[" * 100 + '"' + "{" * 100})) is not None


# --- files ----------------------------------------------------------------------------------------


def policy_of(metadata: dict[str, str]) -> bytes:
    return save({"x": np.zeros(1, np.float32)}, {"format": FORMAT, **metadata})


READERS: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "a configuration": (lambda path: load_run_config(["--config", str(path)]), ConfigError),
    "hosts": (lambda path: load_hosts(path, 6), SetupError),
    "a policy": (load_policy, PolicyFileError),
    "a checkpoint": (read_progress, CheckpointError),
    "a bundle": (lambda path: read_bundle(path.parent), SetupError),
    "records": (read_records, OSError),
}


@pytest.mark.parametrize(("read", "error"), READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    read: Callable[[Path], object], error: type[Exception], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / MANIFEST
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to("/dev/zero")
    with pytest.raises(error) as refused:
        read(path)
    assert len(str(refused.value)) < 400


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="at most"):
        bounded.read_bytes(path)
    with pytest.raises(PolicyFileError, match="at most"):
        load_policy(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"spec": "[" * 50_000, "version": "1", "crc32": "1", "trained": "{}"},
        {"spec": "{}", "version": "1", "crc32": "1", "trained": '{"a":' * 50_000},
        {"spec": "{}", "version": "9" * 5_000, "crc32": "1", "trained": "{}"},
        {"spec": "{}", "version": "x" * 50_000, "crc32": "1", "trained": "{}"},
        {"format": "f" * 50_000},
    ],
    ids=["deep spec", "deep trained", "long version", "long nonsense", "long format"],
)
def test_metadata_of_a_policy_that_are_too_much_are_refused_in_one_short_line(
    metadata: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(policy_of(metadata))
    with pytest.raises(PolicyFileError) as refused:
        load_policy(path)
    assert len(str(refused.value)) < 500 + len(str(path))


def test_a_deep_manifest_is_refused_in_one_short_line(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(SetupError, match="deep"):
        read_bundle(tmp_path)


# --- what a line shows ----------------------------------------------------------------------------


class Counted(bytes):
    """Bytes that say when somebody makes a text of all of them."""

    def __repr__(self) -> str:
        raise AssertionError("its repr is made before it is cut")

    def __getitem__(self, where: Any) -> Any:
        whole: Any = memoryview(self)
        return whole[where].tobytes()


def test_a_value_is_cut_before_it_is_shown() -> None:
    assert brief(Counted(bytes(10**6))).endswith("...")
    tracemalloc.start()
    try:
        shown = [
            brief(thing) for thing in (b"\0" * 10**7, "x" * 10**7, [["x" * 10**6] * 100] * 100)
        ]
        shown += [brief(1 << 10**6), brief(dict.fromkeys(range(10**5)))]
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert all(len(text) <= 60 for text in shown)
    assert peak < 40_000_000  # the values themselves


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("many", "'many'"),
        (None, "None"),
        (2.5, "2.5"),
        (True, "True"),
        ([1, "a"], "[1, 'a']"),
        ({"a": {"b": {"c": 1}}}, "{'a': {'b': {...}}}"),
        (object(), "object"),
        ("x" * 99, "'" + "x" * 56 + "..."),
    ],
)
def test_a_short_value_is_shown_as_it_is(value: object, shown: str) -> None:
    assert brief(value) == shown
