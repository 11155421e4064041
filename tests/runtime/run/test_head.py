"""The head of a run across hosts: which bundles it needs, and what it tells people to do."""

import shutil
from pathlib import Path

import pytest

from runtime.deployment.bundle import make_keys, write_bundles
from runtime.deployment.hosts import load_hosts
from runtime.net.errors import SetupError
from runtime.run.head import invitations, open_bundles

HOSTS = """
head: a
hosts:
  a: {address: 127.0.0.1}
  b: {address: b.example.org}
"""


def hosts_file(folder: Path) -> Path:
    path = folder / "hosts.yaml"
    path.write_text(HOSTS)
    return path


def test_a_head_makes_keys_once_and_says_where_to_copy_them(tmp_path: Path) -> None:
    first = open_bundles(hosts_file(tmp_path), tmp_path / "bundles", 4)
    again = open_bundles(hosts_file(tmp_path), tmp_path / "bundles", 4)
    assert first.book.deployment == again.book.deployment
    assert invitations(first) == [
        f"copy {tmp_path}/bundles/b to host b (b.example.org), and run there:\n"
        "  python -m runtime.node --join 127.0.0.1 --bundle b"
    ]


def test_a_head_needs_no_bundle_but_its_own(tmp_path: Path) -> None:
    path = hosts_file(tmp_path)
    hosts = load_hosts(path, 4)
    write_bundles(tmp_path / "bundles", hosts, make_keys(hosts))
    shutil.rmtree(tmp_path / "bundles" / "b")
    head = open_bundles(path, tmp_path / "bundles", 4)
    assert head.host.name == "a"
    assert invitations(head) == [
        "run on host b (b.example.org), which has its bundle:\n"
        "  python -m runtime.node --join 127.0.0.1 --bundle b"
    ]
    with pytest.raises(SetupError, match="made for other hosts, addresses or shares"):
        open_bundles(path, tmp_path / "bundles", 5)
