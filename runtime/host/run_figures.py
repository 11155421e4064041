"""What a whole run has come to, as the exporter on the launcher's host says it.

    Scoreboard.run_figures -> Status("launcher") -> HostTable.set_run -> families -> /metrics

Agents and nodes know nothing of returns and losses. The launcher tells its own node once a second.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_COUNTERS = {
    "env_steps": "Training steps of all environment copies.",
    "training_episodes": "Finished training episodes.",
    "learner_updates": "Updates that the learner has taken.",
    "learner_updates_due": "Updates that the finished training episodes bring, after "
    "learner.learning_starts.",
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
"""Of all figures."""


def families(figures: Mapping[str, float]) -> Iterator[Metric]:
    """Series of what is known.

    Args:
        figures: some of `NAMES`.
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
