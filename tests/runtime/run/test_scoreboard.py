import dataclasses
import json

import pytest

from configs.schema import EnvConfig, EvaluationConfig, GateConfig, RunConfig, RuntimeConfig
from runtime.net import wire
from runtime.net.traffic import REASONS
from runtime.run.scoreboard import RECENT_EPISODES, Scoreboard, labels_of
from runtime.run.view import RunSnapshot

CONFIG = RunConfig(
    num_agents=20,
    seed=3,
    env=EnvConfig(name="relay", copies=4),
    gate=GateConfig(timing="paper", mode="open"),
)

# fmt: off
NEEDED = {
    "run_id", "env", "agents", "env_copies", "gate_timing", "transport", "env_steps", "wall_s",
    "env_steps_per_s", "episodes", "return_mean", "win_rate", "out_degree_mean",
    "message_payload_bytes", "beacon_payload_bytes", "edge_zmtp_bytes", "edge_latency_p50_us",
    "edge_latency_p99_us", "trajectory_bytes", "policy_bytes", "policy_shared_bytes",
    "policy_versions", "policy_lag_mean", "learner_updates", "learner_device", "agent_processes",
    "agent_restarts", "agent_pss_mb_mean", "messages_late", "messages_dropped", "exit_reason",
}
# fmt: on
"""What readers of summary.json rely on."""


def make_board(
    *,
    trains: bool = True,
    evaluation_episodes: int = 1,
    resumed_at: int = 0,
    rebalance: bool = False,
) -> Scoreboard:
    return Scoreboard(
        dataclasses.replace(CONFIG, runtime=RuntimeConfig(rebalance=rebalance)),
        "20260101-120000-relay",
        trains=trains,
        evaluation_episodes=evaluation_episodes,
        resumed_at=resumed_at,
    )


def result(
    episode_return: float, *, won: bool = False, evaluation: bool = False, evaluated_at: int = 0
) -> wire.EpisodeResult:
    return wire.EpisodeResult(
        0, int(evaluation), 100, 6, episode_return, int(won), evaluated_at=evaluated_at
    )


def evaluated(wins: int, losses: int, at: int) -> list[wire.EpisodeResult]:
    flags = [True] * wins + [False] * losses
    return [result(float(won), won=won, evaluation=True, evaluated_at=at) for won in flags]


def world_says(tick: float, **values: float) -> wire.Status:
    return wire.Status("world", {"tick": tick, **values})


def node_says(**values: float) -> wire.Status:
    return wire.Status("node", values)


def summary(board: Scoreboard) -> dict[str, object]:
    return board.summary("finished", wall_s=12.34567, playing_s=10.0, device="cpu")


# --- the summary ----------------------------------------------------------------------------------


def test_the_summary_has_every_figure_that_is_relied_on() -> None:
    assert set(summary(make_board())) >= NEEDED


def test_a_resumed_run_stands_where_it_stood_until_the_world_reports() -> None:
    board = make_board(resumed_at=700)
    board.take_status(wire.Status("learner", {"updates": 12.0}))
    assert not board.is_under_way
    assert (board.snapshot("starting", 1.0).env_steps, summary(board)["env_steps"]) == (700, 700)
    board.take_status(world_says(1.0, env_steps=716.0))
    assert board.is_under_way
    assert (board.env_steps, summary(board)["env_steps"]) == (716, 716)


def test_the_summary_of_a_run_that_never_began_is_valid_json() -> None:
    # allow_nan=False: the JSON of others knows no NaN.
    text = json.dumps(summary(make_board()), allow_nan=False)
    assert json.loads(text)["return_mean"] is None


def test_the_summary_says_what_was_run() -> None:
    row = summary(make_board())
    wanted = {
        "run_id": "20260101-120000-relay",
        "env": "relay",
        "opponent": "",
        "agents": 20,
        "agent_processes": 20,
        "env_copies": 4,
        "gate_timing": "paper",
        "gate_mode": "open",
        "transport": "ipc",
        "seed": 3,
        "learner_device": "cpu",
        "exit_reason": "finished",
        "wall_s": 12.346,
    }
    assert {name: row[name] for name in wanted} == wanted


def test_steps_per_second_are_those_of_all_copies_while_the_world_played() -> None:
    board = make_board()
    board.take_status(world_says(50.0, env_steps=120.0, steps_played=170.0))
    row = summary(board)
    # Four copies: some have rested for a while, and what they did not play does not count.
    assert (row["env_steps"], row["env_steps_per_s"]) == (120, 17.0)
    assert board.summary("failed", 1.0, 0.0, "")["env_steps_per_s"] == 0.0


def test_edge_bytes_are_messages_beacons_and_handshakes() -> None:
    board = make_board()
    board.take_status(
        node_says(
            sent_payload_message=90.0,
            sent_payload_beacon=70.0,
            sent_zmtp_message=100.0,
            sent_zmtp_beacon=80.0,
            edge_handshake_zmtp=20.0,
            sent_zmtp_action=1e6,
            agent_steps=9.0,
            edge_slots=45.0,
            edges_open=27.0,
        )
    )
    row = summary(board)
    assert (row["message_payload_bytes"], row["beacon_payload_bytes"]) == (90, 70)
    assert row["edge_zmtp_bytes"] == 200
    # Opening the edges is no part of a step.
    assert row["edge_bytes_per_agent_step"] == 20.0
    assert row["out_degree_mean"] == 3.0
    assert row["open_share"] == 0.6


def test_trajectories_are_those_of_agents_and_world() -> None:
    board = make_board()
    board.take_status(node_says(sent_payload_trajectory=1000.0))
    board.take_status(world_says(1.0, sent_payload_trajectory=234.0))
    assert summary(board)["trajectory_bytes"] == 1234


def test_latencies_are_told_in_microseconds() -> None:
    board = make_board()
    board.take_status(node_says(message_latency_p50_ms=0.25, message_latency_p99_ms=1.5))
    row = summary(board)
    assert (row["edge_latency_p50_us"], row["edge_latency_p99_us"]) == (250.0, 1500.0)


def test_dropped_packets_are_summed_over_all_reasons() -> None:
    board = make_board()
    board.take_status(node_says(**{f"dropped_{reason}": 1.0 for reason in REASONS}, late=4.0))
    row = summary(board)
    assert (row["messages_dropped"], row["messages_late"]) == (len(REASONS), 4)
    board.dropped_by_launcher = 3
    assert summary(board)["messages_dropped"] == len(REASONS) + 3
    assert row["dropped_by_agents"] == dict.fromkeys(REASONS, 1)


def test_versions_that_agents_received_are_told_by_form() -> None:
    board = make_board()
    arrived = {"versions_dense": 2.0, "version_payload_dense": 400.0, "versions_delta": 0.0}
    board.take_status(node_says(**arrived, versions_sparse_delta=3.0), host="a")
    board.take_status(node_says(version_payload_sparse_delta=31.0), host="b")
    assert summary(board)["version_bytes_by_form"] == {"dense": 200, "sparse_delta": 10}


def test_parameters_that_crossed_sockets_and_those_that_were_shared_are_told_apart() -> None:
    board = make_board()
    node = {"received_payload_parameters_node": 400.0, "received_payload_parameters": 60.0}
    board.take_status(node_says(**node, shared_parameters=900.0), host="a")
    board.take_status(node_says(received_payload_parameters=7.0), host="b")
    row = summary(board)
    assert (row["policy_bytes"], row["policy_shared_bytes"]) == (467, 900)


def test_only_reasons_for_which_something_was_dropped_are_named() -> None:
    board = make_board()
    board.take_status(node_says(dropped_stale=3.0, dropped_kind=0.0))
    assert summary(board)["dropped_by_agents"] == {"stale": 3}


def test_the_learners_figures_arrive_in_the_summary() -> None:
    board = make_board()
    figures = {"updates": 40.0, "policy_versions": 41.0, "policy_lag_mean": 1.5}
    board.take_status(wire.Status("learner", {**figures, "version_bytes_mean": 9.5}))
    row = summary(board)
    assert (row["learner_updates"], row["policy_versions"], row["policy_lag_mean"]) == (40, 41, 1.5)
    assert row["version_bytes_mean"] == 9.5
    assert row["model_size"] is None
    board.take_status(wire.Status("learner", {"model_size": 7.0, "update_s_mean": 0.5}))
    row = summary(board)
    assert (row["model_size"], row["learner_update_s_mean"]) == (7.0, 0.5)
    assert row["sparse_method"] == "none"


def test_the_latest_word_of_a_process_counts() -> None:
    board = make_board()
    board.take_status(node_says(restarts=1.0))
    board.take_status(node_says(restarts=2.0))
    assert summary(board)["agent_restarts"] == 2


# --- episodes -------------------------------------------------------------------------------------


def test_the_summary_takes_evaluation_episodes_if_there_are_any() -> None:
    board = make_board()
    board.take_result(result(1.0, won=True))
    assert (summary(board)["return_mean"], summary(board)["win_rate"]) == (1.0, 1.0)
    board.take_result(result(3.0, evaluation=True))
    row = summary(board)
    assert (row["return_mean"], row["win_rate"]) == (3.0, 0.0)
    assert (row["train_return_mean"], row["train_win_rate"]) == (1.0, 1.0)
    assert (row["episodes"], row["evaluation_episodes"]) == (2, 1)


def test_figures_are_of_the_last_whole_evaluation_and_say_when_it_was_taken() -> None:
    board = make_board(evaluation_episodes=100)
    for episode in evaluated(26, 74, at=0):
        board.take_result(episode)
    second = evaluated(99, 1, at=1600)
    for episode in second[:-1]:
        assert board.take_result(episode) is None
    row, snapshot = summary(board), board.snapshot("training", 1.0)
    assert (row["win_rate"], row["evaluated_at"]) == (0.26, 0), "no mean of two evaluations"
    assert (snapshot.win_rate, snapshot.evaluated_at) == (0.26, 0)
    assert (board.metrics()["eval/win_rate"], board.metrics()["eval/env_steps"]) == (0.26, 0)
    whole = board.take_result(second[-1])
    assert whole is not None
    assert whole.env_steps == 1600
    metrics = board.metrics()
    assert (metrics["eval/win_rate"], metrics["eval/env_steps"]) == (0.99, 1600)
    assert board.evaluation_metrics(whole).items() <= metrics.items()
    row = summary(board)
    assert (row["win_rate"], row["return_mean"], row["evaluated_at"]) == (0.99, 0.99, 1600)
    assert row["evaluation_episodes"] == 200


def test_evaluations_that_overlap_are_told_apart() -> None:
    board = make_board(evaluation_episodes=2)
    (early, late), (newer, newest) = evaluated(0, 2, at=100), evaluated(2, 0, at=200)
    completed = [board.take_result(episode) for episode in (early, newer, newest, late)]
    assert [whole and (whole.env_steps, whole.win_rate) for whole in completed] == [
        None, None, (200, 1.0), (100, 0.0),
    ]  # fmt: skip
    assert summary(board)["win_rate"] == 1.0, "the policy with the most training counts"


def test_an_interrupted_evaluation_does_not_hide_the_training_episodes() -> None:
    board = make_board(evaluation_episodes=2)
    board.take_result(result(0.5))
    board.take_result(result(9.0, evaluation=True))
    row = summary(board)
    assert (row["return_mean"], row["evaluated_at"]) == (0.5, None)


def test_a_run_that_only_evaluates_shows_how_far_it_has_come() -> None:
    board = make_board(trains=False, evaluation_episodes=4)
    for episode in evaluated(1, 1, at=0):
        board.take_result(episode)
    snapshot = board.snapshot("evaluating", 1.0)
    assert (snapshot.episodes, snapshot.win_rate, snapshot.evaluated_at) == (2, 0.5, None)


def test_an_evaluation_under_way_and_updates_owed_are_shown() -> None:
    board = make_board(evaluation_episodes=20)
    assert board.snapshot("training", 1.0).evaluation_done is None
    board.take_status(wire.Status("world", {"evaluations_left": 13.0}))
    board.take_status(wire.Status("learner", {"updates": 4.0, "backlog": 7.0}))
    snapshot = board.snapshot("training", 2.0)
    assert (snapshot.evaluation_done, snapshot.evaluation_size) == (7, 20)
    assert (snapshot.learner_updates, snapshot.updates_owed) == (4, 7)
    board.take_status(wire.Status("world", {"evaluations_left": 33.0}))
    assert board.snapshot("training", 3.0).evaluation_done == 0, "two overlap"
    board.take_status(wire.Status("world", {"evaluations_left": 0.0}))
    assert board.snapshot("training", 4.0).evaluation_done is None


def test_an_evaluation_ends_the_training_when_the_headline_figure_is_high_enough() -> None:
    def board(stop_at: float | None, *, env: str = "battle", trains: bool = True) -> Scoreboard:
        evaluation = EvaluationConfig(episodes=4, stop_at=stop_at)
        config = dataclasses.replace(CONFIG, env=EnvConfig(name=env), evaluation=evaluation)
        return Scoreboard(config, "run", trains=trains, evaluation_episodes=4)

    def ends(board: Scoreboard, wins: int, at: int) -> bool:
        *_, whole = [board.take_result(episode) for episode in evaluated(wins, 4 - wins, at)]
        assert whole is not None
        return board.judged(whole)[1]

    battle = board(0.75)
    assert [ends(battle, wins, at) for at, wins in ((0, 2), (100, 3), (200, 4))] == [
        False, True, True,
    ]  # fmt: skip
    assert summary(battle)["good_enough_at"] == 100, "the first that was"
    assert ends(board(-1.0, env="relay"), 0, 0), "relay's figure is the return, 0 here"
    assert not ends(board(None), 4, 0)
    assert not ends(board(0.75, trains=False), 4, 0)
    assert summary(board(0.75))["good_enough_at"] is None


@pytest.mark.parametrize(("env", "reached"), [("battle", 0.75), ("relay", 8.0)])
def test_an_evaluation_is_judged_by_the_headline_figure(env: str, reached: float) -> None:
    config = dataclasses.replace(CONFIG, env=EnvConfig(name=env))
    board = Scoreboard(config, "run", trains=True, evaluation_episodes=4)
    episodes = [dataclasses.replace(x, episode_return=8.0) for x in evaluated(3, 1, 300)]
    *_, whole = [board.take_result(episode) for episode in episodes]
    assert whole is not None
    assert board.judged(whole) == (wire.Evaluated(300, reached), False)


def test_opponents_in_files_of_the_same_name_have_metrics_of_their_own() -> None:
    names = ("scripted", "a/policy.safetensors", "b/policy.safetensors", "policy_2")
    labels = labels_of(names)
    assert labels["scripted"] == "scripted"
    assert len(set(labels.values())) == len(names)
    env = EnvConfig(name="battle", opponent="+".join(names[1:3]))
    config = dataclasses.replace(CONFIG, env=env)
    board = Scoreboard(config, "run", trains=True, evaluation_episodes=2)
    board.take_result(dataclasses.replace(result(1.0, evaluation=True), opponent=0, won=1))
    whole = board.take_result(dataclasses.replace(result(1.0, evaluation=True), opponent=1))
    assert whole is not None
    rates = board.evaluation_metrics(whole)
    assert (rates["eval/win_rate_policy_1"], rates["eval/win_rate_policy_2"]) == (1.0, 0.0)


def test_means_are_of_the_most_recent_episodes() -> None:
    board = make_board()
    board.take_result(result(1e6, won=True))
    for _ in range(RECENT_EPISODES):
        board.take_result(result(2.0))
    row = summary(board)
    assert (row["return_mean"], row["win_rate"]) == (2.0, 0.0)
    assert row["episodes"] == RECENT_EPISODES + 1


# --- view and metrics -----------------------------------------------------------------------------


def test_metrics_hold_what_is_known_and_nothing_else() -> None:
    board = make_board()
    assert board.metrics() == {}
    board.take_status(world_says(1.0, env_steps=8.0))
    board.take_status(wire.Status("learner", {"td_error": 0.5}))
    board.take_result(result(1.5))
    assert board.metrics() == {
        "env/steps": 8.0,
        "train/return_mean": 1.5,
        "train/win_rate": 0.0,
        "learner/td_error": 0.5,
    }


def test_metrics_are_named_by_group_and_unit() -> None:
    board = make_board()
    board.take_status(node_says(restarts=0.0, agent_steps=1.0, sent_zmtp_message=64.0))
    names = board.metrics()
    assert all(name.count("/") == 1 for name in names)
    assert names["comm/edge_bytes_per_agent_step"] == 64.0
    assert names["comm/dropped_packets"] == 0


def test_an_early_snapshot_has_gaps_where_nothing_is_known() -> None:
    assert make_board().snapshot("starting", 0.0) == RunSnapshot(
        elapsed_s=0.0,
        phase="starting",
        env_steps=0,
        episodes=0,
        agents_up=0,
        num_agents=20,
        restarts=0,
        policy_version=0,
        evaluation_size=1,
    )


def test_the_rate_is_taken_between_snapshots_a_second_apart() -> None:
    board = make_board()
    rates: list[float | None] = []
    for elapsed_s, played in ((10.0, 400.0), (10.5, 1200.0), (12.0, 2000.0)):
        board.take_status(world_says(1.0, steps_played=played))
        rates.append(board.snapshot("training", elapsed_s).steps_per_s)
    # Half a second is too short to say anything new.
    assert rates == [pytest.approx(40.0), pytest.approx(40.0), pytest.approx(800.0)]


@pytest.mark.parametrize(("trains", "episodes"), [(True, 2), (False, 1)])
def test_a_snapshot_counts_the_episodes_that_the_run_is_about(trains: bool, episodes: int) -> None:
    board = make_board(trains=trains)
    for evaluation in (False, False, True):
        board.take_result(result(1.0, evaluation=evaluation))
    assert board.snapshot("training", 1.0).episodes == episodes


# --- several hosts --------------------------------------------------------------------------------


def test_figures_of_several_hosts_are_added_up() -> None:
    board = make_board()
    board.take_status(node_says(late=1.0, policy_version_min=7.0, tick=50.0), "a")
    board.take_status(node_says(late=2.0, policy_version_min=5.0, tick=49.0), "b")
    board.take_status(node_says(late=4.0, policy_version_min=5.0, tick=50.0), "b")
    assert summary(board)["messages_late"] == 5
    assert board.metrics()["agent/policy_version_min"] == 5.0
    assert board.node["tick"] == 50.0


def test_moves_of_agents_are_shown_where_they_can_be() -> None:
    board = make_board(rebalance=True)
    board.take_status(node_says(restarts=0.0))
    board.agents_moved = 3
    assert board.metrics()["agent/moved"] == 3.0
    assert board.run_figures()["agents_moved"] == 3.0
    assert board.snapshot("training", 1.0).moved == 3
    assert summary(board)["agents_moved"] == 3
    assert "agent/moved" not in make_board().metrics()
    assert make_board().run_figures()["agents_moved"] == 0.0, "a panel of zeros is an answer"


def test_what_a_host_counted_before_it_began_anew_is_kept() -> None:
    board = make_board()
    board.take_status(node_says(late=3.0, policy_version_min=9.0), "b")
    board.host_begins_anew("b")
    board.take_status(node_says(late=1.0, policy_version_min=4.0), "b")
    board.host_begins_anew("b")
    board.take_status(node_says(late=1.0, policy_version_min=5.0), "b")
    assert summary(board)["messages_late"] == 5
    assert board.node["policy_version_min"] == 5.0, "an earlier life acts no more"


def test_figures_for_prometheus_name_the_episodes_that_they_are_of() -> None:
    board = make_board(evaluation_episodes=1)
    assert board.run_figures() == {
        "agents_moved": 0.0,
        "training_episodes": 0.0,
        "learner_updates_due": 0.0,
    }
    learning_starts = CONFIG.learner.learning_starts
    for _ in range(learning_starts + 3):
        board.take_result(result(2.0))
    board.take_result(result(5.0, won=True, evaluation=True, evaluated_at=40))
    board.take_status(wire.Status("world", {"env_steps": 50.0}))
    board.take_status(wire.Status("learner", {"updates": 4.0, "backlog": 7.0, "loss": 0.5}))
    assert board.run_figures() == {
        "agents_moved": 0.0,
        "env_steps": 50.0,
        "training_episodes": learning_starts + 3.0,
        "learner_updates_due": 3 * CONFIG.learner.updates_per_episode,
        "learner_updates": 4.0,
        "learner_updates_owed": 7.0,
        "learner_loss": 0.5,
        "episode_return_evaluation": 5.0,
        "win_rate_evaluation": 1.0,
        "evaluation_env_steps": 40.0,
        "episode_return_training": 2.0,
        "win_rate_training": 0.0,
    }


def test_an_environments_own_figures_are_averaged_and_named() -> None:
    config = RunConfig(num_agents=24, env=EnvConfig(name="gather"))
    board = Scoreboard(config, "run", trains=True, evaluation_episodes=2)
    own = [{"food_eaten": 4.0, "survivors": 24.0}, {"food_eaten": 8.0, "survivors": 23.0}]
    for metrics in own:
        for is_evaluation in (0, 1):
            board.take_result(wire.EpisodeResult(0, is_evaluation, 100, 6, 1.5, 0, metrics=metrics))
    row = board.metrics()
    assert (row["eval/food_eaten"], row["train/survivors"]) == (6.0, 23.5)
    summary = board.summary("finished", 1.0, 1.0, "cpu")
    assert summary["metrics"] == {"food_eaten": 6.0, "survivors": 23.5}
    assert board.snapshot("training", 1.0).metrics["food_eaten"] == 6.0
    exported = board.run_figures()
    assert exported["evaluation/food_eaten"] == 6.0
    assert exported["training/survivors"] == 23.5


def test_nobody_wins_where_nobody_can() -> None:
    config = RunConfig(num_agents=25, env=EnvConfig(name="adversarial-pursuit"))
    board = Scoreboard(config, "run", trains=True, evaluation_episodes=1)
    board.take_result(result(2.0))
    board.take_result(result(3.0, evaluation=True))
    assert not {"train/win_rate", "eval/win_rate"} & set(board.metrics())
    assert "win_rate_evaluation" not in board.run_figures()
    summary = board.summary("finished", 1.0, 1.0, "cpu")
    assert (summary["win_rate"], summary["train_win_rate"]) == (None, None)
    assert summary["headline"] == "return"
    assert not board.snapshot("training", 1.0).can_be_won


def test_the_headline_is_told_against_each_opponent() -> None:
    env = EnvConfig(
        name="adversarial-pursuit", opponent="random", evaluation_opponent="random+idqn"
    )
    board = Scoreboard(RunConfig(num_agents=25, env=env), "run", trains=True, evaluation_episodes=2)
    for opponent, reached in ((0, 5.0), (1, 3.0)):
        board.take_result(wire.EpisodeResult(0, 1, 100, 6, reached, 0, opponent=opponent))
    row = board.metrics()
    assert (row["eval/return_mean_random"], row["eval/return_mean_idqn"]) == (5.0, 3.0)
