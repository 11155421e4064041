import io
from typing import Any

from rich.console import Console

from runtime.terminal.figures_table import figures_table

FIGURES: dict[str, Any] = {
    "env": "battle",
    "opponent": "idqn+scripted",
    "agents": 20,
    "env_copies": 16,
    "algorithm": "vdn",
    "gate_budget": 0,
    "seed": 1_000_000,
    "wall_s": 12.3456,
    "evaluation_episodes": 20,
    "return_mean": 4.835,
    "return_error": 0.125,
    "win_rate": 0.95,
    "open_share": 0.35,
    "out_degree_mean": 1.75,
    "message_payload_bytes": 12_162_783,
    "beacon_payload_bytes": 999,
    "edge_tcp_bytes": 0,
    "edge_bytes_per_agent_step": 346.04,
    "edge_latency_p50_us": 212.5,
    "policy_bytes": 0,
    "policy_shared_bytes": 0,
    "agent_restarts": 0,
    "messages_dropped": 3,
    "dropped_by_agents": {"full": 2, "stale": 1},
    "active_weights": None,
    "version_bytes_by_form": {},
    "by_opponent": {
        "idqn": {"episodes": 10, "win_rate": 0.9, "return_mean": 4.0},
        "scripted": {"episodes": 10, "win_rate": 1.0, "return_mean": 5.0},
    },
    "exit_reason": "finished",
}


def rows(figures: dict[str, Any]) -> list[str]:
    """What is printed, with the blanks between label and value as a colon."""
    console = Console(file=io.StringIO(), width=100)
    console.print(figures_table(figures))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return [
        ": ".join(filter(None, line.strip().split("  "))).replace(":  ", ": ") for line in lines
    ]


def test_figures_stand_in_groups_with_their_units() -> None:
    assert rows(FIGURES) == [
        "Result",
        "episodes: 20",
        "win rate: 95.0%",
        "return: 4.835 ± 0.125",
        "against idqn: 90.0% of 10 won",
        "against scripted: 100.0% of 10 won",
        "Setting",
        "environment: battle",
        "opponent: idqn+scripted",
        "agents: 20",
        "environment copies: 16",
        "seed: 1,000,000",
        "Edges",
        "out-degree: 1.750 edges per agent-step",
        "open share: 35.0%",
        "bytes on edges: 346.0 B per agent-step",
        "messages: 12.2 MB",
        "beacons: 999 B",
        "latency, median: 212.5 µs",
        "Trouble",
        "dropped packets: 3",
        "of them by agents: full 2, stale 1",
        "Run",
        "time: 12.35 s",
        "end: finished",
    ]


def test_what_is_empty_is_left_out_and_a_result_of_zero_is_not() -> None:
    printed = rows({"win_rate": 0.0, "return_mean": 0.0, "return_error": None, "opponent": ""})
    assert printed == ["Result", "win rate: 0.0%", "return: 0"]


def test_a_figure_without_a_group_is_not_lost() -> None:
    assert rows({"new_figure": 0.5, "newer": None}) == ["Other", "new_figure: 0.5"]


def test_an_environments_own_figures_are_results() -> None:
    figures = {
        "win_rate": None,
        "return_mean": 2.0,
        "headline": "tags",
        "metrics": {"food_eaten": 4.5},
        "metrics_error": {"food_eaten": 0.25},
        "by_opponent": {"random": {"episodes": 3, "return_mean": 1.5, "food_eaten": 4.5}},
    }
    text = "\n".join(rows(figures))
    assert "win rate" not in text
    assert "food eaten" in text
    assert "4.5 ± 0.25" in text
    assert "return 1.5, food eaten 4.5 in 3 episodes" in text
