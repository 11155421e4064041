"""python -m runtime.keys: make keys, rotate one or all, and say what is wrong."""

import json
from pathlib import Path

import pytest

from runtime import keys
from runtime.deployment.bundle import KEYS, read_all
from runtime.net.security import KeyPair

THREE = "hosts: {a: {address: 10.0.0.1}, b: {address: 10.0.0.2}, c: {address: 10.0.0.3}}"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Fresh bundles of three hosts with two agents each."""
    (tmp_path / "hosts.yaml").write_text(THREE)
    out = tmp_path / "out"
    assert keys.main(["--hosts", f"{tmp_path}/hosts.yaml", "--agents", "6", "--out", f"{out}"]) == 0
    return out


def everybodys(out: Path) -> dict[str, KeyPair]:
    return {name: pair for bundle in read_all(out) for name, pair in bundle.keys.items()}


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as error:
        keys.main(args)
    assert error.value.code == 2
    return capsys.readouterr().err


def test_everybody_gets_a_key_and_every_host_its_own(
    capsys: pytest.CaptureFixture[str], out: Path
) -> None:
    found = everybodys(out)
    agents, nodes = (f"agent-{i}" for i in range(6)), (f"node-{host}" for host in "abc")
    assert set(found) == {*agents, *nodes, "launcher", "world", "learner"}
    assert len({pair.secret for pair in found.values()}) == 12
    said = capsys.readouterr().out
    assert f"{out / 'b'}: copy it to host b and nowhere else" in said
    assert not any(pair.secret in said for pair in found.values())


def test_one_key_is_rotated_and_everybody_else_keeps_theirs(out: Path) -> None:
    before, deployment = everybodys(out), read_all(out)[0].book.deployment
    assert keys.main(["--out", f"{out}", "--rotate", "agent-3"]) == 0
    after = everybodys(out)
    assert {name for name in before if before[name] != after[name]} == {"agent-3"}
    assert before["agent-3"].secret != after["agent-3"].secret
    books = [bundle.book for bundle in read_all(out)]
    assert {book.public["agent-3"] for book in books} == {after["agent-3"].public}
    assert {book.deployment for book in books} != {deployment}, "old bundles must be told apart"


def test_an_old_secret_is_in_no_bundle_after_rotation(out: Path) -> None:
    old = everybodys(out)["node-b"]
    keys.main(["--out", f"{out}", "--rotate", "node-b", "world"])
    for path in out.rglob("*"):
        if path.is_file():
            assert old.secret not in path.read_text(), path
            assert old.public not in path.read_text(), path


def test_all_keys_are_rotated(out: Path) -> None:
    before = everybodys(out)
    assert keys.main(["--out", f"{out}", "--rotate", "all"]) == 0
    after = everybodys(out)
    assert set(before) == set(after)
    assert not {pair.secret for pair in before.values()} & {p.secret for p in after.values()}


def test_rotation_keeps_the_files_for_the_owner_alone(out: Path) -> None:
    keys.main(["--out", f"{out}", "--rotate", "all"])
    assert {(out / host / KEYS).stat().st_mode & 0o777 for host in "abc"} == {0o600}


def test_a_name_that_nobody_has_is_refused_and_nothing_changes(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everybodys(out)
    said = refusal(capsys, "--out", f"{out}", "--rotate", "agent-1", "agent-6")
    assert "nobody is called agent-6: there are agent-0, agent-1" in said
    assert everybodys(out) == before


def test_keys_that_are_there_are_not_overwritten(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everybodys(out)
    hosts = f"{tmp_path}/hosts.yaml"
    said = refusal(capsys, "--hosts", hosts, "--agents", "6", "--out", f"{out}")
    assert f"{out / 'a'} exists: replace its keys with --rotate all" in said
    assert everybodys(out) == before


def test_rotation_needs_bundles_and_all_of_them(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no bundles here" in refusal(capsys, "--out", f"{tmp_path}/x", "--rotate", "all")
    manifest = out / "b" / "bundle.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 9}))
    assert "bundle format 9" in refusal(capsys, "--out", f"{out}", "--rotate", "all")


@pytest.mark.parametrize("args", [(), ("--hosts", "x"), ("--agents", "3")])
def test_what_is_missing_is_asked_for(capsys: pytest.CaptureFixture[str], args: str) -> None:
    assert "give --hosts and --agents" in refusal(capsys, "--out", "o", *args)


def test_a_bad_hosts_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "h").write_text("hosts: {}")
    said = refusal(capsys, "--hosts", f"{tmp_path}/h", "--agents", "2", "--out", f"{tmp_path}/o")
    assert "between 1 and 256 hosts" in said
    assert not (tmp_path / "o").exists()
