"""Pre-trainings before the trainings of a study: which are made, of what, and how often."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.policy import initialise, views
from agents.pretrained import PretrainedError, save_pretrained
from configs.load import ConfigError, parse_command_line
from learner.pretraining.command import spec_of
from learner.pretraining.folder import alone_in
from learner.pretraining.options import PretrainOptions
from learner.studies import pretrained, run
from learner.studies.child import Stop
from learner.studies.plan import Job, Request, plan
from learner.studies.pretrained import arguments, make
from learner.studies.study import read_study


@dataclass
class Children:
    """In place of processes: they write their file, or fail."""

    code: int = 0
    calls: list[tuple[str, Sequence[str]]] = field(default_factory=list[Any])

    def start(self, module: str, words: Sequence[str], *_: object) -> "Children":
        self.calls.append((module, words))
        if self.code == 0:
            options = parse_command_line(PretrainOptions, words, prog="learner.pretrain")
            write(Path(options.out) / "nvif.safetensors", options)
        return self

    def poll(self) -> int:
        return self.code


def write(file: Path, options: PretrainOptions) -> None:
    """What a pre-training with these options writes, but for its learning."""
    spec = spec_of(options)
    tensors = views(spec, initialise(spec, np.random.default_rng(0)))
    save_pretrained(file, spec, tensors, asdict(options))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Children:
    children = Children()
    monkeypatch.setattr(pretrained, "start", children.start)
    monkeypatch.chdir(tmp_path)
    return children


def jobs_of(tmp_path: Path, *arms: str) -> Sequence[Job]:
    study = read_study("nvif-gather")
    planned = plan(study, Request(scale="small", out=tmp_path, arms=arms, tasks=("random-24",)))
    assert not planned.refusals
    return planned.jobs


def test_trainings_share_a_file_and_those_without_have_none(
    children: Children, tmp_path: Path
) -> None:
    jobs = jobs_of(tmp_path, "nvif-ppo", "nvif-ppo-tuned", "nvif-dqn", "nvif-ppo-none", "ippo")
    make(jobs, {"epochs": 7}, Stop())
    ((module, words),) = children.calls
    assert module == "learner.pretrain"
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given == {
        "--out": "results/studies/pretrained/gather-random-15",
        "--env": "gather",
        "--env.options": "layout=random,position=true",
        "--agents": "15",
        "--comm": "nvif",
        "--comm.options": "neighbours=true",
        "--message-dtype": "float16",
        "--epochs": "7",
    }
    make(jobs, {"epochs": 7}, Stop())
    assert len(children.calls) == 1, "what is there is not made again"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"agents": 27}, "was made with agents 27, these trainings ask for 15: move it away"),
        ({"env_options": "layout=clustered,position=true"}, "made with env_options 'layout=clus"),
        ({"env_options": "nonsense=1"}, "made with env_options 'nonsense=1', these trainings"),
        ({"env": "battle"}, "made with env 'battle', these trainings ask for 'gather'"),
        ({"message_dtype": "float32"}, "made with message_dtype 'float32', these"),
        ({"epochs": 8}, "made with epochs 8, these trainings ask for 7"),
        ({"kl": 0.0}, "made with kl 0.0, these trainings ask for 1.0"),
        ({"seed": 7}, "made with seed 7, these trainings ask for 0"),
        ({"comm_options": "neighbours=false"}, "made with comm_options 'neighbours=false', these"),
    ],
)
def test_a_file_that_was_made_otherwise_is_refused(
    children: Children, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    jobs = jobs_of(tmp_path, "nvif-ppo")
    make(jobs, {"epochs": 7}, Stop())
    file = Path(jobs[0].config.pretrained)
    words = children.calls[0][1]
    made = asdict(parse_command_line(PretrainOptions, words, prog="learner.pretrain")) | change
    spec = spec_of(PretrainOptions(out="there", env_options="position=true"))
    save_pretrained(file, spec, views(spec, initialise(spec, np.random.default_rng(0))), made)
    with pytest.raises(ConfigError, match=re.escape(says)):
        make(jobs, {"epochs": 7}, Stop())


def test_what_another_call_is_at_is_waited_for(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(tmp_path, "nvif-ppo")
    file = Path(jobs[0].config.pretrained)
    looks = 0

    def sleep(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            write(file, PretrainOptions(out="-", env_options="layout=random,position=true"))

    monkeypatch.setattr(pretrained.time, "sleep", sleep)
    with alone_in(file.parent):
        make(jobs, {}, Stop())
    assert looks == 3
    assert not children.calls


def test_a_scheme_without_options_is_pre_trained_as_it_will_run(tmp_path: Path) -> None:
    """learner.pretrain has another default than runs have."""
    job = jobs_of(tmp_path, "nvif-ppo")[0]
    config = replace(job.config, comm_options="")
    found = arguments(config, Path("there/nvif.safetensors"), {})
    options = parse_command_line(PretrainOptions, found, prog="learner.pretrain")
    spec = replace(spec_of(options), scheme_options="")
    assert spec_of(options).scheme_opts() == spec.scheme_opts()
    assert not spec.scheme_opts().neighbours


def test_options_of_the_environment_may_be_said_otherwise(
    children: Children, tmp_path: Path
) -> None:
    jobs = jobs_of(tmp_path, "nvif-ppo")
    file = Path(jobs[0].config.pretrained)
    file.parent.mkdir(parents=True)
    words = "position=true,layout=random"
    write(file, PretrainOptions(out="there", env_options=words))
    make(jobs, {}, Stop())
    assert not children.calls


def test_a_file_that_cannot_be_read_is_refused(children: Children, tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "nvif-ppo")
    file = Path(jobs[0].config.pretrained)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    with pytest.raises(PretrainedError, match="cannot be read"):
        make(jobs, {}, Stop())
    assert not children.calls


def test_options_of_the_scheme_are_those_of_the_training(tmp_path: Path) -> None:
    study = read_study("nvif-gather")
    words = ("--comm.options", "latent=8")
    request = Request(scale="small", out=tmp_path, arms=("nvif-ppo",), words=words)
    job = plan(study, request).jobs[0]
    found = arguments(job.config, Path("there/nvif.safetensors"), {})
    assert found[found.index("--comm.options") + 1] == "latent=8"


def test_a_pre_training_that_fails_is_one_line(children: Children, tmp_path: Path) -> None:
    children.code = 3
    with pytest.raises(ConfigError, match=r"failed with code 3: see .*output\.txt"):
        make(jobs_of(tmp_path, "nvif-ppo"), {}, Stop())


def test_what_fails_before_the_trainings_is_one_line(
    children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    children.code = 3
    arguments = ["nvif-gather", "--arms", "nvif-ppo", "--out", f"{tmp_path}"]
    with pytest.raises(SystemExit) as ended:
        run.main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "its pre-training failed with code 3" in told
