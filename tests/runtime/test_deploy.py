"""python -m runtime.deploy: a policy becomes bundles, or one line says why not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, PolicySpec, load_policy, save_policy
from configs.schema import NetworkConfig
from runtime import deploy, keys
from runtime.deployment.bundle import POLICY, read_all
from runtime.deployment.update_file import NAME as UPDATE
from runtime.deployment.update_file import addressed
from tests.agents_helpers import make_spec

HOSTS = "hosts: {a: {address: 10.0.0.1}, b: {address: 10.0.0.2, agents: 1}}"


class Desk:
    """A policy, a hosts file, and the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = folder / "out"
        self._policy, self.hosts = folder / "policy.safetensors", folder / "hosts.yaml"
        self.hosts.write_text(HOSTS)
        self._capsys = capsys
        self.train()

    def train(self, comm: str = "sops", **trained: str) -> None:
        spec = PolicySpec.of(NetworkConfig(), 5, 4, comm=comm) if comm == "full" else make_spec()
        trained = {"comm": comm, **trained}
        flat = np.zeros(spec.size, np.float32)
        save_policy(self._policy, PolicyFile(spec, flat, 3, trained))

    @property
    def policy(self) -> bytes:
        return self._policy.read_bytes()

    def deploy(self, *args: str) -> str:
        files = ("--policy", f"{self._policy}", "--hosts", f"{self.hosts}", "--out", f"{self.out}")
        assert deploy.main([*files, "--agents", "3", *args]) == 0
        return self._capsys.readouterr().out

    def refusal(self, *args: str) -> str:
        with pytest.raises(SystemExit) as error:
            self.deploy(*args)
        assert error.value.code == 2
        assert not self.out.exists()
        return self._capsys.readouterr().err


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_every_host_gets_the_policy_its_share_and_the_way_to_start(desk: Desk) -> None:
    desk.train(comm="none", gate_mode="open", gate_timing="causal")
    said = desk.deploy("--rate-hz", "20", "--max-message-age-steps", "3", "--seed", "5")
    a, b = read_all(desk.out)
    assert (a.host.agents, b.host.agents) == ((0, 1), (2,))
    for bundle in (a, b):
        assert bundle.policy is not None
        assert bundle.policy.version == 3
        assert (bundle.folder / POLICY).read_bytes() == desk.policy
        options = bundle.options
        assert options is not None
        assert (options.comm, options.gate_mode) == ("none", "open")
        assert (options.rate_hz, options.max_message_age_steps, options.seed) == (20.0, 3, 5)
    assert f"copy {desk.out / 'a'} to host a, and there:" in said
    assert "python -m runtime.node --bundle b" in said


def test_a_deployment_can_have_its_keys_rotated(desk: Desk) -> None:
    desk.deploy("--rate-hz", "20")
    before = read_all(desk.out)
    keys.main(["--out", f"{desk.out}", "--rotate", "all"])
    for old, new in zip(before, read_all(desk.out), strict=True):
        assert old.options == new.options
        assert (new.folder / POLICY).read_bytes() == desk.policy
        assert not {pair.secret for pair in old.keys.values()} & {
            pair.secret for pair in new.keys.values()
        }


def test_a_policy_trained_with_two_exchanges_in_a_step_is_refused(desk: Desk) -> None:
    desk.train(gate_timing="paper")
    assert "trained with gate.timing paper" in desk.refusal()


def test_more_edges_than_an_agent_may_have_are_refused(desk: Desk) -> None:
    desk.train(comm="full")
    said = desk.refusal("--agents", "300")
    assert "policy.safetensors: an agent may have 256 out-edges, and with 300 agents" in said


@pytest.mark.parametrize("key", ["comm", "gate_mode"])
def test_a_policy_that_was_trained_in_an_unknown_way_is_refused(desk: Desk, key: str) -> None:
    desk.train(**{key: "telepathy"})
    assert f"policy says {key} 'telepathy'" in desk.refusal()


@pytest.mark.parametrize(
    "body",
    [
        "tcp://0.0.0.0:{port}",
        "tcp://*:{port}",
        "tcp://10.0.0.1:{port}",
        "tcp://robot.local:{port}",
        "{agent}",
    ],
)
def test_a_body_that_others_could_reach_is_refused(desk: Desk, body: str) -> None:
    assert "can be reached from other machines" in desk.refusal("--body", body)


@pytest.mark.parametrize(
    "body",
    [
        "ipc:///run/{robot}",
        "ipc:///run/{}",
        "tcp://127.0.0.1:{port",
        "{bundle.__init__.__globals__}",
        "ipc:///run/{agent:9999999}",
    ],
)
def test_a_body_with_braces_that_mean_nothing_is_refused(desk: Desk, body: str) -> None:
    assert "in braces may stand" in desk.refusal("--body", body)


@pytest.mark.parametrize("body", ["ipc:///run/body", "tcp://127.0.0.1:8000", "ipc://{bundle}/body"])
def test_a_body_that_is_the_same_for_all_agents_is_refused(desk: Desk, body: str) -> None:
    assert "is the same for all agents" in desk.refusal("--body", body)


def test_a_local_body_of_any_kind_is_taken(desk: Desk) -> None:
    desk.deploy("--body", "tcp://127.0.0.1:{port}")
    assert read_all(desk.out)[1].body_endpoint(2) == "tcp://127.0.0.1:8002"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--rate-hz", "-1"), "rate-hz must be in [0, 1000]"),
        (("--rate-hz", "1001"), "rate-hz must be in [0, 1000]"),
        (("--rate-hz", "nan"), "rate-hz must be in [0, 1000]"),
        (("--gate.budget", "-1"), "gate.budget must be between 0 and 12"),
        (("--seed", "-1"), "seed must be between 0 and 2147483647, got -1"),
        (("--seed", "9" * 26), "seed must be between 0 and 2147483647"),
        (("--max-message-age-steps", "0"), "max-message-age-steps must be between 1 and 100"),
        (("--policy", "no/such/file"), "no/such/file"),
        (("--hosts", "no/such/file"), "no/such/file: cannot be read"),
        (("--agents", "1"), "agents must be between 2 and 4096, got 1"),
        (("--agents", "5000"), "agents must be between 2 and 4096, got 5000"),
        (("--policy", "p" * 300), "cannot be read"),
        (("--body", "ipc:///" + "b" * 110 + "-{agent}"), "a Unix socket takes between 1 and 107"),
        (("--body", "tcp://127.0.0.1:{agent}"), "has no port between 1 and 65535"),
        (("--body", "ipc://"), "a Unix socket takes between 1 and 107"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    desk: Desk, args: tuple[str, ...], says: str
) -> None:
    assert says in desk.refusal(*args)


def test_a_folder_with_something_else_in_it_is_left_alone(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk.out / "b").mkdir(parents=True)
    (desk.out / "b" / "mine").write_text("x")
    with pytest.raises(SystemExit):
        desk.deploy()
    assert "holds something that is no bundle" in capsys.readouterr().err
    assert [path.name for path in desk.out.iterdir()] == ["b"]


def test_a_folder_whose_name_is_too_long_is_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.out = desk.out / ("o" * 300)
    with pytest.raises(SystemExit) as error:
        desk.deploy()
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written: File name too long" in line


# --- an update, as far as nobody need run ---------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as error:
        deploy.main(args)
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_an_update_of_another_kind_is_refused_before_anybody_is_asked(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    desk.deploy()
    newer, spec = tmp_path / "newer.safetensors", make_spec()
    update = ("--policy", f"{newer}", "--update", f"{desk.out}")
    flat = np.zeros(spec.size, np.float32)
    wider = replace(spec, hidden=spec.hidden + 1)
    save_policy(newer, PolicyFile(wider, np.zeros(wider.size, np.float32), 4, {}))
    says = f"hidden is {wider.hidden}, deployed is {spec.hidden}: deploy this policy anew"
    assert says in refused(capsys, *update)
    ways = {"comm": "none", "gate_mode": "open", "gate_timing": "paper", "gate_budget": "2"}
    for key, value in ways.items():
        save_policy(newer, PolicyFile(spec, flat, 4, {key: value}))
        assert f"{key.replace('_', '.')} is {value}, deployed is" in refused(capsys, *update)
    flat[3] = np.nan
    save_policy(newer, PolicyFile(spec, flat, 4, {}))
    assert "holds values that are not finite" in refused(capsys, *update)


def test_only_the_heads_bundle_can_push(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.deploy()
    update = ("--policy", f"{desk.out / 'a' / POLICY}", "--update", f"{desk.out / 'b'}")
    assert "the head's key is in the bundle of host a" in refused(capsys, *update)
    keys.main(["--hosts", f"{desk.hosts}", "--agents", "3", "--out", f"{desk.out}-run"])
    capsys.readouterr()
    update = ("--policy", f"{desk.out / 'a' / POLICY}", "--update", f"{desk.out}-run")
    assert "has no policy: it is for runs" in refused(capsys, *update)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--update", "bundles", "--agents", "3"), "--agents is settled when a policy is deployed"),
        (("--update", "bundles", "--rate-hz", "3"), "--rate-hz is settled when a policy is"),
        (("--update", "no/such/folder"), "no bundles here"),
        (("--as-version", "3", "--update", "x", "--watch-s", "-1"), "watch-s must be in [0, 3600]"),
        (("--agents", "3", "--hosts", "hosts.yaml"), "--out is missing: give --agents, --hosts"),
        (("--agents", "3", "--hosts", "h", "--out", "o", "--watch-s", "3"), "belongs to --update"),
    ],
)  # fmt: skip
def test_options_of_deploying_and_of_updating_are_not_mixed(
    desk: Desk, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], says: str
) -> None:
    desk.deploy()
    assert says in refused(capsys, "--policy", f"{desk.out / 'a' / POLICY}", *args)


@pytest.mark.parametrize("has_it", ["ab", "b"])
def test_rotated_keys_come_with_the_version_that_was_pushed_last(desk: Desk, has_it: str) -> None:
    desk.deploy()
    pushed = load_policy(desk.out / "a" / POLICY)
    deployment = read_all(desk.out)[0].book.deployment
    for name in has_it:
        save_policy(desk.out / name / UPDATE, addressed(pushed, deployment, 8))
    keys.main(["--out", f"{desk.out}", "--rotate", "all"])
    assert [bundle.policy.version for bundle in read_all(desk.out) if bundle.policy] == [8, 8]
