"""Pre-trainings before the trainings of a study: which are made, of what, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError
from learner.studies import pretrained
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
            (Path(words[words.index("--out") + 1]) / "nvif.safetensors").touch()
        return self

    def poll(self) -> int:
        return self.code


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
    make(jobs, {}, Stop())
    assert len(children.calls) == 1, "what is there is not made again"


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
