"""Steps a second of training from rollouts: real agents, one process of ours, one process of torch.

    python -m tests.benchmarks.on_policy --agents 16 100 --out on-policy.json

    relay, E copies, a rollout of E episodes -> environment steps a second while training goes on

    processes   runtime.launch with this algorithm, as everybody gets it
    serial      the same in one process (--serial): the same packets, without sockets
    torch       one process without packets: all agents and copies in one batch of torch, the same
                environment, the same learner
    iql         processes with a value-based algorithm, at the preset's updates for each episode

Cases take turns, so that a machine whose pace changes is the same for all of them. The clock of
`processes` and `serial` is that of the run's own summary, between first and last step; start and
evaluations do not count.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from agents.policy import PolicySpec, initialise, write_atomically
from configs.columns import GATES, LOG_PROB, recorded
from configs.load import load_run_config
from configs.schema import RunConfig
from envs import registry
from envs.base import Snapshot
from envs.copies import Copies
from learner.comm.gates import GateRule
from learner.comm.unroll import Carry, UnrollInput, unroll
from learner.experience.episode import Dimensions, Episode
from learner.learner import Learner
from tests.benchmarks.machine import load_average, machine, source
from tests.benchmarks.trained import trained


@dataclass(frozen=True, kw_only=True)
class Options:
    agents: tuple[int, ...] = (16, 100)

    copies: int = 32
    """E, and episodes of a rollout."""

    steps: int = 6400
    """Environment steps of each training."""

    turns: int = 3

    algorithms: tuple[str, ...] = ("mappo", "magpo")
    """Learnt with real processes; mappo in one process as well."""

    out: str = ""
    """JSON file of all results."""


@dataclass(frozen=True, slots=True)
class Result:
    agents: int
    case: str
    turn: int
    steps_per_s: float
    updates: int
    update_s: float
    """Mean."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all cases and print the table."""
    options = tyro.cli(Options, args=argv, prog="python -m tests.benchmarks.on_policy")
    report: dict[str, Any] = {
        "options": asdict(options),
        "machine": machine(),
        "source": source(),
        "load_before": load_average(),
    }
    results: list[Result] = []
    console = Console()
    for turn in range(options.turns):
        for agents in options.agents:
            for case in cases(options):
                steps_per_s, updates, update_s = measure(case, agents, options)
                results.append(Result(agents, case, turn, steps_per_s, updates, update_s))
                console.print(f"{agents} agents, {case}: {steps_per_s:.0f} steps/s")
        if options.out:
            text = json.dumps({**report, "results": [asdict(each) for each in results]}, indent=2)
            write_atomically(Path(options.out), text.encode())
    console.print(table_of(results))
    return 0


def cases(options: Options) -> list[str]:
    return [*(f"{name} processes" for name in options.algorithms), "mappo serial", "mappo torch",
            "iql processes"]  # fmt: skip


def words_of(algorithm: str, agents: int, options: Options) -> tuple[str, ...]:
    """Of runtime.launch."""
    copies = options.copies
    own = f"episodes={copies},epochs=4,minibatches=4"
    more = () if algorithm == "iql" else ("--algorithm.options", own)
    return (
        *("--env", "relay", "--agents", f"{agents}", "--env-copies", f"{copies}"),
        *("--algorithm", algorithm, "--steps", f"{options.steps}", "--seed", "0"),
        *("--evaluation.episodes", "0", *more),
    )


def measure(case: str, agents: int, options: Options) -> tuple[float, int, float]:
    """Steps a second, updates, and seconds of one."""
    algorithm, _, how = case.partition(" ")
    words = words_of(algorithm, agents, options)
    if how == "torch":
        return TorchRun(load_run_config(words, population=registry.population_of)).train()
    summary = trained(*words, *(("--serial",) if how == "serial" else ()))
    seconds = float(summary["stage_s"]["running"])
    update_s = float(summary["learner_update_s_mean"] or 0.0)
    return summary["env_steps"] / seconds, int(summary["learner_updates"]), update_s


class TorchRun:
    """What one process does that has nobody to talk to."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._spec = spec = registry.spec_of(config.env, config.num_agents)
        copies = registry.make_copies(config.env, config.num_agents, config.seed)
        assert isinstance(copies, Copies)
        self._copies = copies
        sizes = Dimensions.of(spec, recorded(config))
        self._learner = _learner_of(config, sizes)
        self._rule = replace(
            GateRule.of(config.comm, config.gate),
            noise=torch.Generator().manual_seed(0),
            noisy_B=torch.ones(config.env.copies, dtype=torch.bool),
        )
        self._draws = torch.Generator().manual_seed(0)
        self._opponents_E = np.zeros(config.env.copies, dtype=np.int64)
        self._rests_E = np.zeros(config.env.copies, dtype=np.bool_)

    def train(self) -> tuple[float, int, float]:
        """Steps a second, updates, and seconds of one."""
        learner, laps_s, number = self._learner, list[float](), 0
        began_s, env_steps = time.perf_counter(), 0
        snapshots = self._copies.reset()
        while env_steps < self._config.steps:
            episodes, snapshots = self._rollout(snapshots, number)
            number += len(episodes)
            for episode in episodes:
                env_steps += episode.length
                learner.add(replace(episode, env_steps=env_steps))
            while learner.updates_owed:
                lap_s = time.perf_counter()
                learner.update()
                laps_s.append(time.perf_counter() - lap_s)
        seconds = time.perf_counter() - began_s
        return env_steps / seconds, len(laps_s), statistics.fmean(laps_s)

    @torch.no_grad()
    def _rollout(
        self, snapshots: tuple[Snapshot, ...], number: int
    ) -> tuple[list[Episode], tuple[Snapshot, ...]]:
        """An episode of each copy, all of one length, and what is seen after it."""
        carry = Carry.begin(self._learner.network, len(snapshots))
        seen = [snapshots]
        rows: dict[str, list[np.ndarray[Any, Any]]] = {
            name: [] for name in ("actions", "rewards", GATES.name, LOG_PROB.name)
        }
        while True:
            now = seen[-1]
            observations_BND = torch.tensor(np.array([s.observations_ND for s in now])).float()
            alive_BN = torch.tensor(np.array([s.alive_N for s in now]))
            window = UnrollInput(observations_BND[None], alive_BN[None])
            output = unroll(self._learner.network, window, self._rule, carry)
            carry = output.carry
            log_p_BNA = output.q_TBNA[0].log_softmax(-1)
            flat = log_p_BNA.flatten(0, 1).exp()
            actions_BN = torch.multinomial(flat, 1, generator=self._draws).view(alive_BN.shape)
            log_prob_BN = log_p_BNA.gather(-1, actions_BN.unsqueeze(-1)).squeeze(-1)
            bits_K = 1 << torch.arange(output.gates_TBNK.shape[-1])
            gates_BN = (output.gates_TBNK[0].long() * bits_K).sum(-1)
            steps = self._copies.step(actions_BN.numpy(), self._opponents_E, self._rests_E)
            rows["actions"].append(actions_BN.numpy())
            rows["rewards"].append(np.array([s.transition.rewards_N for s in steps]))
            rows[GATES.name].append(gates_BN.numpy().astype(np.uint16))
            rows[LOG_PROB.name].append(log_prob_BN.numpy())
            seen.append(tuple(s.transition.after for s in steps))
            if steps[0].transition.terminated:
                return self._episodes(seen, rows, number), tuple(s.now for s in steps)

    def _episodes(
        self,
        seen: Sequence[tuple[Snapshot, ...]],
        rows: dict[str, list[np.ndarray[Any, Any]]],
        number: int,
    ) -> list[Episode]:
        by_copy = {name: np.array(values).swapaxes(0, 1) for name, values in rows.items()}
        versions_N = np.ones(self._config.num_agents, dtype=np.uint32)
        return [
            Episode(
                dimensions=self._learner.dimensions,
                number=number + copy,
                env_steps=0,
                observations=np.array([moment[copy].observations_ND for moment in seen]),
                actions=by_copy["actions"][copy].astype(np.uint8),
                rewards=by_copy["rewards"][copy].astype(np.float32),
                states=np.array([moment[copy].state_S for moment in seen], dtype=np.float32),
                alive=np.array([moment[copy].alive_N for moment in seen]),
                terminated=True,
                columns={name: by_copy[name][copy] for name in (GATES.name, LOG_PROB.name)},
                first_versions=versions_N,
                last_versions=versions_N,
            )
            for copy in range(len(seen[0]))
        ]


def _learner_of(config: RunConfig, sizes: Dimensions) -> Learner:
    spec = PolicySpec.of(
        config.network,
        sizes.observation_dim,
        sizes.num_actions,
        comm=config.comm,
        comm_options=config.comm_options,
    )
    return Learner(config, spec, sizes, initialise(spec, np.random.default_rng(0)), "cpu")


def table_of(results: Sequence[Result]) -> Table:
    """Medians over the turns."""
    table = Table("agents", "case", "steps/s", "update, ms")
    for key in dict.fromkeys((each.agents, each.case) for each in results):
        own = [each for each in results if (each.agents, each.case) == key]
        pace = statistics.median(each.steps_per_s for each in own)
        update_s = statistics.median(each.update_s for each in own)
        table.add_row(f"{key[0]}", key[1], f"{pace:.0f}", f"{1000.0 * update_s:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
