"""What a whole run has come to, as the exporter on the launcher's host says it.

    Scoreboard.run_figures -> Status("launcher") -> HostTable.set_run -> families -> /metrics

Agents and nodes know nothing of returns and losses. The launcher tells its own node once a second.
Figures that the environment names itself come as `evaluation/NAME` and `training/NAME`, and are one
family with the name as a label.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_COUNTERS = {
    "env_steps": "Training steps of all environment copies.",
    "training_episodes": "Finished training episodes.",
    "learner_updates": "Updates that the learner has taken.",
    "learner_updates_due": "Updates that the finished training episodes bring, after "
    "learner.learning_starts.",
    "agents_moved": "Moves of agents to other hosts, because theirs had left for good.",
}
_GAUGES = {
    "learner_updates_owed": "Updates that the learner has yet to take.",
    "learner_loss": "Loss of the last update.",
    "evaluation_env_steps": "Training steps at which the last whole evaluation was taken.",
}
_BY_EPISODES = {
    "episode_return": "Mean over the last whole evaluation, and the last training episodes.",
    "win_rate": "Share of the same episodes that were won.",
}
_EPISODES = ("evaluation", "training")
NAMES = (
    *_COUNTERS,
    *_GAUGES,
    *(f"{name}_{episodes}" for name in _BY_EPISODES for episodes in _EPISODES),
)
"""Of all figures but the environment's own."""

MOST_OWN = 100
"""Figures of the environment's own that are exported, of each kind of episodes."""
_LONGEST_NAME = 64
"""Of a figure in a Status (runtime/net/control.py)."""


def own_figures(metrics: Mapping[str, float], episodes: str) -> dict[str, float]:
    """Figures of the environment's own, by the names under which they go to the exporter.

    Those whose name is too long for a Status, and those beyond `MOST_OWN`, are left out.

    Args:
        episodes: `evaluation` or `training`.
    """
    named = {f"{episodes}/{name}": value for name, value in metrics.items()}
    fitting = [name for name in named if len(name) <= _LONGEST_NAME]
    return {name: named[name] for name in fitting[:MOST_OWN]}


def families(figures: Mapping[str, float]) -> Iterator[Metric]:
    """Series of what is known.

    Args:
        figures: some of `NAMES`, and `own_figures`.
    """
    for name, text in _COUNTERS.items():
        if name in figures:
            yield CounterMetricFamily(f"murmuration_{name}", text, value=figures[name])
    for name, text in _GAUGES.items():
        if name in figures:
            yield GaugeMetricFamily(f"murmuration_{name}", text, value=figures[name])
    for name, text in _BY_EPISODES.items():
        family = GaugeMetricFamily(f"murmuration_{name}", text, labels=["episodes"])
        for episodes in _EPISODES:
            if (value := figures.get(f"{name}_{episodes}")) is not None:
                family.add_metric([episodes], value)
        if family.samples:
            yield family
    yield from _own(figures)


def _own(figures: Mapping[str, float]) -> Iterator[Metric]:
    family = own_family()
    for name, value in figures.items():
        episodes, slash, metric = name.partition("/")
        if slash:
            family.add_metric([metric, episodes], value)
    if family.samples:
        yield family


def own_family() -> GaugeMetricFamily:
    """The family of the environment's own figures, still empty."""
    return GaugeMetricFamily(
        "murmuration_env_metric",
        "A figure of the environment's own: mean over the same episodes.",
        labels=["metric", "episodes"],
    )
