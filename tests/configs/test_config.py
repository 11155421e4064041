import os
import subprocess
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.extensions import ENVIRONMENT, own_names
from configs.load import (
    ConfigError,
    dump_run_config,
    exit_with_error,
    load_run_config,
    parse_command_line,
    parse_run_config,
    preset_for,
)
from configs.schema import (
    AgentsConfig,
    EnvConfig,
    LearnerConfig,
    RunConfig,
    SparseConfig,
)

PRESETS = Path(__file__).parents[2] / "configs"
PRESET_NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def leaves(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= leaves(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}  # type: ignore[arg-type]
    return flat


# --- sources and their order ----------------------------------------------------------------------


@pytest.mark.parametrize("env", PRESET_NAMES)
def test_every_environment_has_a_preset_that_holds_only_differences(env: str) -> None:
    assert preset_for(env).env.name == env
    defaults = leaves(asdict(RunConfig()))
    given = leaves(yaml.safe_load((PRESETS / f"{env}.yaml").read_text()))
    assert [key for key, value in given.items() if defaults[key] == value] == []


def test_presets_are_packaged_next_to_the_loader() -> None:
    assert {"battle", "relay"} <= set(PRESET_NAMES) <= set(own_names(ENVIRONMENT))


def test_no_arguments_give_the_preset_of_battle() -> None:
    assert load_run_config([]) == preset_for("battle")


def test_command_line_beats_file_beats_preset_beats_schema(tmp_path: Path) -> None:
    file = write(
        tmp_path / "f.yaml", "num_agents: 64\nseed: 7\nlearner: {batch_size: 3, gamma: 1}\n"
    )
    config = load_run_config(["--config", file, "--env", "relay", "--agents", "8"])
    relay = preset_for("relay")
    assert (config.num_agents, config.seed, config.env.name) == (8, 7, "relay")
    assert (config.learner.batch_size, config.learner.gamma) == (3, 1.0)
    assert config.learner.learning_rate == relay.learner.learning_rate != 5e-4
    assert config.gate == relay.gate


def test_config_file_chooses_the_preset_of_its_environment(tmp_path: Path) -> None:
    file = write(tmp_path / "f.yaml", "env: {name: relay}\nnum_agents: 4\n")
    assert load_run_config(["--config", file]) == replace(preset_for("relay"), num_agents=4)


def test_environment_on_the_command_line_chooses_the_preset_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "f.yaml", "env: {name: relay}\n")
    assert load_run_config([f"--config={file}", "--env=battle"]) == preset_for("battle")


def test_a_preset_draws_in_evaluations_only_from_policies_with_probabilities(
    tmp_path: Path,
) -> None:
    """In CoordSum a policy that is predicted loses; value-based algorithms have no other."""
    game = ["--env", "coord-sum"]
    assert load_run_config(game).evaluation.sampled
    assert load_run_config([*game, "--algorithm", "ippo"]).evaluation.sampled
    assert not load_run_config([*game, "--algorithm", "iql"]).evaluation.sampled
    file = write(tmp_path / "f.yaml", "env: {name: coord-sum}\nlearner: {algorithm: vdn}\n")
    greedy = load_run_config(["--config", file])
    assert not greedy.evaluation.sampled
    assert greedy.evaluation.episodes == preset_for("coord-sum").evaluation.episodes
    assert load_run_config(["--config", file, "--algorithm=mappo"]).evaluation.sampled
    with pytest.raises(ConfigError, match="unknown algorithm 'nosuch'"):
        load_run_config([*game, "--algorithm", "nosuch"])
    with pytest.raises(ConfigError, match=r"evaluation.sampled draws from a policy's prob"):
        load_run_config([*game, "--algorithm", "iql", "--evaluation.sampled"])


def test_rollouts_refuse_what_they_cannot_give() -> None:
    game = ["--env", "relay", "--algorithm", "mappo"]
    with pytest.raises(ConfigError, match=r"gate.estimator arm draws gates anew: give straight"):
        load_run_config([*game, "--gate.estimator", "arm"])
    fixed = [*game, "--algorithm.options", "rollout_steps=10,minibatches=4"]
    with pytest.raises(ConfigError, match=r"2 copies makes at most as many minibatches, got 4"):
        load_run_config([*fixed, "--env-copies", "2"])
    assert load_run_config([*fixed, "--env-copies", "4"]).env.copies == 4


def test_empty_config_file_changes_nothing(tmp_path: Path) -> None:
    assert load_run_config(["--config", write(tmp_path / "f.yaml", "")]) == preset_for("battle")


def test_all_flags_that_the_documentation_promises_work() -> None:
    flags = (
        "--agents 5 --env relay --steps 9 --env-copies 3 --seed 4 --algorithm vdn --comm none "
        "--gate.timing paper --gate.mode open --opponent scripted --policy p.safetensors "
        "--transport tcp --device cpu --metrics-port 0 --metrics-per-edge --agents.dead relay "
        "--agents.record-q --learner.batch-size 2 --learner.learning_rate 1e-3"
    )
    config = load_run_config(flags.split())
    assert (config.num_agents, config.steps, config.seed, config.comm) == (5, 9, 4, "none")
    assert config.env == replace(config.env, name="relay", copies=3, opponent="scripted")
    assert (config.gate.timing, config.gate.mode, config.policy) == (
        "paper",
        "open",
        "p.safetensors",
    )
    assert config.agents == replace(config.agents, dead="relay", record_q=True)
    runtime = config.runtime
    assert (runtime.transport, runtime.metrics_port, runtime.metrics_per_edge) == ("tcp", 0, True)
    learner = config.learner
    assert (learner.algorithm, learner.device, learner.batch_size) == ("vdn", "cpu", 2)
    assert learner.learning_rate == 1e-3


def test_help_explains_every_option_and_leaves_with_zero(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        load_run_config(["--env", "relay", "--help-all"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--config FILE", "--agents INT", "--comm.options", "--env-copies INT", "--resume"):
        assert flag in text
    assert "; default: 32)" in text  # relay's copies: the preset's value, not the schema's
    for group in fields(RunConfig):
        assert group.name in ("num_agents", "comm_options") or group.name in text


# --- the resolved configuration -------------------------------------------------------------------


def test_resolved_configuration_survives_the_way_through_its_file() -> None:
    config = RunConfig(
        num_agents=3,
        env=EnvConfig(name="relay", opponent="a/b c: #.safetensors"),
        agents=AgentsConfig(dead="relay", record_q=True),
        learner=LearnerConfig(learning_rate=1e-7, gamma=1.0),
    )
    text = dump_run_config(config)
    assert parse_run_config(text) == config
    assert leaves(yaml.safe_load(text)).keys() == leaves(asdict(config)).keys()


def test_resumed_run_continues_with_its_own_configuration(tmp_path: Path) -> None:
    before = replace(preset_for("relay"), num_agents=6, seed=3)
    write(tmp_path / "config.yaml", dump_run_config(before))
    config = load_run_config(["--resume", str(tmp_path), "--seed", "8"])
    assert config == replace(before, resume=str(tmp_path), seed=8)


@pytest.mark.parametrize(
    "name",
    ["mellowmax_alpha", "mellowmax_omega", "res_beta", "huber", "learning_rate", "critic_rate"],
)
def test_what_would_make_every_loss_infinite_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"learner\.{name} must be in .*, got inf"):
        LearnerConfig(**{name: float("inf")})  # type: ignore[arg-type]


def test_resume_refuses_a_second_base(tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", dump_run_config(preset_for("relay")))
    with pytest.raises(ConfigError, match="cannot be combined with --resume"):
        load_run_config(["--resume", str(tmp_path), "--config", "x.yaml"])
    with pytest.raises(ConfigError, match=r"does not fit --resume .*, a run of relay"):
        load_run_config(["--resume", str(tmp_path), "--env", "battle"])


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ("--sparse.method none", "sparse.method none does not fit"),
        ("--sparse.sparsity 0.5", "sparse.sparsity 0.5 does not fit .* a run with 0.8"),
        ("--sparse.pattern block", "sparse.pattern"),
        ("--sparse.dense scorer", "sparse.dense"),
        ("--algorithm vdn", "learner.algorithm vdn"),
        ("--network.hidden 32", "network.hidden 32"),
        ("--agents 7", "num_agents 7 does not fit"),
        ("--sparse.method set --sparse.period 7 --sparse.fraction 0.1 --learner.gamma 0.9", None),
        ("--network.beacon-delta 0.1 --steps 9 --learner.publish sparse", None),
    ],
)
def test_a_resumed_run_keeps_what_its_checkpoint_stands_on(
    flags: str, what: str | None, tmp_path: Path
) -> None:
    sparse = SparseConfig(method="rigl", sparsity=0.8)
    before = replace(preset_for("relay"), num_agents=6, sparse=sparse)
    before = replace(before, learner=replace(before.learner, algorithm="qmix"))
    write(tmp_path / "config.yaml", dump_run_config(before))
    argv = ["--resume", str(tmp_path), *flags.split()]
    if what is None:
        assert load_run_config(argv) != before
        return
    with pytest.raises(ConfigError, match=what):
        load_run_config(argv)


def test_without_masks_or_a_mixer_there_is_less_to_keep(tmp_path: Path) -> None:
    before = replace(preset_for("relay"), num_agents=6)
    write(tmp_path / "config.yaml", dump_run_config(before))
    resumed = ["--resume", str(tmp_path)]
    argv = [*resumed, "--agents", "7", "--sparse.sparsity", "0.5"]
    assert load_run_config(argv).num_agents == 7
    with pytest.raises(ConfigError, match=r"sparse\.method rigl does not fit .* a run with none"):
        load_run_config([*resumed, "--sparse.method", "rigl"])


def test_resume_of_a_folder_without_a_run_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: No such file"):
        load_run_config(["--resume", str(tmp_path)])


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("learner: {gama: 0.9}", "unknown key learner.gama, did you mean learner.gamma?"),
        ("learner: {batch-size: 3}", "did you mean learner.batch_size?"),
        ("gamma: 0.9", "unknown key gamma, did you mean learner.gamma?"),
        ("zzz: 1", "unknown key zzz (known: num_agents, "),
        ("1: 2", "unknown key 1 "),
        ("agents: 100", "(for the number of agents write num_agents: 100)"),
        ("learner: {gamma: high}", "learner.gamma must be a number, got 'high'"),
        ("learner: {learning_rate: 3e-4}", "learner.learning_rate must be a number, got '3e-4'"),
        ("learner: {learning_rate: 3e-4}", "write 3.0e-4"),
        ("learner: {learning_rate: 2.5e3}", "write 2.5e+3"),
        ("steps: 1e6", "steps must be an integer, got '1e6' (write 1000000)"),
        ("steps: 1e999", "steps must be an integer, got '1e999'"),
        ("seed: 3.5", "seed must be an integer, got 3.5"),
        ("seed: true", "seed must be an integer, got True"),
        ("learner: {gamma: true}", "learner.gamma must be a number, got True"),
        ("learner: {double_q: 1}", "learner.double_q must be true or false, got 1"),
        ("policy: 3", "policy must be text, got 3"),
        ("learner: {gamma: 2.0}", "learner.gamma must be in (0, 1], got 2.0"),
        ("env: {name: foo}", "unknown environment 'foo', choose from "),
        ("env: relay", "env must be a group of keys, got 'relay'"),
        ("env:", "env must be a group of keys, got None"),
        ("env: [3]", "env must be a group of keys, got [3]"),
        ("seed: 1\nseed: 2", "key seed is given twice (line 1, column 1)"),
        ("learner: [", "not valid YAML"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("? [a]\n: 3", "not valid YAML"),
        ("- 3", "expected keys and values, got list"),
        ("resume: runs/x", "resume belongs on the command line: --resume runs/x"),
    ],
)
def test_bad_file_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    file = write(tmp_path / "f.yaml", text)
    with pytest.raises(ConfigError) as refused:
        load_run_config(["--config", file])
    assert str(refused.value).startswith(f"{file}: ")
    assert complaint in str(refused.value)


def test_unreadable_file_is_refused_by_name(tmp_path: Path) -> None:
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "missing.yaml", tmp_path, binary):
        with pytest.raises(ConfigError, match="cannot be read") as refused:
            load_run_config(["--config", str(file)])
        assert str(refused.value).startswith(str(file))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--agnets 4", "unknown option --agnets, did you mean --agents?"),
        ("--lerner.gamma 0.5", "unknown option --lerner.gamma, did you mean --learner.gamma?"),
        ("stray", "unknown option stray"),
        ("--agents x", "--agents: expected an integer, got 'x'"),
        ("--learner.gamma x", "--learner.gamma: expected a number, got 'x'"),
        ("--seed", "--seed needs a value"),
        ("--config", "--config needs a value"),
        ("--agents 1", "agents must be between 2 and 4096, got 1"),
        ("--learner.gamma 2.0", "learner.gamma must be in (0, 1], got 2.0"),
        ("--env-copies 0", "env.copies must be between 1 and 1024, got 0"),
    ],
)
def test_bad_option_is_refused_in_one_clear_line(arguments: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_run_config(arguments.split())
    assert str(refused.value) == complaint


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_refusal_is_one_clear_line_whatever_the_terminal_can_show(encoding: str) -> None:
    code = (
        "import sys; from configs.load import *; from runtime.evaluate import EvaluateOptions\n"
        "try: parse_command_line(EvaluateOptions, sys.argv[1:], prog='x')\n"
        "except ConfigError as error: exit_with_error(error)"
    )
    refused = subprocess.run(
        [sys.executable, "-c", code, "--policy=x", "--episodes=0"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert refused.stderr == b"error: episodes must be between 1 and 10^6, got 0\n"


def test_unknown_environment_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="unknown environment 'foo', choose from") as refused:
        preset_for("foo")
    for name in own_names(ENVIRONMENT):
        assert name in str(refused.value)


def test_error_leaves_as_one_line_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        exit_with_error(ConfigError("first\n  second \x1b[2J"))
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: first second ?[2J\n"


@dataclass(frozen=True)
class Evaluate:
    episodes: int = 20
    """Episodes to play."""


def test_other_commands_parse_their_own_options_the_same_way() -> None:
    options = parse_command_line(
        Evaluate, ["--episodes", "3"], default=Evaluate(), prog="python -m learner.evaluate"
    )
    assert options == Evaluate(3)
    with pytest.raises(ConfigError, match="unknown option --episode, did you mean --episodes"):
        parse_command_line(Evaluate, ["--episode", "3"], default=Evaluate(), prog="evaluate")


def test_loading_a_configuration_imports_neither_torch_nor_numpy() -> None:
    code = "import configs.load, sys; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0


def test_a_start_may_take_longer_with_more_agents() -> None:
    few, many = RunConfig(num_agents=4), RunConfig(num_agents=1000)
    assert few.start_patience_s == pytest.approx(few.runtime.start_timeout_s + 0.8)
    assert many.start_patience_s == pytest.approx(many.runtime.start_timeout_s + 200.0)
