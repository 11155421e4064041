"""Study files: those that come with the project, and what is refused in others."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.load import ConfigError
from learner.studies.plan import Request, plan
from learner.studies.study import Study, function_of, names, read_study

GOOD: dict[str, Any] = {
    "title": "One",
    "tasks": {"relay-4": {"env": "relay", "agents": 4}},
    "arms": {"sops": None, "none": {"options": {"comm": "none"}}},
    "scales": {"smoke": {"seeds": [0, 1], "steps": 200}},
}


def scale(**changes: Any) -> dict[str, Any]:
    return {"scales": {"smoke": {"seeds": [0], **changes}}}


def written(tmp_path: Path, content: Any) -> str:
    path = tmp_path / "one.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def test_a_file_becomes_a_study(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, GOOD))
    assert (study.name, study.title) == ("one", "One")
    assert study.tasks["relay-4"].agents == 4
    assert study.arms["sops"].options == {}, "nothing behind a name is an arm without options"
    assert study.scales["smoke"].seeds == (0, 1)
    assert study.scales["smoke"].episodes == 100


def test_a_study_that_is_like_another_says_only_how_its_scales_differ(tmp_path: Path) -> None:
    other = read_study("sops-fig3")
    mine = {"smoke": {"steps": 100, "serial": False, "options": {"env-copies": 3}}, "small": None}
    study = read_study(written(tmp_path, {**GOOD, "like": "sops-fig3", "scales": mine}))
    assert study.scales.keys() == other.scales.keys()
    smoke, theirs = study.scales["smoke"], other.scales["smoke"]
    assert (smoke.steps, smoke.serial, smoke.simulate) == (100, False, True)
    assert smoke.options == {**theirs.options, "env-copies": 3}
    assert smoke.tasks == (), "tasks and arms are each study's own"
    assert study.scales["paper"].options == other.scales["paper"].options


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tiltle": "x"}, "tiltle"),
        ({"tasks": {"relay-4": {"env": "relay", "agents": "four"}}}, "agents"),
        ({"scales": {"huge": {"seeds": [0]}}}, "scales"),
        ({"scales": {}}, "scales: name at least one of smoke, small and paper"),
        ({"scales": {"smoke": {"seeds": []}}}, "scales.smoke.seeds: name at least one"),
        ({"like": "sops-fig33"}, "there is no study sops-fig33"),
        ({"like": "sops-fig4"}, "like: sops-fig4 is itself like sops-fig3: name that one"),
        ({"like": "sops-fig3", "scales": [1]}, "scales: expected keys and values"),
        ({"like": "sops-fig3", "scales": {"smoke": {"options": [1]}}}, "options"),
        ({"like": "sops-fig3", "scales": {"smoke": [1]}}, "scales.smoke: expected keys and values"),
        ({"like": "sops-fig3", "scales": {"huge": {"seeds": [0]}}}, "scales"),
        ({"arms": {}}, "arms: tasks want at least one"),
        (scale(arms=["gacg"]), "scales.smoke.arms: there is no gacg"),
        (scale(tasks=["x"]), "scales.smoke.tasks: there is no x"),
        (scale(by_task={"x": {}}), "scales.smoke.by_task: there is no x"),
        ({"paper": {"auc": {"relay-5": {"sops": 1}}}}, "paper.auc: there is no relay-5"),
        ({"paper": {"auc": {"relay-4@8": {"sosp": 1}}}}, "paper.auc.relay-4@8: there is no sosp"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_and_says_where(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = written(tmp_path, {**GOOD, **change})
    with pytest.raises(ConfigError) as error:
        read_study(path)
    assert str(error.value).startswith(path)
    assert says in str(error.value)


def test_what_is_no_mapping_or_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected keys and values"):
        read_study(written(tmp_path, "- 1\n"))
    with pytest.raises(ConfigError, match=r"there is no study sops-fig33: choose from .*mast"):
        read_study("sops-fig33")
    with pytest.raises(ConfigError, match="there is no such function"):
        function_of("learner.studies.nothing:here")


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_arm_of_every_study_of_ours_is_one_that_runtime_launch_would_take(
    name: str, tmp_path: Path
) -> None:
    study = read_study(name)
    for scale in study.scales:
        planned = plan(study, Request(scale=scale, out=tmp_path))
        assert planned.refusals == ()
        assert bool(planned.jobs) is bool(study.tasks)


@pytest.mark.parametrize("name", names())
def test_every_study_of_ours_can_be_read_and_names_functions_that_exist(name: str) -> None:
    study: Study = read_study(name)
    assert study.reproduces
    for address in (*(step.run for step in (*study.before, *study.analysis)), study.methods):
        if address:
            assert callable(function_of(address))
