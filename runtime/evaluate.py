"""Play a trained policy with real processes, or simulate them in one.

    python -m runtime.evaluate --policy FILE --env battle --agents 100 --episodes 20

Greedy actions, deterministic gates, no learner. `--simulate` plays the same episodes in one process
through the torch unroll that the learner trains with.

`--kill-fraction 0.1 --kill-at 50` kills a tenth of the agent processes for good when every episode
has played 50 steps, `--drop-edges 0.2` loses every fifth packet on the edges
(runtime/net/failures.py).
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from agents.comm.centralised import refusal
from agents.comm.graphs import graph_of
from agents.found import ranks_by_beacons, scheme_of
from agents.policy import (
    PolicyFile,
    PolicySpec,
    bounds_to_text,
    initialise,
    load_agents_policy,
    require_spec,
)
from configs import streams
from configs.algorithms.described import check_sampled
from configs.effects import learns_no_gate
from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line, preset_for
from configs.ranges import between, check_ranges, within
from configs.schema import (
    MAX_AGENTS,
    MAX_COPIES,
    MAX_CYCLES,
    MAX_EPISODES,
    MAX_OFFSETS,
    MAX_PORT,
    MAX_SEED,
    BeaconDtype,
    EnvName,
    GateMode,
    GateTiming,
    LearnerConfig,
    RunConfig,
    Transport,
)
from configs.shipped import policy_path
from configs.short_help import EVALUATE
from configs.streams import Role
from envs import registry
from envs.family import ContestedFamily
from runtime.deployment.bundle import Bundle
from runtime.host import preflight
from runtime.host.exporter import require_free_port
from runtime.net.failures import NO_FAILURES, Failures
from runtime.net.logs import setup_logging
from runtime.run.evaluation_figures import figures_of_run, figures_of_simulation
from runtime.run.head import invitations, open_bundles
from runtime.run.placer import Placer
from runtime.run.plan import Plan, RunEnd
from runtime.run.run import Run
from runtime.run.view import RunSnapshot, View, make_view
from runtime.terminal.figures_table import figures_table
from runtime.terminal.places import require_folder
from runtime.terminal.scratch import Scratch, require_temporary_folder

UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """Play a policy without a learner and print win rate, return and bytes."""

    policy: str
    """Policy file, or a word: shipped for the one that comes with the environment, untrained for a
    fresh one (a baseline)."""

    env: EnvName = "battle"
    """Environment: a name that --help lists, pettingzoo:MODULE or package.module:callable."""

    env_options: Annotated[str, tyro.conf.arg(name="env.options")] = ""
    """What the environment itself takes: name=value,name=value."""

    agents: Annotated[int | None, between(2, MAX_AGENTS)] = None
    """Number of agents N; a policy runs at any, but may be worth little at a size that it was not
    trained at. Unset takes 100, or as many as the environment has if it decides that itself."""

    episodes: Annotated[int, between(1, MAX_EPISODES)] = 20
    """Episodes to play."""

    env_copies: Annotated[int, between(0, MAX_COPIES)] = 0
    """Environment copies that are played at once; 0 takes as many as episodes, at most 16."""

    opponent: str = ""
    """The other team, where there is one; several joined by + take turns. Battle's are idqn
    (trained by self-play, the default), scripted, random or a file."""

    seed: Annotated[int, between(0, MAX_SEED)] = 1_000_000
    """Root seed of the episodes; far from training's by default."""

    sampled: bool = False
    """Draw actions from the policy's probabilities instead of taking the likeliest. Only for
    policies of algorithms that learn such ones (ippo, mappo)."""

    gate_timing: Annotated[GateTiming | None, tyro.conf.arg(name="gate.timing")] = None
    """Timing of the gate; unset takes what the policy was trained with."""

    gate_mode: Annotated[GateMode | None, tyro.conf.arg(name="gate.mode")] = None
    """Mode of the gate; unset takes what the policy was trained with."""

    gate_budget: Annotated[
        int | None, tyro.conf.arg(name="gate.budget"), between(0, MAX_OFFSETS)
    ] = None
    """Edges an agent may open in one step, 0 without limit; unset takes what the policy was trained
    with."""

    beacon_delta: Annotated[
        float | None, tyro.conf.arg(name="network.beacon-delta"), within(0.0, 2.0)
    ] = None
    """Agents keep a beacon to themselves while it differs by no more than this from the last one
    that was sent; unset takes the policy's own."""

    beacon_period: Annotated[
        int | None, tyro.conf.arg(name="network.beacon-period"), between(1, 10_000)
    ] = None
    """Steps after which a beacon may be sent again; unset takes the policy's own."""

    beacon_dtype: Annotated[BeaconDtype | None, tyro.conf.arg(name="network.beacon-dtype")] = None
    """Number format of beacons on the wire; unset takes the policy's own."""

    transport: Transport = "ipc"
    """ipc or tcp over loopback."""

    hosts: str = ""
    """Hosts file of an evaluation across machines (docs/deploy.md)."""

    bundles: str = "bundles"
    """Folder of the hosts' keys; made the first time."""

    metrics_port: Annotated[int, between(0, MAX_PORT)] = 0
    """Port of http://127.0.0.1:PORT/metrics; 0 switches the exporter off."""

    start_timeout_s: Annotated[
        float, tyro.conf.arg(name="runtime.start-timeout-s"), within(1.0, 86_400.0)
    ] = 120.0
    """Seconds that a start may stand still before it is given up; for each agent there is a fifth
    of a second more. While processes keep coming it goes on, for five times as long at most."""

    kill_fraction: Annotated[float, within(0.0, 1.0, below_high=True)] = 0.0
    """Share of the agent processes that are killed for good, drawn from the seed and rounded up;
    all episodes are then played at once, each in a copy of its own."""

    kill_at: Annotated[int, between(0, MAX_CYCLES)] = 0
    """Steps that every episode has played when they are killed."""

    drop_edges: Annotated[float, within(0.0, 1.0)] = 0.0
    """Probability with which a message or beacon is lost, drawn for each edge and step."""

    simulate: bool = False
    """One process and the torch unroll instead of real processes."""

    json: bool = False
    """Print nothing but one JSON object."""

    record: str = ""
    """Folder for an .npz file of each episode: observations, actions, gates, q-values (real
    processes only)."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.simulate and self.hosts:
            raise ValueError("hosts need real processes: leave out simulate")
        if self.hosts and self.drop_edges:
            # Agents elsewhere follow the run's configuration, which knows nothing of losses.
            raise ValueError("drop-edges needs all agents on this machine: leave out hosts")
        if self.simulate and self.record:
            raise ValueError("record needs real processes: leave out simulate")
        failures = self.failures
        if not failures.kill_fraction:
            if failures.kill_at:
                raise ValueError("kill-at says when, but not how many: give kill-fraction as well")
            return
        if self.env_copies not in (0, self.episodes):
            raise ValueError(
                "a kill wants all episodes played at once: leave out env-copies or make it "
                f"{self.episodes}, got {self.env_copies}"
            )
        if self.episodes > MAX_COPIES:
            raise ValueError(
                f"a kill wants all episodes played at once: episodes must be at most {MAX_COPIES}, "
                f"got {self.episodes}"
            )
        if self.record:
            raise ValueError(
                "record keeps whole episodes, and the killed take their part along: leave out "
                "record or kill-fraction"
            )

    @property
    def failures(self) -> Failures:
        return Failures(
            kill_fraction=self.kill_fraction, kill_at=self.kill_at, drop_edges=self.drop_edges
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse_command_line(
            EvaluateOptions, argv, prog="python -m runtime.evaluate", short=EVALUATE
        )
        config, policy = resolve(options)
        for line in without_effect(options, config):
            with suppress(OSError):
                print(f"warning: {line}", file=sys.stderr)
        head = _open_head(options, config.num_agents)
    except (UserError, ValueError) as error:
        exit_with_error(error)
    if options.simulate:
        figures = _simulate(options, config, policy)
        code = 0
    else:
        outcome, run = _play(options, config, policy, head)
        code = outcome.exit_code
        figures = figures_of_run(config, outcome, run, options.failures)
        if code:
            print(f"error: {outcome.reason}", file=sys.stderr)
    _print(figures, as_json=options.json)
    return code


def resolve(options: EvaluateOptions) -> tuple[RunConfig, PolicyFile]:
    """Configuration and policy of an evaluation; everything is checked before anything starts.

    Raises:
        ConfigError, PolicyFileError, SetupError, ValueError: one clear line.
    """
    preset = preset_for(options.env)
    env = dataclasses.replace(
        preset.env,
        options=options.env_options,
        opponent=options.opponent or _usual_opponent(options.env),
        evaluation_opponent="",
        copies=options.env_copies
        or (options.episodes if options.kill_fraction else min(options.episodes, 16)),
    )
    num_agents = options.agents or registry.population_of(env) or preset.num_agents
    spec = registry.spec_of(env, num_agents)
    if options.policy == UNTRAINED:
        shape = PolicySpec.of(
            preset.network,
            spec.observation_dim,
            spec.num_actions,
            comm=preset.comm,
            comm_options=preset.comm_options,
            observation_shape=spec.observation_shape,
            bounds=spec.bounds,
        )
        flat = initialise(shape, streams.generator(options.seed, Role.POLICY))
        policy = PolicyFile(shape, flat, 0, {})
    else:
        path = policy_path(options.policy, options.env)
        policy = load_agents_policy(path)
        wanted = dataclasses.replace(
            policy.spec,
            observation_dim=spec.observation_dim,
            num_actions=spec.num_actions,
            action_bounds="" if spec.bounds is None else bounds_to_text(spec.bounds),
        )
        require_spec(path, policy.spec, wanted)
    said = {
        "beacon_delta": options.beacon_delta,
        "beacon_period": options.beacon_period,
        "beacon_dtype": options.beacon_dtype,
    }
    asked: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    policy = dataclasses.replace(policy, spec=dataclasses.replace(policy.spec, **asked))
    trained: dict[str, Any] = {
        "timing": options.gate_timing or policy.trained.get("gate_timing", preset.gate.timing),
        "mode": options.gate_mode or policy.trained.get("gate_mode", preset.gate.mode),
        "budget": policy.gate_budget if options.gate_budget is None else options.gate_budget,
    }
    config = dataclasses.replace(
        preset,
        num_agents=num_agents,
        seed=options.seed,
        comm=policy.trained.get("comm", policy.spec.scheme),
        comm_options=policy.spec.scheme_options,
        env=env,
        gate=dataclasses.replace(preset.gate, **trained),
        agents=dataclasses.replace(
            preset.agents,
            dead=policy.trained.get("dead", preset.agents.dead),  # type: ignore[arg-type]
            record_q=bool(options.record),
        ),
        network=_network_of(preset, policy.spec),
        learner=_learner_of(preset, policy, asked=options.sampled or spec.is_continuous),
        evaluation=dataclasses.replace(preset.evaluation, sampled=options.sampled),
        runtime=dataclasses.replace(
            preset.runtime,
            transport="tcp" if options.hosts else options.transport,
            metrics_port=options.metrics_port,
            start_timeout_s=options.start_timeout_s,
        ),
    )
    preflight.require_players(config)
    preflight.require_scheme(config)
    if scheme_of(config.comm).centralised and not options.simulate:
        raise refusal(config.comm, "evaluate with --simulate")
    registry.check(config.env, config.num_agents)
    check_sampled(config)
    if spec.is_continuous:
        preflight.require_actions(config, spec)
    if options.simulate and options.sampled:
        raise ValueError("simulate plays the likeliest actions: leave out simulate or sampled")
    if options.record:
        require_folder(Path(options.record), "--record")
    if options.simulate and options.drop_edges and config.gate.timing == "paper":
        raise ValueError(
            "simulate loses packets with gate.timing causal only: leave out simulate or drop-edges"
        )
    if options.simulate and options.drop_edges and config.gate.budget:
        raise ValueError(
            "simulate loses packets without a gate.budget only: leave out simulate or drop-edges, "
            "or say --gate.budget 0"
        )
    mode = scheme_of(config.comm).gate_mode(config.gate.mode)
    ranks = ranks_by_beacons(config.comm, mode, policy.spec.scheme_opts())
    if options.simulate and options.drop_edges and ranks:
        raise ValueError(
            f"simulate loses no packets of comm {config.comm}: leave out simulate or drop-edges"
        )
    if not options.simulate:
        preflight.require_open_files(graph_of(config.comm, config.comm_options, config.num_agents))
        preflight.require_tasks(config.num_agents)
        require_temporary_folder()
        if config.runtime.metrics_port:
            require_free_port(config.runtime.metrics_port)
    return config, policy


def without_effect(options: EvaluateOptions, config: RunConfig) -> list[str]:
    """A line for each reason why options do nothing in this evaluation."""
    lines: list[str] = []
    if options.opponent and not registry.family_of(config.env.name).is_contested:
        lines.append(f"opponent has no effect: {config.env.name} has no second team")
    about_edges = {
        "gate.timing": options.gate_timing,
        "gate.mode": options.gate_mode,
        "gate.budget": options.gate_budget,
        "network.beacon-delta": options.beacon_delta,
        "network.beacon-period": options.beacon_period,
        "network.beacon-dtype": options.beacon_dtype,
    }
    given = [name for name, value in about_edges.items() if value is not None]
    if config.comm == "none" and given:
        have = "has" if len(given) == 1 else "have"
        lines.append(f"{', '.join(given)} {have} no effect: the policy's agents do not speak")
    of_gate = [name for name in given if name in ("gate.mode", "gate.budget")]
    if learns_no_gate(config) and of_gate:
        have = "has" if len(of_gate) == 1 else "have"
        lines.append(
            f"{', '.join(of_gate)} {have} no effect: comm {config.comm} opens its edges by a rule "
            "of its own"
        )
    return lines


def _usual_opponent(env: str) -> str:
    family = registry.family_of(env)
    return family.evaluated_against if isinstance(family, ContestedFamily) else "random"


def _network_of(preset: RunConfig, spec: PolicySpec) -> Any:
    names = [field.name for field in dataclasses.fields(preset.network)]
    sizes = {name: getattr(spec, name) for name in names if name not in ("name", "options")}
    return dataclasses.replace(
        preset.network, name=spec.network, options=spec.network_options, **sizes
    )


def _learner_of(preset: RunConfig, policy: PolicyFile, *, asked: bool) -> LearnerConfig:
    """How actions are drawn, and what real numbers are made of, depends on the algorithm that
    trained the policy. Otherwise the best action is taken, and nobody asks.
    """
    if not asked:
        return preset.learner
    return dataclasses.replace(
        preset.learner, algorithm=policy.trained.get("algorithm", preset.learner.algorithm)
    )


def _open_head(options: EvaluateOptions, num_agents: int) -> Bundle | None:
    """This machine's part of an evaluation across hosts; says what to do on the others."""
    if not options.hosts:
        return None
    head = open_bundles(Path(options.hosts), Path(options.bundles), num_agents)
    print("\n".join(invitations(head)), file=sys.stderr, flush=True)
    return head


def _play(
    options: EvaluateOptions, config: RunConfig, policy: PolicyFile, head: Bundle | None
) -> tuple[RunEnd, Run]:
    """Real processes, in a folder that lasts as long as the evaluation."""
    with closing(Scratch()) as scratch:
        directory = scratch.path
        setup_logging("launcher", 0, directory / "logs")
        outcome, run = play(
            config,
            policy,
            options.episodes,
            directory,
            _view(options),
            record=bool(options.record),
            head=head,
            failures=options.failures,
        )
        if run.recorder is not None:
            _save_episodes(Path(options.record), run)
    return outcome, run


def play(
    config: RunConfig,
    policy: PolicyFile,
    episodes: int,
    directory: Path,
    view: View,
    *,
    record: bool = False,
    head: Bundle | None = None,
    placer: Placer | None = None,
    failures: Failures = NO_FAILURES,
) -> tuple[RunEnd, Run]:
    """Evaluate with real processes.

    Args:
        record: the run's recorder then holds every episode.
        head: keys and addresses of an evaluation across hosts, whose nodes join.
        placer: looks after these nodes; None: a person does.
        failures: what is made to fail; a kill wants as many copies as episodes.
    """
    assert not failures.kill_fraction or config.env.copies == episodes
    plan = Plan.of_evaluation(
        config, policy, episodes, directory, record=record, head=head, failures=failures
    )
    plan = dataclasses.replace(plan, placer=placer)
    run = Run(plan, view, None)
    return run.execute(), run


def _simulate(options: EvaluateOptions, config: RunConfig, policy: PolicyFile) -> dict[str, Any]:
    from learner.simulate import simulate  # torch is only needed here

    begun_s = time.monotonic()
    failures = options.failures
    copies = registry.make_copies(config.env, config.num_agents, config.seed)
    try:
        opponents = registry.opponents_of(config.env)
        results = simulate(
            config, policy, copies, options.episodes, failures=failures, opponents=opponents
        )
    finally:
        copies.close()
    figures = figures_of_simulation(config, copies.spec, results, opponents, failures)
    return figures | {"wall_s": round(time.monotonic() - begun_s, 3), "exit_reason": "finished"}


def _print(figures: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    Console().print(figures_table(figures))


class _Silent:
    """The view of `--json`."""

    def start(self) -> None:
        pass

    def update(self, snapshot: RunSnapshot) -> None:
        pass

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None:
        pass


def _view(options: EvaluateOptions) -> View:
    return _Silent() if options.json else make_view(options.episodes, "episodes")


def _save_episodes(folder: Path, run: Run) -> None:
    assert run.recorder is not None
    folder.mkdir(parents=True, exist_ok=True)
    for episode in run.recorder.episodes:
        arrays: dict[str, Any] = {
            "observations": episode.observations,
            "actions": episode.actions,
            "rewards": episode.rewards,
            "states": episode.states,
            "alive": episode.alive,
            **episode.columns,
        }
        np.savez_compressed(folder / f"episode-{episode.number:06d}.npz", **arrays)


if __name__ == "__main__":
    run_command(main)
