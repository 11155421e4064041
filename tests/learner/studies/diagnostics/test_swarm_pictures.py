"""Figures 9 and 10 of a policy that exists, in a small battle."""

from pathlib import Path

from learner.studies.analysis import Finished
from learner.studies.diagnostics.swarm_pictures import snapshots, subgraphs


def test_an_episode_on_the_map_is_a_picture_and_counts_of_both_teams(tmp_path: Path) -> None:
    policy = {"task": "battle-20", "arm": "sops", "policy": "shipped", "env": "battle"}
    options = {"policies": [{**policy, "agents": 20, "sizes": [8]}], "times": [0, 2]}
    of = Finished("sops-fig10", "smoke", tmp_path, (), options, {})
    assert "| 20 → 8 | 0: 8 / 8, 2: 8 / 8 |" in snapshots(of)
    text = subgraphs(of)
    assert "| 20 → 8 | " in text
    for name in ("snapshots.png", "subgraphs.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
