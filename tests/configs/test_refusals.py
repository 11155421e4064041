"""What cannot be run is refused before anything starts: one line, exit code 2, no folder."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agents.policy import PolicySpec
from configs.load import load_run_config, preset_for
from configs.schema import LearnerConfig, RunConfig
from envs import registry
from learner import opponent
from learner.studies import gate_curve, mask_plot, plot, run
from runtime import deploy, evaluate, keys, launch
from runtime.host import join, preflight
from runtime.net.errors import SetupError

DIGITS = "9" * 5000


def refusal(
    main: Callable[[Sequence[str]], int], words: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> str:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert len(line) < 300
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--learner.threads 99999999999999", "learner.threads must be between 0 and 512, got 9999"),
        ("--algorithm qmix --learner.mixing-embed 999999999", "learner.mixing_embed must be betw"),
        (f"--evaluation.episodes {'9' * 26}", "evaluation.episodes must be between 0 and 10^6"),
        (f"--evaluation.episodes {DIGITS}", "--evaluation.episodes: more digits than a number may"),
        ("--runtime.silent-timeout-s inf --env.shards 2", "runtime.silent_timeout_s must be in [1"),
        (
            "--rebalance --runtime.rebalance-after-s 3",
            "runtime.rebalance_after_s must be at least runtime.host_timeout_s (5), got 3",
        ),
        ("--learner.reward-scale nan", "learner.reward_scale must be in [1e-06, 10^6], got nan"),
    ],
)
@pytest.mark.parametrize("env", ["relay", "battle"])
def test_a_run_that_cannot_be_is_refused(
    env: str,
    words: str,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = ("--runtime.runs-dir", str(tmp_path / "runs"), "--metrics-port", "0")
    arguments = ["--env", env, "--agents", "20", *runs, *words.split()]
    assert refusal(launch.main, arguments, capsys).startswith(says)
    assert list(tmp_path.glob("runs/*")) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--learner.teacher nosuch", "--learner.teacher: 'nosuch' is no opponent with a file"),
        ("--learner.teacher scripted", "--learner.teacher: 'scripted' is no opponent with a file"),
        ("--agents.adviser nosuch", "--agents.adviser: no opponent 'nosuch'"),
        ("--opponent nosuch+idqn", "--opponent: no opponent 'nosuch'"),
        ("--evaluation-opponent nosuch", "--opponent: no opponent 'nosuch'"),
        ("--opponent random,idqn@99999999999999", "opponent phases must begin at 0 and rise to"),
    ],
)
def test_players_that_there_are_not_are_refused(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ("--runtime.runs-dir", str(tmp_path / "runs"), "--metrics-port", "0")
    arguments = ["--env", "battle", "--agents", "20", *runs, *words.split()]
    assert refusal(launch.main, arguments, capsys).startswith(says)
    assert list(tmp_path.glob("runs/*")) == []


def test_cuda_without_a_gpu_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = ["--device", "cuda", "--env", "relay", "--metrics-port", "0"]
    refused = refusal(launch.main, [*words, "--runtime.runs-dir", f"{tmp_path / 'runs'}"], capsys)
    assert refused.startswith("--device cuda: torch finds no GPU that it can use")
    assert list(tmp_path.glob("runs/*")) == []


@pytest.mark.parametrize(
    ("main", "words"),
    [
        *((launch.main, [flag, ""]) for flag in ("--policy", "--resume", "--config", "--hosts")),
        (launch.main, ["--policy="]),
        (launch.main, ["--runtime.runs_dir="]),
        *((evaluate.main, ["--policy", "x", flag, ""]) for flag in ("--hosts", "--record")),
        (evaluate.main, ["--policy", ""]),
        (deploy.main, ["--policy", "", "--agents", "4", "--hosts", "h", "--out", "o"]),
        (deploy.main, ["--policy", "p", "--agents", "4", "--hosts", "h", "--out="]),
        (join.main, ["--bundle", ""]),
        (join.main, ["--bundle", "x", "--join", ""]),
        (keys.main, ["--out", "", "--hosts", "h", "--agents", "3"]),
        (opponent.main, ["--out", ""]),
        (plot.main, ["x", "--out", ""]),
        (mask_plot.main, ["x", "--out="]),
        (gate_curve.main, ["x", "--out", ""]),
    ],
)
def test_an_option_of_an_unset_variable_is_refused(
    main: Callable[[Sequence[str]], int], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is empty: give it a value, or leave the option out" in refusal(main, words, capsys)


@pytest.fixture
def run_folder(tmp_path: Path) -> str:
    run = tmp_path / "run"
    run.mkdir()
    (run / "episodes.jsonl").write_text("")
    return str(run)


@pytest.mark.parametrize(
    ("main", "words", "says"),
    [
        (evaluate.main, "--policy untrained --env relay --agents 4 --record FILE/x", "--record"),
        (opponent.main, "--out FILE/x --agents 20", "--out"),
        (opponent.main, "--out FOLDER --agents 20", "is a folder: give the name of a file"),
        (run.main, "mast --out FILE/x", "--out"),
        (plot.main, "FOLDER/run --out FILE/x.png", "--out"),
        (plot.main, "FOLDER/run --out FOLDER/x.xyz", "is no picture"),
        (mask_plot.main, "FOLDER/run --out FILE/x.png", "--out"),
        (mask_plot.main, "FOLDER/run --out FOLDER/x", "is no picture"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    main: Callable[[Sequence[str]], int],
    words: str,
    says: str,
    run_folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    named = words.replace("FILE", f"{tmp_path / 'file'}").replace("FOLDER", f"{tmp_path}")
    assert says in refusal(main, named.split(), capsys)


def test_options_that_presets_set_can_be_taken_back() -> None:
    config = load_run_config(["--learner.teacher", "", "--agents.adviser="])
    assert (config.learner.teacher, config.agents.adviser) == ("", "")
    assert preset_for("battle").learner.teacher == "idqn"


def test_an_evaluation_looks_up_its_opponents(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--policy", "untrained", "--env", "battle", "--agents", "20", "--opponent", "nosuch"]
    assert refusal(evaluate.main, words, capsys).startswith("--opponent: no opponent 'nosuch'")


# --- memory and devices ---------------------------------------------------------------------------


def require_memory(config: RunConfig) -> None:
    env = registry.spec_of(config.env, config.num_agents)
    spec = PolicySpec.of(config.network, env.observation_dim, env.num_actions)
    preflight.require_memory(config, spec, env)


def test_networks_that_no_machine_holds_are_named_with_their_options() -> None:
    battle = preset_for("battle")
    require_memory(replace(battle, learner=replace(battle.learner, algorithm="qmix")))
    large = LearnerConfig(algorithm="qmix", mixing_embed=1024, hypernet_embed=1024)
    relay = replace(preset_for("relay"), num_agents=4096)
    with pytest.raises(SetupError, match=r"^the mixer \(learner\.mixing_embed 1024, .* take 85\.9"):
        require_memory(replace(relay, learner=large))
    require_memory(replace(relay, learner=replace(large, device="cuda")))
    with pytest.raises(SetupError, match=r"^a batch of 65536 episodes \(learner\.batch_size, "):
        require_memory(replace(battle, learner=LearnerConfig(batch_size=65_536, max_backlog=1)))
    with pytest.raises(SetupError, match=r"^networks of 4096 agents \(network\.hidden 4096\) "):
        require_memory(replace(relay, network=replace(relay.network, hidden=4096)))
    elsewhere = replace(relay.runtime, hosts="hosts.yaml")
    require_memory(replace(relay, network=replace(relay.network, hidden=4096), runtime=elsewhere))


def test_ranks_without_a_gpu_each_are_refused_only_if_there_are_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "_COUNT_GPUS", "print(0)")
    preflight.require_device(LearnerConfig(ranks=2))
    preflight.require_device(LearnerConfig(device="cpu"))
    monkeypatch.setattr(preflight, "_COUNT_GPUS", "print(1)")
    preflight.require_device(LearnerConfig(device="cuda"))
    with pytest.raises(SetupError, match=r"^--learner\.ranks 2 need a GPU each, torch finds 1: "):
        preflight.require_device(LearnerConfig(ranks=2))


def test_a_torch_that_cannot_be_asked_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "_COUNT_GPUS", "raise ImportError('no torch today')")
    with pytest.raises(SetupError, match=r"cannot be asked for GPUs: ImportError: no torch today$"):
        preflight.require_device(LearnerConfig(device="cuda"))


def test_threads_of_the_learner_count_among_those_of_a_run() -> None:
    assert preflight.tasks_needed(100, 64) == preflight.tasks_needed(100) + 64


def test_options_that_a_file_gives_can_be_taken_back() -> None:
    words = ["--config", "configs/nvif/ppo.yaml", "--comm", "none", "--comm.options", ""]
    config = load_run_config([*words, "--algorithm.options", ""])
    assert (config.comm, config.comm_options, config.learner.options) == ("none", "", "")
