"""From a study to cells and commands."""

from dataclasses import replace
from pathlib import Path

import pytest

from configs.load import ConfigError, dump_run_config, load_run_config
from configs.run_files import RESOLVED
from learner.studies.cells import Evaluation, State
from learner.studies.plan import Plan, Request, evaluations_of, flags, plan, whole
from learner.studies.study import Arm, Scale, Study, Task
from tests.learner.studies.test_cells import begin

STUDY = Study(
    name="one",
    title="One",
    options={"learner.gamma": 0.5, "gate.budget": 1},
    tasks={
        "relay-4": Task(env="relay", agents=4, transfer=(8,)),
        "relay-6": Task(env="relay", agents=6, options={"gate.budget": 2}),
    },
    arms={
        "sops": Arm(),
        "none": Arm(options={"comm": "none", "gate.budget": 3}),
        "central": Arm(options={"comm": "full"}, central=True),
    },
    scales={
        "smoke": Scale(seeds=(3, 1), steps=400, episodes=4, options={"learner.gamma": 0.6}),
        "small": Scale(seeds=(0,), steps=900, tasks=("relay-4",), arms=("sops",)),
    },
)


def planned(tmp_path: Path, study: Study = STUDY, **request: object) -> Plan:
    return plan(study, replace(Request(scale="smoke", out=tmp_path), **request))  # type: ignore[arg-type]  # fields by name


def test_a_study_without_episodes_has_no_evaluations_and_one_of_memory_says_so(
    tmp_path: Path,
) -> None:
    scales = {"smoke": replace(STUDY.scales["smoke"], episodes=0)}
    jobs = planned(tmp_path, replace(STUDY, scales=scales, memory=True)).jobs
    assert {job.wanted.evaluations for job in jobs} == {()}
    assert all(job.memory for job in jobs)
    usual = planned(tmp_path).jobs[0]
    assert (len(usual.wanted.evaluations), usual.memory) == (2, False)
    begin(jobs[0].cell, 400)
    assert jobs[0].cell.standing(jobs[0].wanted).state is State.DONE


def test_a_seed_of_everything_comes_before_the_next_seed(tmp_path: Path) -> None:
    jobs = planned(tmp_path).jobs
    tasks_and_arms = [(t, a) for t in ("relay-4", "relay-6") for a in ("sops", "none", "central")]
    assert [(j.task, j.arm, j.seed) for j in jobs] == [
        (*pair, seed) for seed in (3, 1) for pair in tasks_and_arms
    ]


def test_the_more_special_option_counts(tmp_path: Path) -> None:
    configs = {(job.task, job.arm): job.config for job in planned(tmp_path).jobs}
    assert configs["relay-4", "sops"].learner.gamma == 0.6, "the scale's"
    assert configs["relay-4", "sops"].gate.budget == 1, "the study's"
    assert configs["relay-6", "sops"].gate.budget == 2, "the task's"
    assert configs["relay-6", "none"].gate.budget == 3, "the arm's"
    (job,) = planned(tmp_path, tasks=("relay-6",), arms=("sops",), seeds=(7,)).jobs
    assert (job.config.steps, job.config.num_agents, job.config.seed) == (400, 6, 7)
    assert load_run_config(job.arguments) == job.config, "what is started is what was planned"
    more = planned(tmp_path, words=("--learner.gamma", "0.7"), steps=80, episodes=9).jobs[0]
    assert (more.config.learner.gamma, more.wanted.steps, more.wanted.episodes) == (0.7, 80, 9)


def test_a_central_arm_is_trained_in_one_process_and_evaluated_by_simulation(
    tmp_path: Path,
) -> None:
    sops, _, central = planned(tmp_path, tasks=("relay-4",), seeds=(0,)).jobs
    assert (sops.config.runtime.serial, sops.wanted.simulate) == (False, False)
    assert (central.config.runtime.serial, central.wanted.simulate) == (True, True)
    begin(central.cell, 400)
    assert central.evaluate(Evaluation(8))[-1] == "--simulate"


def test_evaluations_are_of_the_trained_size_first_and_of_the_environments_opponents() -> None:
    assert evaluations_of(STUDY.tasks["relay-4"]) == (Evaluation(), Evaluation(8))
    battle = Task(env="battle", agents=20)
    assert [each.opponent for each in evaluations_of(battle)] == ["scripted", "idqn"]
    moved = replace(battle, transfer=(64,), opponents=("idqn",))
    assert evaluations_of(moved) == (Evaluation(None, "idqn"), Evaluation(64, "idqn"))


def test_an_evaluation_plays_what_was_trained_at_the_size_that_is_asked_for(
    tmp_path: Path,
) -> None:
    tasks = {"battle": Task(env="battle", agents=20, opponents=("idqn",))}
    study = replace(STUDY, tasks=tasks, scales={"smoke": STUDY.scales["smoke"]})
    job = planned(tmp_path, study, arms=("sops",)).jobs[0]
    begin(job.cell, 400)
    words = job.evaluate(Evaluation(42, "idqn"))
    assert words[words.index("--agents") + 1] == "42"
    assert words[words.index("--opponent") + 1] == "idqn"
    assert words[words.index("--episodes") + 1] == "4"
    assert "--simulate" not in words


def test_the_best_policy_is_evaluated_where_a_scale_asks_for_it(tmp_path: Path) -> None:
    study = replace(
        STUDY,
        scales={"smoke": replace(STUDY.scales["smoke"], policy="best", tasks=("relay-4",))},
    )
    job = planned(tmp_path, study, arms=("sops",)).jobs[0]
    begin(job.cell, 400)
    first = job.wanted.evaluations[0]
    assert job.evaluate(first)[1].endswith("policy-best.safetensors")
    assert job.cell.evaluation_path(first).name == "evaluation-best.json"
    assert job.cell.evaluation_path(Evaluation(8, best=True)).name == "evaluation-at-8-best.json"


def test_a_guide_that_leaves_no_policy_is_not_evaluated_again(tmp_path: Path) -> None:
    arms = {"sable": Arm(options={"algorithm": "sable", "comm": "none"})}
    scales = {"smoke": replace(STUDY.scales["smoke"], arms=(), by_arm={})}
    study = replace(STUDY, arms=arms, scales=scales)
    (job,) = planned(tmp_path, study, tasks=("relay-4",), seeds=(0,)).jobs
    assert job.wanted.evaluations == ()


def test_what_cannot_run_is_a_refusal_beside_the_jobs(tmp_path: Path) -> None:
    arms = {"sops": Arm(), "odd": Arm(options={"comm": "nosuch"}), "own": Arm(options={"seed": 1})}
    found = planned(tmp_path, replace(STUDY, arms=arms), tasks=("relay-4",))
    assert {job.arm for job in found.jobs} == {"sops"}
    assert [each.arm for each in found.refusals] == ["odd", "own"]
    assert "nosuch" in found.refusals[0].why
    assert found.refusals[1].why == "seed: a study says so elsewhere"


def test_drawn_actions_in_a_simulation_are_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    drawn = {"algorithm": "ippo", "comm": "none", "evaluation.sampled": True}
    study = replace(STUDY, arms={"sops": Arm(), "drawn": Arm(options=drawn)})
    assert planned(tmp_path, study).refusals == ()
    scales = {"smoke": replace(STUDY.scales["smoke"], simulate=True)}
    found = planned(tmp_path, replace(study, scales=scales), tasks=("relay-4",))
    assert [each.arm for each in found.refusals] == ["drawn"]
    assert "leave out the scale's simulate or evaluation.sampled" in found.refusals[0].why


def test_two_studies_share_the_cells_whose_options_are_the_same(tmp_path: Path) -> None:
    scales = {"smoke": STUDY.scales["smoke"]}
    other = replace(STUDY, name="two", title="Two", arms={"ours": Arm()}, scales=scales)
    first = {job.cell.folder for job in planned(tmp_path).jobs if job.arm == "sops"}
    assert {job.cell.folder for job in planned(tmp_path, other).jobs} == first


def test_a_cell_that_was_begun_with_other_options_is_refused(tmp_path: Path) -> None:
    job = planned(tmp_path).jobs[0]
    other = replace(job.config, learner=replace(job.config.learner, gamma=0.4))
    (begin(job.cell, 100) / RESOLVED).write_text(dump_run_config(other))
    with pytest.raises(ConfigError, match=r"was begun with other learner\.gamma \(0\.4, "):
        planned(tmp_path)


def test_an_unknown_name_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no task relay-5: choose from relay-4, relay-6"):
        planned(tmp_path, tasks=("relay-5",))
    with pytest.raises(ConfigError, match="there is no arm x: choose from sops, none, central"):
        planned(tmp_path, arms=("x",))
    with pytest.raises(ConfigError, match="one has no scale paper: choose from smoke, small"):
        planned(tmp_path, scale="paper")


def test_the_whole_of_a_study_is_its_scale_and_what_was_asked_for_besides(tmp_path: Path) -> None:
    asked = Request(scale="small", out=tmp_path, arms=("none",), seeds=(4,))
    assert whole(STUDY, asked) == replace(
        asked, tasks=("relay-4",), arms=("sops", "none"), seeds=(0, 4)
    )


def test_options_are_words_of_a_command_line() -> None:
    options = {"comm": "none", "comm.options": "k=3", "learner.teacher": "", "double": True}
    assert flags(options) == (
        *("--comm", "none", "--comm.options", "k=3", "--learner.teacher", "", "--double"),
    )
    assert flags({"runtime.telemetry": False}) == ("--runtime.no-telemetry",)
    assert flags({"sparse.dense": ["scorer", "messages"]}) == (
        *("--sparse.dense", "scorer", "messages"),
    )
    (_, preset) = flags({"config": "mast/relay-mast.yaml"})
    assert Path(preset).is_file()
