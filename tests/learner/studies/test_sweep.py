"""A sweep is a study made of a command line."""

from pathlib import Path

import pytest

from configs.load import ConfigError
from learner.studies.plan import Request, plan
from learner.studies.sweep import SweepOptions, arms_of, main, study_of

WORDS = ("--env", "relay", "--agents", "4", "--steps", "200", "--comm", "none")


def test_every_combination_of_the_values_is_an_arm() -> None:
    arms = arms_of(["gate.price=0,0.5", "comm=sops,none"])
    assert list(arms) == [
        *("gate.price=0 comm=sops", "gate.price=0 comm=none"),
        *("gate.price=0.5 comm=sops", "gate.price=0.5 comm=none"),
    ]
    assert arms["gate.price=0.5 comm=none"].options == {"gate.price": "0.5", "comm": "none"}


def test_a_bar_stands_between_values_that_have_commas() -> None:
    assert list(arms_of(["comm.options=a=1,b=2|a=3"])) == [
        "comm.options=a=1,b=2",
        "comm.options=a=3",
    ]


def test_what_is_varied_counts_more_than_what_is_common(tmp_path: Path) -> None:
    options = SweepOptions(vary=("comm=sops,full",), seeds=(5, 6), out=tmp_path, transfer=(8,))
    jobs = plan(study_of(options, WORDS), Request(scale="small", out=tmp_path, base=WORDS)).jobs
    assert [(job.arm, job.seed) for job in jobs] == [
        (f"comm={comm}", seed) for seed in (5, 6) for comm in ("sops", "full")
    ]
    assert [job.config.comm for job in jobs[:2]] == ["sops", "full"]
    assert {(job.config.num_agents, job.config.steps) for job in jobs} == {(4, 200)}
    assert [each.agents for each in jobs[0].wanted.evaluations] == [None, 8]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--vary", "vary: name at least one option and its values"),
        ("--vary gate.price", "vary: gate.price is not of the form name=value"),
        ("--vary seed=1,2", "vary: seed is what a study itself decides"),
        ("--vary comm=none --seeds 1 1", "seeds: each once, got 1 1"),
        ("--vary comm=none -- --env relay --seed 3", "--seed behind --: a sweep decides it itself"),
        ("--vary comm=none -- --env nosuch", "nosuch"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_in_one_line(
    words: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path / "out"), *words.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_seeds_behind_the_dashes_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="--resume behind --"):
        study_of(SweepOptions(vary=("comm=none",)), ("--env", "relay", "--resume", "x"))
