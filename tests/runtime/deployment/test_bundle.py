"""Bundles: who finds which secret where, and which folders are refused."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.policy import PolicyFile, save_policy
from runtime.deployment.bundle import (
    BOOK,
    CONFIG,
    KEYS,
    MANIFEST,
    POLICY,
    DeployOptions,
    make_keys,
    read_all,
    read_bundle,
    write_bundles,
)
from runtime.deployment.hosts import Host, Hosts
from runtime.net.errors import SetupError
from runtime.net.security import KeyPair
from tests.agents_helpers import make_spec

HOSTS = Hosts(
    (
        Host("a", "10.0.0.1", 7400, (0, 1, 2)),
        Host("b", "10.0.0.2", 7400, (3, 4)),
        Host("c", "10.0.0.3", 7400, (5,)),
    ),
    "a",
)
OPTIONS = DeployOptions(comm="sops", gate_mode="learned", rate_hz=10.0)


def policy_bytes(folder: Path) -> bytes:
    spec = make_spec()
    path = folder / "p.safetensors"
    save_policy(path, PolicyFile(spec, np.zeros(spec.size, np.float32), 7, {"comm": "sops"}))
    return path.read_bytes()


@pytest.fixture
def keys() -> dict[str, KeyPair]:
    return make_keys(HOSTS)


@pytest.fixture
def out(tmp_path: Path, keys: dict[str, KeyPair]) -> Path:
    """Bundles of a deployed policy."""
    out = tmp_path / "out"
    write_bundles(out, HOSTS, keys, policy=policy_bytes(tmp_path), options=OPTIONS)
    return out


# --- what is in one -------------------------------------------------------------------------------


def test_a_bundle_holds_what_its_host_needs(out: Path, keys: dict[str, KeyPair]) -> None:
    bundle = read_bundle(out / "b")
    assert bundle.host == HOSTS["b"]
    assert bundle.book.hosts == HOSTS
    assert bundle.book.public == {name: pair.public for name, pair in keys.items()}
    assert bundle.keys == {name: keys[name] for name in ("node-b", "agent-3", "agent-4")}
    assert bundle.options == OPTIONS
    assert bundle.policy is not None
    assert bundle.policy.version == 7
    assert bundle.is_deployment
    ring = bundle.keyring("agent-3")
    assert (ring.name, ring.own) == ("agent-3", keys["agent-3"])


def test_the_head_of_a_training_run_has_its_three_keys_and_no_policy(
    tmp_path: Path, keys: dict[str, KeyPair]
) -> None:
    write_bundles(tmp_path, HOSTS, keys)
    bundle = read_bundle(tmp_path / "a")
    heads = {"launcher", "world", "learner"}
    assert set(bundle.keys) == {"node-a", "agent-0", "agent-1", "agent-2"} | heads
    assert not bundle.is_deployment
    assert {path.name for path in (tmp_path / "a").iterdir()} == {MANIFEST, BOOK, KEYS}


def test_no_file_of_a_bundle_holds_the_secret_of_another_host_or_one_outside_of_its_keys(
    out: Path, keys: dict[str, KeyPair]
) -> None:
    for name in HOSTS.names:
        own = set(HOSTS.identities_on(name))
        for path in (out / name).iterdir():
            content = path.read_bytes()
            found = {who for who, pair in keys.items() if pair.secret.encode() in content}
            assert found == (own if path.name == KEYS else set()), path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_owner_can_read_a_bundle_whatever_the_umask(
    tmp_path: Path, keys: dict[str, KeyPair], umask: int
) -> None:
    before = os.umask(umask)
    try:
        write_bundles(tmp_path / "out", HOSTS, keys)
    finally:
        os.umask(before)
    for name in HOSTS.names:
        folder = tmp_path / "out" / name
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / KEYS).stat().st_mode) == 0o600


def test_a_body_waits_inside_of_the_bundle_unless_told_otherwise(
    tmp_path: Path, keys: dict[str, KeyPair], out: Path
) -> None:
    assert read_bundle(out / "b").body_endpoint(3) == f"ipc://{out / 'b'}/body-3"
    options = DeployOptions(comm="sops", gate_mode="learned", body="tcp://127.0.0.1:{port}")
    write_bundles(out, HOSTS, keys, policy=policy_bytes(tmp_path), options=options)
    assert read_bundle(out / "c").body_endpoint(5) == "tcp://127.0.0.1:8005"


def test_writing_again_replaces_a_folder_as_a_whole(out: Path, keys: dict[str, KeyPair]) -> None:
    (out / "a" / "left-over").write_text("x")
    write_bundles(out, HOSTS, keys)
    assert {path.name for path in (out / "a").iterdir()} == {MANIFEST, BOOK, KEYS}
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "c"]


def test_a_folder_that_is_no_bundle_is_left_alone_and_nothing_is_written(
    tmp_path: Path, keys: dict[str, KeyPair]
) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").write_text("dear")
    with pytest.raises(SetupError, match="holds something that is no bundle"):
        write_bundles(tmp_path, HOSTS, keys)
    assert (tmp_path / "c" / "thesis.tex").read_text() == "dear"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_an_empty_folder_is_taken(tmp_path: Path, keys: dict[str, KeyPair]) -> None:
    (tmp_path / "b").mkdir()
    write_bundles(tmp_path, HOSTS, keys)
    assert read_bundle(tmp_path / "b").host.name == "b"


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path, keys: dict[str, KeyPair]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written"):
        write_bundles(tmp_path / "file" / "deeper", HOSTS, keys)


# --- what is refused ------------------------------------------------------------------------------


def reseal(folder: Path, **changes: Any) -> None:
    """Make the manifest agree with changed files, as somebody would who means it."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["sha256"]:
        content = (folder / name).read_bytes()
        manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("name", [BOOK, KEYS, POLICY, CONFIG])
def test_a_changed_file_is_refused(out: Path, name: str) -> None:
    path = out / "b" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SetupError, match=f"{name}: changed since the bundle was made"):
        read_bundle(out / "b")


@pytest.mark.parametrize("name", [MANIFEST, BOOK, KEYS, POLICY, CONFIG])
def test_a_missing_file_is_named(out: Path, name: str) -> None:
    (out / "b" / name).unlink()
    with pytest.raises(SetupError, match=rf"{name}: cannot be read \(No such file"):
        read_bundle(out / "b")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere/bundle\.json: cannot be read"):
        read_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", '{"format": 1', "[]", "null", "\x00"])
def test_a_damaged_manifest_is_refused(out: Path, text: str) -> None:
    (out / "b" / MANIFEST).write_text(text)
    with pytest.raises(SetupError, match=r"bundle\.json: damaged"):
        read_bundle(out / "b")


@pytest.mark.parametrize("digests", [None, [1], {}])
def test_a_manifest_without_checksums_is_refused(out: Path, digests: Any) -> None:
    edit(out / "b" / MANIFEST, lambda manifest: manifest.update(sha256=digests))
    with pytest.raises(SetupError, match=r"damaged|not a complete bundle"):
        read_bundle(out / "b")


@pytest.mark.parametrize("name", [BOOK, KEYS, CONFIG])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"deployment": 1, "agent-3": "x", "comm": 1}'])
def test_a_damaged_file_with_the_right_checksum_is_refused(out: Path, name: str, text: str) -> None:
    (out / "b" / name).write_text(text)
    reseal(out / "b")
    with pytest.raises(SetupError, match=r"damaged|holds other keys"):
        read_bundle(out / "b")


def test_a_damaged_policy_with_the_right_checksum_is_refused(out: Path) -> None:
    (out / "b" / POLICY).write_bytes(b"not a policy")
    reseal(out / "b")
    with pytest.raises(SetupError, match=r"policy\.safetensors"):
        read_bundle(out / "b")


def test_another_format_is_refused(out: Path) -> None:
    reseal(out / "b", format=2)
    with pytest.raises(SetupError, match="bundle format 2, this version reads 1"):
        read_bundle(out / "b")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610])
def test_keys_that_others_can_reach_are_refused(out: Path, mode: int) -> None:
    (out / "b" / KEYS).chmod(mode)
    with pytest.raises(SetupError, match=rf"mode {mode:04o}\): run `chmod 600"):
        read_bundle(out / "b")


def test_keys_of_another_user_are_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = (out / "b" / KEYS).stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    says = rf"secret keys belong to user {owner} and we are user {owner + 1}: .*chown {owner + 1} "
    with pytest.raises(SetupError, match=says):
        read_bundle(out / "b")


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_keys_in_a_folder_that_others_can_write_are_refused(out: Path, mode: int) -> None:
    (out / "b").chmod(mode)
    with pytest.raises(SetupError, match=rf"mode {mode:04o}\): run `chmod go-w"):
        read_bundle(out / "b")


def test_keys_in_the_folder_of_another_user_are_refused(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(out / "b", 4711, -1)
    with pytest.raises(SetupError, match="belongs to user 4711 and we are user 0"):
        read_bundle(out / "b")


@pytest.mark.parametrize("name", [KEYS, BOOK, MANIFEST])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(out: Path, name: str) -> None:
    (out / "b" / name).unlink()
    os.mkfifo(out / "b" / name, 0o600)
    with pytest.raises(SetupError, match=f"{name}: not a regular file"):
        read_bundle(out / "b")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("seed", "5", "seed must be int, got '5'"),
        ("seed", True, "seed must be int, got True"),
        ("seed", -1, "seed must be between 0 and"),
        ("seed", None, "seed must be int, got None"),
        ("rate_hz", "fast", "rate_hz must be float, got 'fast'"),
        ("rate_hz", float("nan"), r"rate-hz must be in \[0, 1000\], got nan"),
        ("comm", 3, "comm must be str, got 3"),
        ("gate_mode", ["open"], r"gate_mode must be learned or open or closed, got \['open'\]"),
        ("gate_budget", 1e3, "gate_budget must be int, got 1000.0"),
        ("body", {"x": "y" * 1000}, "body must be str, got .{80}: "),
        ("nice", -20, "nice must be between 0 and 19"),
        ("nonsense", 1, "nonsense"),
    ],
)
def test_a_configuration_of_wrong_types_is_refused_in_one_line(
    out: Path, field: str, value: object, says: str
) -> None:
    edit(out / "b" / CONFIG, lambda options: options.update({field: value}))
    reseal(out / "b")
    with pytest.raises(SetupError, match=rf"config.json: .*{says}") as error:
        read_bundle(out / "b")
    assert "\n" not in str(error.value)


def test_a_whole_number_will_do_for_a_rate(out: Path) -> None:
    edit(out / "b" / CONFIG, lambda options: options.update(rate_hz=20))
    reseal(out / "b")
    options = read_bundle(out / "b").options
    assert options is not None
    assert options.rate_hz == 20.0


@pytest.mark.parametrize(
    "change",
    [
        {"hosts": 5},
        {"hosts": [{"name": "b"}]},
        {"hosts": [{"name": "b", "address": 5, "port": 7400, "agents": [0, 1]}], "head": "b"},
        {"hosts": [{"name": "b", "address": "x y", "port": 7400, "agents": [0, 1]}], "head": "b"},
        {"hosts": [{"name": "b", "address": "::1", "port": "7", "agents": [0, 1]}], "head": "b"},
        {"hosts": [{"name": "b", "address": "::1", "port": 7400, "agents": [1, 0]}], "head": "b"},
        {"hosts": [{"name": "b", "address": "::1", "port": 7400, "agents": "01"}], "head": "b"},
        {"head": "nowhere"},
        {"public": [1, 2]},
        {"public": {"agent-3": 3}},
        {"deployment": 7},
    ],
)
def test_an_address_book_of_wrong_types_is_refused(out: Path, change: dict[str, object]) -> None:
    edit(out / "b" / BOOK, lambda book: book.update(change))
    reseal(out / "b")
    with pytest.raises(SetupError, match="damaged bundle"):
        read_bundle(out / "b")


@pytest.mark.parametrize("secret", [5, None, ["x" * 40]])
def test_keys_of_wrong_types_are_refused(out: Path, secret: object) -> None:
    edit(out / "b" / KEYS, lambda secrets: secrets["agent-3"].update(secret=secret))
    reseal(out / "b")
    with pytest.raises(SetupError, match=r"damaged bundle \(TypeError: text expected\)"):
        read_bundle(out / "b")


def test_keys_of_another_deployment_are_refused(out: Path, tmp_path: Path) -> None:
    write_bundles(tmp_path / "other", HOSTS, make_keys(HOSTS))
    shutil.copy(tmp_path / "other" / "b" / KEYS, out / "b" / KEYS)
    reseal(out / "b")
    with pytest.raises(SetupError, match="is not the one in the address book: the bundle is stale"):
        read_bundle(out / "b")


def test_a_book_of_another_deployment_is_refused(out: Path, keys: dict[str, KeyPair]) -> None:
    book = out / "b" / BOOK
    old = book.read_bytes()
    write_bundles(out, HOSTS, keys)
    book.write_bytes(old)
    reseal(out / "b")
    with pytest.raises(SetupError, match="parts of two deployments are mixed here"):
        read_bundle(out / "b")


def test_the_secrets_of_another_host_are_refused(out: Path) -> None:
    shutil.copy(out / "c" / KEYS, out / "b" / KEYS)
    reseal(out / "b")
    with pytest.raises(SetupError, match="holds other keys than host b needs"):
        read_bundle(out / "b")


def test_a_secret_too_many_is_refused(out: Path, keys: dict[str, KeyPair]) -> None:
    world = {"public": keys["world"].public, "secret": keys["world"].secret}
    edit(out / "b" / KEYS, lambda secrets: secrets.update(world=world))
    reseal(out / "b")
    with pytest.raises(SetupError, match="holds other keys than host b needs"):
        read_bundle(out / "b")


@pytest.mark.parametrize("secret", [KeyPair.generate().secret, "!" * 40, "\xff" * 40])
def test_halves_of_a_key_that_do_not_match_are_refused(out: Path, secret: str) -> None:
    edit(out / "b" / KEYS, lambda secrets: secrets["agent-3"].update(secret=secret))
    reseal(out / "b")
    with pytest.raises(SetupError, match="the two halves of the key of agent-3 do not match"):
        read_bundle(out / "b")


def test_no_refusal_shows_a_secret(out: Path, keys: dict[str, KeyPair]) -> None:
    edit(out / "b" / KEYS, lambda secrets: secrets["agent-3"].update(public="x" * 40))
    reseal(out / "b")
    with pytest.raises(SetupError) as error:
        read_bundle(out / "b")
    assert not any(pair.secret in str(error.value) for pair in keys.values())


# --- all bundles together -------------------------------------------------------------------------


def test_all_bundles_of_a_deployment_are_read_together(out: Path) -> None:
    assert [bundle.host.name for bundle in read_all(out, HOSTS)] == ["a", "b", "c"]


def test_where_there_are_no_bundles_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no bundles here"):
        read_all(tmp_path)


def test_a_missing_bundle_is_named(out: Path) -> None:
    shutil.rmtree(out / "b")
    with pytest.raises(SetupError, match="the bundle of host b is missing"):
        read_all(out)


def test_bundles_of_two_deployments_are_refused(
    out: Path, tmp_path: Path, keys: dict[str, KeyPair]
) -> None:
    write_bundles(tmp_path / "other", HOSTS, keys)
    shutil.rmtree(out / "b")
    shutil.copytree(tmp_path / "other" / "b", out / "b")
    with pytest.raises(SetupError, match="bundles of different deployments"):
        read_all(out)


def test_bundles_for_other_hosts_than_asked_for_are_refused(out: Path) -> None:
    moved = Hosts((HOSTS["a"], HOSTS["b"], Host("c", "10.0.0.4", 7400, (5,))), "a")
    with pytest.raises(SetupError, match="made for other hosts, addresses or shares"):
        read_all(out, moved)
