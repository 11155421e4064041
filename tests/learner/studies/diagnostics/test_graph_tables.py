"""Tables 6 and 7 of a policy that exists, against what is known of an open gate."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.policy import PolicyFile, PolicySpec, initialise, save_policy
from configs.errors import UserError
from configs.load import preset_for
from envs.registry import spec_of
from learner.studies.analysis import Finished
from learner.studies.diagnostics.graph_tables import study
from learner.studies.study import read_study


@pytest.fixture
def open_policy(tmp_path: Path) -> Path:
    """Agents of relay whose gates are all open."""
    preset = preset_for("relay")
    env = spec_of(preset.env, 4)
    spec = PolicySpec.of(preset.network, env.observation_dim, env.num_actions)
    flat = initialise(spec, np.random.default_rng(0))
    path = tmp_path / "policy.safetensors"
    save_policy(path, PolicyFile(spec, flat, 1, {"gate_mode": "open"}))
    return path


def finished(folder: Path, *policies: dict[str, Any], episodes: int = 2) -> Finished:
    folder.mkdir(exist_ok=True)
    options = {"policies": list(policies), "episodes": episodes, "paper_of": "sops-table6-7"}
    return Finished("graphs", "smoke", folder, (), options, {})


def entry(policy: Path | str, **changes: Any) -> dict[str, Any]:
    usual = {"task": "relay-8", "arm": "sops", "env": "relay", "agents": 8, "sizes": [16]}
    return {**usual, "policy": f"{policy}", **changes}


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["task"]: row for row in csv.DictReader(file)}


def test_an_open_gate_reaches_what_the_backbone_reaches_and_keeps_all_edges(
    tmp_path: Path, open_policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    text = study(finished(folder, entry(open_policy)))
    assert "graphs of 16" in capsys.readouterr().out
    own, larger = (rows_of(folder / "coverage.csv")[f"relay-8@{n}"] for n in (8, 16))
    # Of 7 and 15 others: at most two and three ones in binary.
    assert float(own["out_degree"]) == 3.0
    assert float(larger["out_degree"]) == 4.0
    assert float(own["coverage_2"]) == pytest.approx(6 / 7)
    assert float(larger["coverage_2"]) == pytest.approx(10 / 15)
    assert float(larger["over_time_3"]) == pytest.approx(14 / 15)
    assert float(larger["whole_3"]) == float(larger["coverage_3"]) == pytest.approx(14 / 15)
    assert "| relay-8 → 16 | sops | 4.000 / – | 0.667 / – |" in text
    # Frequencies that do not vary have no correlation; where zeros count they have one.
    persisted = rows_of(folder / "persistence.csv")["relay-8@16"]
    assert "pearson" not in persisted
    assert 0.0 < float(persisted["pearson_pair_steps"]) < 1.0


def test_what_is_measured_is_kept_and_not_played_again(tmp_path: Path, open_policy: Path) -> None:
    folder = tmp_path / "study"
    first = study(finished(folder, entry(open_policy)))
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("graphs-*.npz")}
    assert len(kept) == 2
    assert study(finished(folder, entry(open_policy))) == first
    assert {path: path.stat().st_mtime_ns for path in folder.glob("graphs-*.npz")} == kept
    study(finished(folder, entry(open_policy), episodes=3))
    assert len(list(folder.glob("graphs-*.npz"))) == 4


def test_the_papers_numbers_stand_beside_ours(tmp_path: Path, open_policy: Path) -> None:
    named = entry(open_policy, task="battle-20", sizes=[64])
    text = study(finished(tmp_path / "study", named))
    assert "/ 3.21 |" in text
    assert "– / 0.93 |" in text


def test_all_numbers_of_tables_6_and_7_are_there() -> None:
    paper = read_study("sops-table6-7").paper
    assert len(paper) == 8
    assert all(len(settings) == 10 for settings in paper.values())


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([], r"^graphs: no policy to look at"),
        ([entry("nowhere.safetensors")], r"there is no file nowhere\.safetensors$"),
        ([{"policy": "shipped"}], r"^policies: missing value for field \"task\"$"),
    ],
)
def test_who_cannot_be_looked_at_is_said_in_a_line(
    tmp_path: Path, policies: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        study(finished(tmp_path / "study", *policies))
