"""What an evaluation says in the end, by name: what `--json` prints.

    run that has ended, or simulated episodes -> figures

Both ways of evaluating say the same of episodes and edges; processes alone measure bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from agents.comm.graphs import graph_of
from configs.schema import RunConfig
from envs.base import EnvSpec
from envs.opponent_schedule import OpponentSchedule
from runtime.net.failures import NO_FAILURES, Failures, standard_error
from runtime.run.evaluations import mean_metrics
from runtime.run.plan import RunEnd
from runtime.run.run import Run


class _Simulated(Protocol):
    """An episode of learner/simulate.py."""

    @property
    def episode_return(self) -> float: ...
    @property
    def spared_return(self) -> float: ...
    @property
    def won(self) -> bool: ...
    @property
    def opponent(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def agent_steps(self) -> int: ...
    @property
    def edges_open(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


def figures_of_run(
    config: RunConfig, end: RunEnd, run: Run, failures: Failures = NO_FAILURES
) -> dict[str, Any]:
    """Of an evaluation by real processes: its summary, without what only a training has, and what
    its episodes themselves say. Copies that are not needed any more rest, so that agents count the
    same steps, and bytes and latency are of the same episodes.
    """
    training = ("train_", "policy_lag", "learner_", "policy_versions", "trajectory_")
    figures = {
        name: value
        for name, value in end.summary.items()
        if not name.startswith(training) and name not in ("env_steps", "good_enough_at", "run_id")
    }
    world = run.board.world
    agent_steps = world.get("evaluated_agent_steps", 0.0)
    figures |= {
        **_mean_and_error("return", [result.episode_return for result in run.board.evaluated]),
        **_metrics([result.metrics for result in run.board.evaluated]),
        **_of_gate(config, world.get("evaluated_edges_open", 0.0), agent_steps),
    }
    return figures if failures == NO_FAILURES else figures | _of_failures(config, run, failures)


def figures_of_simulation(
    config: RunConfig,
    spec: EnvSpec,
    results: Sequence[_Simulated],
    opponents: OpponentSchedule | None = None,
    failures: Failures = NO_FAILURES,
) -> dict[str, Any]:
    """Of simulated episodes, of which there is at least one."""
    count, can_be_won = len(results), spec.can_be_won
    agent_steps = sum(r.agent_steps for r in results)
    figures: dict[str, Any] = {
        "env": config.env.name,
        "agents": config.num_agents,
        "evaluation_episodes": count,
        "win_rate": sum(r.won for r in results) / count if can_be_won else None,
        "headline": spec.headline,
        **_metrics([r.metrics for r in results]),
        "agent_steps": agent_steps,
        **_mean_and_error("return", [r.episode_return for r in results]),
        **_of_gate(config, sum(r.edges_open for r in results), agent_steps),
        "by_opponent": {
            name: {
                "episodes": len(met),
                **({"win_rate": sum(r.won for r in met) / len(met)} if can_be_won else {}),
                "return_mean": sum(r.episode_return for r in met) / len(met),
                **mean_metrics(met),
            }
            for i, name in enumerate(opponents.names if opponents else ())
            if (met := [r for r in results if r.opponent == i])
        },
    }
    if failures.kill_fraction:
        reached = sum(r.length > failures.kill_at for r in results)
        figures |= _of_kill(config, failures, reached)
        figures |= _mean_and_error("spared_return", [r.spared_return for r in results])
    return figures


def _of_gate(config: RunConfig, edges_open: float, agent_steps: float) -> dict[str, Any]:
    """Edges that a living agent used in a step, and what share of its out-edges that is."""
    degree = edges_open / agent_steps if agent_steps else None
    graph = graph_of(config.comm, config.comm_options, config.num_agents)
    share = None if degree is None else degree / graph.num_edges
    return {"out_degree_mean": degree, "open_share": share}


def _of_failures(config: RunConfig, run: Run, failures: Failures) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "drop_edges": failures.drop_edges,
        "lost_messages": int(run.board.node.get("lost_messages", 0.0)),
        "lost_beacons": int(run.board.node.get("lost_beacons", 0.0)),
    }
    world = run.board.world
    if failures.kill_fraction:
        reached = sum(result.length > failures.kill_at for result in run.board.evaluated)
        figures |= _of_kill(config, failures, reached)
        steps_after = world.get("agent_steps_after_kill", 0.0)
        total, count = world.get("spared_return_sum", 0.0), len(run.board.evaluated)
        squares = world.get("spared_return_squares", 0.0)
        figures |= {
            "out_degree_after_kill": (
                world["edges_open_after_kill"] / steps_after if steps_after else None
            ),
            "spared_return_mean": total / count if count else None,
            "spared_return_error": standard_error(total, squares, count),
        }
    return figures


def _of_kill(config: RunConfig, failures: Failures, reached: int) -> dict[str, Any]:
    """Who died, if any episode lasted that long: without one nobody is killed."""
    victims = failures.victims(config.num_agents, config.seed)
    return {
        "kill_fraction": failures.kill_fraction,
        "kill_at": failures.kill_at,
        "killed_agents": list(victims) if reached else [],
        "episodes_reached_kill": reached,
    }


def _mean_and_error(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Mean and its standard error over episodes; None where there are too few."""
    total, squares = sum(values), sum(value**2 for value in values)
    return {
        f"{name}_mean": total / len(values) if values else None,
        f"{name}_error": standard_error(total, squares, len(values)),
    }


def _metrics(of_episodes: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means and their standard errors of the environment's own figures; nothing if it has none."""
    names = list(of_episodes[0]) if of_episodes else []
    if not names:
        return {}
    both = {name: _mean_and_error(name, [m[name] for m in of_episodes]) for name in names}
    return {
        "metrics": {name: both[name][f"{name}_mean"] for name in names},
        "metrics_error": {name: both[name][f"{name}_error"] for name in names},
    }
