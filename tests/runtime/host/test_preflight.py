import resource
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.policy import PolicyFile, PolicySpec, initialise, save_policy
from configs.schema import (
    AgentsConfig,
    EnvConfig,
    LearnerConfig,
    NetworkConfig,
    RunConfig,
    RuntimeConfig,
)
from envs.base import EnvSpec
from envs.registry import spec_of
from envs.spaces import ActionSpace, Box, Discrete
from runtime.host import preflight
from runtime.net.errors import SetupError
from runtime.net.topology import exponential

SPEC = PolicySpec.of(NetworkConfig(hidden=4, message=4), observation_dim=3, num_actions=2)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    runtime = RuntimeConfig(metrics_port=0, runs_dir=str(tmp_path / "deep" / "runs"))
    return RunConfig(num_agents=4, runtime=runtime)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Limits of open files that last as long as the test: the last one holds."""
    history = [(256, 2048)]

    def getrlimit(_: int) -> tuple[int, int]:
        return history[-1]

    def setrlimit(_: int, limits: tuple[int, int]) -> None:
        history.append(limits)

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return history


def save(path: Path, spec: PolicySpec = SPEC) -> str:
    flat = initialise(spec, np.random.default_rng(0))
    save_policy(path, PolicyFile(spec=spec, flat=flat, version=1, trained={}))
    return str(path)


def test_run_that_can_start_passes_and_leaves_nothing_behind(config: RunConfig) -> None:
    preflight.check(config, SPEC)
    assert list(Path(config.runtime.runs_dir).iterdir()) == []


def test_sufficient_limit_of_open_files_is_left_alone(limits: list[tuple[int, int]]) -> None:
    preflight.require_open_files(exponential(40))
    assert limits == [(256, 2048)]


def test_soft_limit_is_raised_where_that_is_enough(limits: list[tuple[int, int]]) -> None:
    preflight.require_open_files(exponential(100))
    assert limits[1:] == [(2048, 2048)]


def test_hard_limit_that_is_too_low_names_what_is_needed(limits: list[tuple[int, int]]) -> None:
    with pytest.raises(
        SetupError, match=r"1000 agents need 3100 .* limit is 2048: .*ulimit -n 3100"
    ):
        preflight.require_open_files(exponential(1000))
    assert len(limits) == 1


def test_a_machine_that_allows_too_few_processes_is_refused_with_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preflight.require_tasks(1000)  # this machine does

    def read_text(path: Path) -> str:
        files = {
            "/proc/sys/kernel/pid_max": "4194304\n",
            "/proc/sys/kernel/threads-max": "3299\n",
            "/proc/self/cgroup": "0::/box/inner\n",
            "/sys/fs/cgroup/box/inner/pids.max": "max\n",
            "/sys/fs/cgroup/box/pids.max": "2000\n",
        }
        try:
            return files[str(path)]
        except KeyError:
            raise FileNotFoundError(path) from None

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(SetupError, match=r"^1000 agents need 3300 .*threads-max allows 3299: "):
        preflight.require_tasks(1000)
    with pytest.raises(SetupError, match=r"^600 agents need 2100 .*pids\.max allows 2000: "):
        preflight.require_tasks(600)
    preflight.require_tasks(566)


def test_taken_metrics_port_is_refused(config: RunConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        runtime = replace(config.runtime, metrics_port=port)
        with pytest.raises(SetupError, match=str(port)):
            preflight.check(replace(config, runtime=runtime), SPEC)


def test_metrics_address_of_another_machine_is_refused(config: RunConfig) -> None:
    runtime = replace(config.runtime, metrics_port=9464, metrics_address="192.0.2.1")
    with pytest.raises(SetupError, match=r"192\.0\.2\.1 .*--metrics-address"):
        preflight.check(replace(config, runtime=runtime), SPEC)


def test_runs_folder_that_cannot_be_written_is_refused(config: RunConfig, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    runtime = replace(config.runtime, runs_dir=str(in_the_way))
    with pytest.raises(
        SetupError, match=r"runs folder .*file cannot be written .*--runtime.runs-dir"
    ):
        preflight.check(replace(config, runtime=runtime), SPEC)


def test_policy_that_fits_passes(config: RunConfig, tmp_path: Path) -> None:
    preflight.check(replace(config, policy=save(tmp_path / "p.safetensors")), SPEC)


def test_policy_that_does_not_fit_is_refused_by_its_dimensions(
    config: RunConfig, tmp_path: Path
) -> None:
    file = save(tmp_path / "p.safetensors", replace(SPEC, num_actions=5))
    with pytest.raises(SetupError, match="num_actions is 5, this run has 2"):
        preflight.check(replace(config, policy=file), SPEC)


def test_policy_that_cannot_be_read_is_refused(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere\.safetensors cannot be read"):
        preflight.check(replace(config, policy=str(tmp_path / "nowhere.safetensors")), SPEC)


def with_populations(*also: int, algorithm: str = "iql", env: str = "relay") -> RunConfig:
    learner = LearnerConfig(algorithm=algorithm, also_agents=also)
    return RunConfig(num_agents=16, env=EnvConfig(name=env), learner=learner)


def test_further_populations_are_taken_where_agents_share_everything() -> None:
    for algorithm in ("iql", "vdn"):
        config = with_populations(4, 64, algorithm=algorithm)
        preflight.require_populations(config, spec_of(config.env, 16))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (with_populations(4, algorithm="qmix"), "qmix has a weight for each agent"),
        (with_populations(4, algorithm="random"), "which algorithm random does not"),
        (with_populations(4, 16), "--also-agents 16: the run's own agents are as many"),
        (
            replace(with_populations(4), agents=AgentsConfig(record_q=True)),
            "leave out --agents.record-q",
        ),
    ],
    ids=["weights of agents", "no replay", "its own size", "records values"],
)
def test_a_population_that_cannot_be_trained_is_refused(config: RunConfig, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        preflight.require_populations(config, spec_of(config.env, 16))


def test_a_population_that_the_environment_does_not_take_is_refused() -> None:
    config = with_populations(4000, env="battle")
    with pytest.raises(ValueError, match="4000"):
        preflight.require_populations(config, spec_of(config.env, 16))


def test_a_population_with_more_edges_than_an_agent_may_have_is_refused() -> None:
    config = replace(with_populations(300), comm="full")
    with pytest.raises(SetupError, match="--also-agents 300: an agent may have 256 out-edges"):
        preflight.require_populations(config, spec_of(config.env, 16))


def test_a_name_that_is_ours_is_an_address_to_listen_on() -> None:
    preflight.require_local_address("localhost", "host a", name_patience_s=0.0)


def test_a_name_is_waited_for_until_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, answers = socket.socket.bind, iter(["unknown", "192.0.2.1", "127.0.0.1"])

    def bind(end: socket.socket, where: tuple[str, int]) -> None:
        assert where[0] == "node-0.cluster"
        answer = next(answers)  # of cluster DNS: not yet, the former life's, ours
        if answer == "unknown":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        ours(end, (answer, where[1]))

    monkeypatch.setattr(
        preflight.socket, "socket", type("Socket", (socket.socket,), {"bind": bind})
    )
    preflight.require_local_address("node-0.cluster", "host a")
    assert not list(answers)
    assert capsys.readouterr().out == (
        "host a with address node-0.cluster, which cannot be looked up (Name or service not known)"
        ": waiting up to 60 s for it\n"
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [("no-such-host.invalid", "cannot be looked up"), ("192.0.2.1", "this machine does not have")],
)
def test_an_address_that_is_not_ours_is_refused(name: str, says: str) -> None:
    with pytest.raises(SetupError, match=f"host a with address {name}, which {says}"):
        preflight.require_local_address(name, "host a", name_patience_s=0.0)


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        (Box((-1.0,), (1.0,)), "actions of battle are real numbers: take another scheme"),
        (
            Discrete(2050),
            "battle has 2050 of them, more than float16 tells apart: give --network.me",
        ),
    ],
)
def test_actions_that_no_message_can_name_are_refused(
    actions: ActionSpace, complaint: str, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, comm="mfq")
    preflight.require_scheme(config)
    other = replace(spec_of(config.env, config.num_agents), actions=actions)

    def of_another(*_: object) -> EnvSpec:
        return other

    monkeypatch.setattr(preflight.registry, "spec_of", of_another)
    with pytest.raises(SetupError, match=complaint):
        preflight.require_scheme(config)
    preflight.require_scheme(replace(config, comm="full"))


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({"learner": {"algorithm": "magpo"}}, "the guide of algorithm magpo plays"),
        ({"agents": {"adviser": "scripted"}}, "the adviser scripted may play"),
    ],
)
def test_agents_that_say_what_another_may_not_play_are_refused(
    changes: dict[str, dict[str, str]], who: str, config: RunConfig
) -> None:
    for part, fields_of in changes.items():
        changed = replace(getattr(config, part), **fields_of)
        config = replace(config, **{part: changed})
    preflight.require_speakers(replace(config, comm="full"))
    with pytest.raises(SetupError, match=f"says what an agent has chosen, and {who}"):
        preflight.require_speakers(replace(config, comm="mfq"))
