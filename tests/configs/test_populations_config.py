"""`learner.also_agents`: further numbers of agents."""

from pathlib import Path

import pytest

from configs.load import ConfigError, dump_run_config, load_run_config, parse_run_config


def test_numbers_of_agents_come_from_files_and_flags_and_survive_a_dump(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("learner: {also_agents: [4, 64]}\n")
    config = load_run_config(["--config", str(file)])
    assert config.learner.also_agents == (4, 64)
    assert parse_run_config(dump_run_config(config)) == config
    assert parse_run_config("learner: {also_agents: 4}").learner.also_agents == (4,)
    assert load_run_config(["--also-agents", "8", "9"]).learner.also_agents == (8, 9)


@pytest.mark.parametrize("value", ["4.5", "[4.5]", "[true]", "[four]", "{4: 5}"])
def test_what_is_not_a_list_of_integers_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"learner\.also_agents must be a list of integers, got"):
        parse_run_config(f"learner: {{also_agents: {value}}}\n")


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ("{also_agents: [1]}", r"learner\.also_agents must be between 2 and 4096, got 1"),
        ("{also_agents: [8, 8]}", "names a number twice"),
        ("{also_agents: [8], ranks: 2}", r"trains with learner\.ranks 1"),
        ("{also_agents: [8], aux: contrast}", r"without learner\.aux contrast"),
    ],
)
def test_numbers_that_no_learner_can_train_for_are_refused(learner: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_run_config(f"learner: {learner}\n")
