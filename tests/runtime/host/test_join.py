"""python -m runtime.node: what cannot be is refused in one line, and nothing is started."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, save_policy
from runtime.deployment.body_endpoint import DEFAULT_BODY
from runtime.deployment.bundle import DeployOptions, make_keys, write_bundles
from runtime.deployment.hosts import Host, Hosts
from runtime.host import join
from tests.agents_helpers import make_spec

HOSTS = Hosts((Host("a", "127.0.0.1", 7400, (0, 1)),), "a")


class Node:
    """The command, with a bundle that could be served."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        spec, path = make_spec(), folder / "policy.safetensors"
        save_policy(path, PolicyFile(spec, np.zeros(spec.size, np.float32), 3, {}))
        self._policy = path.read_bytes()
        self.make()

    def make(self, *, deployed: bool = True, body: str = "") -> None:
        options = DeployOptions(comm="sops", gate_mode="learned", body=body or DEFAULT_BODY)
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.bundle,) = write_bundles(
            self.folder / "out",
            HOSTS,
            make_keys(HOSTS),
            policy=self._policy if deployed else None,
            options=options if deployed else None,
        )

    def refusal(self, *args: str, bundle: Path | None = None) -> str:
        runs = self.folder / "runs"
        try:
            code = join.main(
                ["--bundle", f"{bundle or self.bundle}", "--runs-dir", f"{runs}", *args]
            )
        except SystemExit as end:
            code = end.code
        assert code == 2
        assert not runs.exists()
        (line,) = self._capsys.readouterr().err.splitlines()
        return line


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Node:
    return Node(tmp_path, capsys)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--metrics-port", "99999"), "metrics-port must be between 0 and 65535, got 99999"),
        (("--metrics-port", "-1"), "metrics-port must be between 0 and 65535, got -1"),
        (("--metrics-address", "no such host"), "metrics port 9464 on no such host cannot be used"),
        (("--metrics-address", "x" * 300), "cannot be used"),
        (("--silent-timeout-s", "-1"), "silent-timeout-s must be in [1, 86400], got -1.0"),
        (("--silent-timeout-s", "nan"), "silent-timeout-s must be in [1, 86400], got nan"),
        (("--start-timeout-s", "nan"), "start-timeout-s must be in [1, 86400], got nan"),
        (("--timeout-s", "nan"), "timeout-s must be in (0, 86400], got nan"),
        (("--timeout-s", "0"), "timeout-s must be in (0, 86400], got 0.0"),
        (("--metrics-linger-s", "inf"), "metrics-linger-s must be in [0, 600], got inf"),
        (("--max-restarts", "-1"), "max-restarts must be between 0 and 10^6, got -1"),
        (("--updates", "no/such/folder"), "--updates no/such/folder: there is no such folder"),
        (
            ("--join", "10.0.0.1", "--updates", "."),
            "--updates is for a deployed policy: leave it out",
        ),
        (("--join", "10.0.0.1"), "holds a deployed policy: leave out --join"),
    ],
)
def test_a_value_that_cannot_be_is_refused(node: Node, args: tuple[str, ...], says: str) -> None:
    assert says in node.refusal(*args)


@pytest.mark.parametrize("head", ["10.0.0.1:99999", "10.0.0.1:0", ":7401", "10.0.0.1:x"])
def test_a_head_that_is_no_address_is_refused(node: Node, head: str) -> None:
    node.make(deployed=False)
    assert f"--join {head}: expected ADDRESS or ADDRESS:PORT" in node.refusal("--join", head)


def test_a_bundle_too_deep_for_sockets_is_refused_before_agents_fail(node: Node) -> None:
    deep = node.folder / ("d" * 100)
    shutil.copytree(node.bundle, deep)
    assert "a Unix socket takes between 1 and 107" in node.refusal(bundle=deep)


@pytest.mark.parametrize("body", ["tcp://0.0.0.0:{port}", "ipc:///x", "ipc:///{bundle.parent}"])
def test_a_body_that_cannot_be_is_refused(node: Node, body: str) -> None:
    node.make(body=body)
    assert f"body {body}" in node.refusal()


def test_a_folder_for_runs_that_cannot_be_made_is_refused(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be made" in node.refusal("--runs-dir", f"{tmp_path / 'file' / 'runs'}")
