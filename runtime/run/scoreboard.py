"""The figures of a run: from reports to what is shown, logged and summed up.

Status, EpisodeResult  ->  Scoreboard  ->  RunSnapshot (view), metrics (JSONL, TensorBoard),
summary
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from agents.found import scheme_of
from configs.schema import RunConfig
from envs import registry
from runtime.host.run_figures import own_figures
from runtime.net import wire
from runtime.net.traffic import FORM_OF, REASONS
from runtime.run.evaluations import Evaluation, Evaluations, mean_metrics
from runtime.run.view import RunSnapshot

RECENT_EPISODES = 100
"""Training episodes that a mean is taken over."""


class _Recent:
    """Returns and wins of the most recent training episodes."""

    def __init__(self) -> None:
        self.count = 0
        self._recent: deque[wire.EpisodeResult] = deque(maxlen=RECENT_EPISODES)

    def add(self, result: wire.EpisodeResult) -> None:
        self.count += 1
        self._recent.append(result)

    @property
    def return_mean(self) -> float | None:
        if not self._recent:
            return None
        return sum(r.episode_return for r in self._recent) / len(self._recent)

    @property
    def win_rate(self) -> float | None:
        return sum(r.won for r in self._recent) / len(self._recent) if self._recent else None

    @property
    def metrics(self) -> dict[str, float]:
        """Means of the environment's own figures."""
        return mean_metrics(self._recent)


class Scoreboard:
    """Latest word of every process, and recent episodes."""

    def __init__(
        self,
        config: RunConfig,
        run_id: str,
        *,
        trains: bool,
        evaluation_episodes: int,
        resumed_at: int = 0,
    ) -> None:
        """Keep the figures of a run.

        Args:
            trains: False for a run that is nothing but one evaluation.
            evaluation_episodes: episodes of each evaluation.
            resumed_at: environment steps that the run has behind it.
        """
        self._config = config
        self._run_id = run_id
        self._resumed_at = resumed_at
        self._trains = trains
        self._world: Mapping[str, float] = {}
        self._node: Mapping[str, float] = {}
        """Sums over the hosts, except where `_LEAST` and `_GREATEST` say otherwise."""
        self._hosts: dict[str, Mapping[str, float]] = {}
        self._earlier: dict[str, Mapping[str, float]] = {}
        """Last figures of a host's former lives."""
        self._learner: Mapping[str, float] = {}
        self._training = _Recent()
        self._evaluations = Evaluations(evaluation_episodes)
        self._evaluation_episodes = evaluation_episodes
        self._env = registry.spec_of(config.env, config.num_agents)
        schedule = registry.opponents_of(config.env)
        self._opponents = schedule.names if schedule else ()
        self._played_when_last_rated = (0.0, 0.0)
        self._steps_per_s: float | None = None
        self._learner_device = ""
        self.good_enough_at: int | None = None
        """Training steps at which the evaluation fell due that reached `evaluation.stop_at`."""
        self.agents_up = 0
        self.agents_moved = 0
        """Moves of agents from hosts that had left for good."""
        self.dropped_by_launcher = 0

    @property
    def evaluation(self) -> Evaluation | None:
        """The last whole evaluation. A run that is nothing but one evaluation shows it as far as it
        has come.
        """
        evaluations = self._evaluations
        return evaluations.last or (None if self._trains else evaluations.under_way)

    @property
    def evaluated(self) -> tuple[wire.EpisodeResult, ...]:
        """Episodes of that evaluation, in the order in which they ended."""
        return () if self.evaluation is None else self.evaluation.results

    @property
    def world(self) -> Mapping[str, float]:
        """The world's figures."""
        return self._world

    @property
    def node(self) -> Mapping[str, float]:
        """Figures of all hosts together."""
        return self._node

    @property
    def agents_started(self) -> int:
        """Agents of all hosts that have said where they listen."""
        return int(self._node.get("agents_listening", 0))

    @property
    def env_steps(self) -> int:
        """Training steps of the whole run, by the world's last report."""
        return int(self._world.get("env_steps", self._resumed_at))

    @property
    def is_under_way(self) -> bool:
        """Whether the world has reported: before that, no figure has a step that it belongs to."""
        return bool(self._world)

    @property
    def learner(self) -> Mapping[str, float]:
        """The learner's figures; empty before its first word."""
        return self._learner

    def take_status(self, status: wire.Status, host: str = "") -> None:
        """A process reports; `host` says which node it is."""
        match status.role:
            case "node":
                self._hosts[host] = status.values
                self._node = _together([*self._hosts.values()], [*self._earlier.values()])
            case "world":
                self._world = status.values
            case "learner":
                self._learner = status.values
            case _:
                pass

    def host_begins_anew(self, host: str) -> None:
        """A host has joined again: its counters start at zero, the run's sums do not."""
        last = self._hosts.pop(host, None)
        if last is not None:
            self._earlier[host] = _together([last], [self._earlier.get(host, {})])

    def take_result(self, result: wire.EpisodeResult) -> Evaluation | None:
        """An episode has ended; returns the evaluation that it completes, if it does."""
        if result.evaluation:
            return self._evaluations.add(result)
        self._training.add(result)
        return None

    def judged(self, evaluation: Evaluation) -> tuple[wire.Evaluated | None, bool]:
        """What an evaluation has reached, None where the headline figure is missing; and whether
        that is `evaluation.stop_at`, of a run that trains. The first that does so is remembered.
        """
        enough, reached = self._config.evaluation.stop_at, self._headline_of(evaluation)
        if reached is None:
            return None, False
        good_enough = self._trains and enough is not None and reached >= enough
        if good_enough and self.good_enough_at is None:
            self.good_enough_at = evaluation.env_steps
        return wire.Evaluated(evaluation.env_steps, reached), good_enough

    def _headline_of(self, evaluation: Evaluation) -> float | None:
        """None where it is a figure of the environment's own that some episode lacks."""
        match self._env.headline:
            case "return":
                return evaluation.return_mean
            case "win_rate":
                return evaluation.win_rate
            case name:
                return evaluation.metrics.get(name)

    def snapshot(self, phase: str, elapsed_s: float) -> RunSnapshot:
        """What a view shows; call it about once a second, the rate is taken between calls."""
        self._rate(elapsed_s)
        learner = self._learner
        return RunSnapshot(
            elapsed_s=elapsed_s,
            phase=phase,
            env_steps=self.env_steps,
            episodes=self._evaluations.count if not self._trains else self._training.count,
            agents_started=self.agents_started,
            agents_up=self.agents_up,
            num_agents=self._config.num_agents,
            restarts=int(self._node.get("restarts", 0)),
            moved=self.agents_moved,
            steps_per_s=self._steps_per_s,
            episode_return=self._source.return_mean,
            win_rate=self._win_rate(self._source),
            can_be_won=self._env.can_be_won,
            metrics=self._source.metrics,
            evaluated_at=self._evaluated_at if self._trains else None,
            out_degree=self._ratio("edges_open", "agent_steps"),
            bytes_per_agent_step=self._bytes_per_agent_step(),
            policy_version=int(self._node.get("policy_version", 0)),
            policy_lag=learner.get("policy_lag_mean"),
            learner_updates=int(learner["updates"]) if "updates" in learner else None,
            updates_owed=int(learner["backlog"]) if "backlog" in learner else None,
            evaluation_done=self._evaluation_done,
            evaluation_size=self._evaluation_episodes,
        )

    def metrics(self) -> dict[str, float]:
        """One row of the run's log, names as `group/name_unit`.

        `eval/…` are of the last whole evaluation, which fell due at `eval/env_steps`.
        """
        last = self._evaluations.last
        row: dict[str, float | None] = {
            "env/steps": self._world.get("env_steps"),
            "env/steps_per_s": self._steps_per_s,
            "env/steps_played": self._world.get("steps_played"),
            "env/learner_wait_s": self._world.get("learner_wait_s"),
            "env/missed_deadlines": self._world.get("missed_deadlines"),
            "env/records_given_up": self._world.get("records_given_up"),
            "train/return_mean": self._training.return_mean,
            "train/win_rate": self._win_rate(self._training),
            **{f"train/{name}": value for name, value in self._training.metrics.items()},
            **({} if last is None else self.evaluation_metrics(last)),
            "comm/out_degree_mean": self._ratio("edges_open", "agent_steps"),
            "comm/open_share": self._ratio("edges_open", "edge_slots"),
            "comm/edge_bytes_per_agent_step": self._bytes_per_agent_step(),
            "comm/message_payload_bytes": self._node.get("sent_payload_message"),
            "comm/beacon_payload_bytes": self._node.get("sent_payload_beacon"),
            "comm/message_latency_p50_ms": self._node.get("message_latency_p50_ms"),
            "comm/message_latency_p99_ms": self._node.get("message_latency_p99_ms"),
            "comm/late_packets": self._node.get("late"),
            "comm/dropped_packets": self._dropped() if self._node else None,
            "comm/full_packets": self._node.get("dropped_full"),
            "agent/up": float(self.agents_up) if self._node else None,
            "agent/restarts": self._node.get("restarts"),
            "agent/moved": float(self.agents_moved) if self._config.runtime.rebalance else None,
            "agent/policy_version_min": self._node.get("policy_version_min"),
            "agent/pss_mb_mean": self._node.get("agent_pss_mb_mean"),
            **{f"learner/{name}": value for name, value in self._learner.items()},
        }
        return {name: value for name, value in row.items() if value is not None}

    def run_figures(self) -> dict[str, float]:
        """What the launcher's node exports of the whole run (runtime/host/run_figures.py)."""
        learner, last, training = self._learner, self._evaluations.last, self._training
        figures: dict[str, float | None] = {
            "episode_return_evaluation": None if last is None else last.return_mean,
            "win_rate_evaluation": None if last is None else self._win_rate(last),
            "evaluation_env_steps": None if last is None else float(last.env_steps),
            "episode_return_training": training.return_mean,
            "win_rate_training": self._win_rate(training),
            "learner_updates": learner.get("updates"),
            "learner_updates_owed": learner.get("backlog"),
            "learner_loss": learner.get("loss"),
            "agents_moved": float(self.agents_moved),
        }
        if self._trains:
            begins = self._config.learner.learning_starts
            learnt_from = max(training.count - begins, 0)
            figures |= {
                "env_steps": self._world.get("env_steps"),
                "training_episodes": float(training.count),
                "learner_updates_due": learnt_from * self._config.learner.updates_per_episode,
            }
        own = own_figures(training.metrics, "training")
        if last is not None:
            own |= own_figures(last.metrics, "evaluation")
        return own | {name: value for name, value in figures.items() if value is not None}

    def evaluation_metrics(self, evaluation: Evaluation) -> dict[str, float]:
        """Figures of a whole evaluation by name, as in `metrics`."""
        won = {"eval/win_rate": evaluation.win_rate} if self._env.can_be_won else {}
        return {
            "eval/env_steps": float(evaluation.env_steps),
            "eval/return_mean": evaluation.return_mean,
            **won,
            **{f"eval/{name}": value for name, value in evaluation.metrics.items()},
            **self._against_each(evaluation),
        }

    def summary(
        self, exit_reason: str, wall_s: float, playing_s: float, device: str
    ) -> dict[str, Any]:
        """What summary.json holds. Byte counts are sums over all agents of the run.

        `headline` names the figure by which policies of this environment are compared: return,
        win_rate, or one of `metrics`, which are the environment's own.
        `return_mean`, `win_rate`, `metrics` and `by_opponent` are of the last whole evaluation,
        which fell due after `evaluated_at` training steps; the first three are of the last 100
        training episodes if there was none. Edges, bytes and latency are of all steps that the run
        has played.
        `env_steps` counts training steps; `env_steps_per_s` counts all, over `playing_s`, the
        seconds since all agents were ready.
        """
        config, node, learner = self._config, self._node, self._learner
        count = {name: int(value) for name, value in node.items()}
        edge_zmtp = sum(
            count.get(name, 0)
            for name in ("sent_zmtp_message", "sent_zmtp_beacon", "edge_handshake_zmtp")
        )
        played = self._world.get("steps_played", 0.0)
        return {
            "run_id": self._run_id,
            "env": config.env.name,
            "opponent": config.env.opponent if self._opponents else "",
            "agents": config.num_agents,
            "env_copies": config.env.copies,
            "algorithm": config.learner.algorithm,
            "comm": config.comm,
            "gate_timing": config.gate.timing,
            "gate_mode": scheme_of(config.comm).gate_mode(config.gate.mode),
            "gate_budget": config.gate.budget,
            "transport": config.runtime.transport,
            "seed": config.seed,
            "env_steps": self.env_steps,
            "wall_s": round(wall_s, 3),
            "env_steps_per_s": round(played / playing_s, 2) if playing_s > 0 else 0.0,
            "episodes": self._training.count + self._evaluations.count,
            "evaluation_episodes": self._evaluations.count,
            "evaluated_at": self._evaluated_at,
            "good_enough_at": self.good_enough_at,
            "return_mean": self._source.return_mean,
            "win_rate": self._win_rate(self._source),
            "metrics": self._source.metrics,
            "headline": self._env.headline,
            "train_return_mean": self._training.return_mean,
            "train_win_rate": self._win_rate(self._training),
            "out_degree_mean": self._ratio("edges_open", "agent_steps"),
            "open_share": self._ratio("edges_open", "edge_slots"),
            "agent_steps": count.get("agent_steps", 0),
            "message_payload_bytes": count.get("sent_payload_message", 0),
            "beacon_payload_bytes": count.get("sent_payload_beacon", 0),
            "edge_zmtp_bytes": edge_zmtp,
            "edge_tcp_bytes": count.get("edge_tcp_sent", 0),
            "edge_bytes_per_agent_step": self._bytes_per_agent_step(),
            "edge_latency_p50_us": node.get("message_latency_p50_ms", 0.0) * 1e3,
            "edge_latency_p99_us": node.get("message_latency_p99_ms", 0.0) * 1e3,
            "observation_bytes": count.get("received_payload_observation", 0),
            "action_bytes": count.get("sent_payload_action", 0),
            "trajectory_bytes": count.get("sent_payload_trajectory", 0)
            + int(self._world.get("sent_payload_trajectory", 0)),
            "policy_bytes": count.get("received_payload_parameters", 0)
            + count.get("received_payload_parameters_node", 0),
            "policy_shared_bytes": count.get("shared_parameters", 0),
            "policy_versions": int(learner.get("policy_versions", 0)),
            "version_bytes_mean": learner.get("version_bytes_mean"),
            "version_bytes_by_form": {
                form: round(count.get(f"version_payload_{form}", 0) / arrived)
                for form in FORM_OF.values()
                if (arrived := count.get(f"versions_{form}", 0))
            },
            "policy_lag_mean": learner.get("policy_lag_mean", 0.0),
            "heartbeat_bytes": count.get("sent_payload_heartbeat", 0),
            "control_bytes": count.get("sent_payload_control", 0),
            "learner_updates": int(learner.get("updates", 0)),
            "learner_device": device,
            "learner_update_s_mean": learner.get("update_s_mean"),
            "learner_wait_s": self._world.get("learner_wait_s"),
            "sparse_method": config.sparse.method,
            **{name: learner.get(name) for name in _SIZES},
            "checkpoint_failures": int(learner.get("checkpoint_failures", 0)),
            "journal_failures": int(learner.get("journal_failures", 0)),
            "episodes_dropped": int(learner.get("episodes_dropped", 0)),
            "agent_processes": config.num_agents,
            "agent_restarts": count.get("restarts", 0),
            "agents_moved": self.agents_moved,
            "agent_pss_mb_mean": node.get("agent_pss_mb_mean"),
            "messages_late": count.get("late", 0),
            "messages_dropped": self._dropped(),
            "dropped_by_agents": {
                reason: int(dropped)
                for reason in REASONS
                if (dropped := count.get(f"dropped_{reason}", 0))
            },
            "by_opponent": self._by_opponent(self.evaluated),
            "readings_failed": count.get("readings_failed", 0),
            "log_lines_lost": sum(
                int(values.get("log_lines_lost", 0)) for values in (node, self._world, learner)
            ),
            "exit_reason": exit_reason,
        }

    def _by_opponent(self, results: Sequence[wire.EpisodeResult]) -> dict[str, dict[str, float]]:
        """Episodes, win rate and mean return against each opponent; empty where nobody plays the
        other team.
        """
        grouped: dict[str, list[wire.EpisodeResult]] = {}
        for result in results:
            if result.opponent < len(self._opponents):
                grouped.setdefault(self._opponents[result.opponent], []).append(result)
        return {
            name: {
                "episodes": len(met),
                **self._wins(met),
                "return_mean": sum(result.episode_return for result in met) / len(met),
                **mean_metrics(met),
            }
            for name, met in sorted(grouped.items())
        }

    def _wins(self, results: Sequence[wire.EpisodeResult]) -> dict[str, float]:
        if not self._env.can_be_won:
            return {}
        return {"win_rate": sum(result.won for result in results) / len(results)}

    def _against_each(self, evaluation: Evaluation) -> dict[str, float]:
        """The headline figure against each opponent, where there are several."""
        by_opponent = self._by_opponent(evaluation.results)
        if len(by_opponent) < 2:
            return {}
        labels = labels_of(self._opponents)
        headline = "return_mean" if self._env.headline == "return" else self._env.headline
        return {
            f"eval/{headline}_{labels[name]}": figures[headline]
            for name, figures in by_opponent.items()
            if headline in figures
        }

    @property
    def _evaluation_done(self) -> int | None:
        """Finished episodes of the evaluation that is under way, by the world's last word."""
        left = int(self._world.get("evaluations_left", 0))
        return max(self._evaluation_episodes - left, 0) if left > 0 else None

    @property
    def _evaluated_at(self) -> int | None:
        return None if self.evaluation is None else self.evaluation.env_steps

    @property
    def _source(self) -> "Evaluation | _Recent":
        """The last evaluation if there was one, else recent training episodes."""
        return self._training if self.evaluation is None else self.evaluation

    def _win_rate(self, of: "Evaluation | _Recent") -> float | None:
        """None where nobody can win."""
        return of.win_rate if self._env.can_be_won else None

    def _ratio(self, of: str, to: str) -> float | None:
        total = self._node.get(to, 0.0)
        return self._node.get(of, 0.0) / total if total else None

    def _bytes_per_agent_step(self) -> float | None:
        steps = self._node.get("agent_steps", 0.0)
        sent = self._node.get("sent_zmtp_message", 0.0) + self._node.get("sent_zmtp_beacon", 0.0)
        return sent / steps if steps else None

    def _dropped(self) -> int:
        """Refused by anybody: the agents by reason, then node, world, learner and launcher."""
        by_agents = sum(self._node.get(f"dropped_{reason}", 0.0) for reason in REASONS)
        by_others = (
            self._node.get("dropped_by_node", 0.0)
            + self._world.get("dropped", 0.0)
            + self._learner.get("dropped_frames", 0.0)
            + self.dropped_by_launcher
        )
        return int(by_agents + by_others)

    def _rate(self, elapsed_s: float) -> None:
        played = self._world.get("steps_played", 0.0)
        last_s, last_played = self._played_when_last_rated
        if elapsed_s - last_s >= 1.0:
            self._steps_per_s = (played - last_played) / (elapsed_s - last_s)
            self._played_when_last_rated = (elapsed_s, played)


_SIZES = (
    "sparsity", "active_weights", "topology_evolutions",
    "model_weights", "model_weights_dense", "model_size", "model_size_dense",
    "inference_flops", "inference_flops_dense", "training_flops", "training_flops_dense",
)  # fmt: skip
"""Of the networks in training, on paper (learner/sparse/accounting.py)."""

_LEAST = ("policy_version_min",)
_GREATEST = ("policy_version", "policy_version_max", "tick", "message_latency_p50_ms",
             "message_latency_p99_ms")  # fmt: skip
"""Latency quantiles of several hosts: those of the slowest, an upper bound for all."""


def labels_of(opponents: Sequence[str]) -> dict[str, str]:
    """A short and different name for each opponent's metrics.

    The file's name without folder and ending: a folder is the machine's business, and TensorBoard
    groups by slashes. Files of the same name get their place in the schedule as well, from 1.
    """
    stems = [PurePath(name).stem for name in opponents]
    taken = set(stems)
    labels: dict[str, str] = {}
    for place, (name, label) in enumerate(zip(opponents, stems, strict=True), 1):
        if stems.count(label) > 1:
            label = f"{label}_{place}"
            while label in taken:
                label += "_"
            taken.add(label)
        labels[name] = label
    return labels


def _together(
    hosts: list[Mapping[str, float]], earlier: list[Mapping[str, float]]
) -> dict[str, float]:
    names = dict.fromkeys(name for values in (*hosts, *earlier) for name in values)
    return {name: _combine(name, hosts, earlier) for name in names}


def _combine(
    name: str, hosts: list[Mapping[str, float]], earlier: list[Mapping[str, float]]
) -> float:
    now = [values[name] for values in hosts if name in values]
    if name in _LEAST:
        return min(now, default=0.0)
    if name in _GREATEST:
        return max(now, default=0.0)
    if name == "agent_pss_mb_mean":
        return sum(now) / len(now) if now else 0.0
    return sum(now) + sum(values.get(name, 0.0) for values in earlier)
