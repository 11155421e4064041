"""One command, a hundred agents: start a run, here or across hosts, and see it through.

python -m runtime.launch --agents 100 --env battle

configuration -> checks -> run folder -> world, learner, node (which starts the agents) -> summary
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import dataclasses
import importlib.util
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from rich.console import Console

from agents.carry import carry_dim
from agents.comm.centralised import refusal
from agents.comm.graphs import graph_of, moves
from agents.found import scheme_of
from agents.parameters import ParameterStore
from agents.policy import (
    FROZEN,
    PolicyFile,
    PolicySpec,
    initialise,
    load_policy,
    write_atomically,
)
from agents.pretrained import begin_with, load_pretrained
from agents.rules import AgentRules
from configs import streams
from configs.algorithms.described import traits_of
from configs.columns import recorded
from configs.effects import effective
from configs.errors import UserError
from configs.load import (
    exit_with_error,
    load_run_config,
    parse_run_config,
    resolved_text,
    resumed_folder,
)
from configs.run_files import CHECKPOINT, EPISODES, JOURNAL, RESOLVED
from configs.schema import RunConfig
from configs.shipped import policy_path
from configs.streams import Role
from envs import registry
from learner import entry as learner_entry
from learner.checkpoint_file import (
    CheckpointContent,
    CheckpointProgress,
    read_checkpoint,
)
from learner.experience.episode import Dimensions
from learner.experience.journal import newest_number, steps_played
from learner.resumed_policy import resumed_policy
from learner.setup import LearnerSetup
from runtime.host import preflight
from runtime.net.errors import SetupError
from runtime.net.logs import setup_logging
from runtime.ray.placer import RayPlacer
from runtime.record import run_folder
from runtime.record.json_lines import read_records
from runtime.record.run_log import RunLog, new_run_directory
from runtime.record.trackers import open_tracker, require_tracker
from runtime.run.central import Centre
from runtime.run.head import open_bundles
from runtime.run.placer import ByHand, Placer
from runtime.run.plan import LearnerPlace, Plan, PlayedBefore
from runtime.run.run import Run
from runtime.run.serial_learner import SerialLearner
from runtime.run.serial_training import SerialTraining
from runtime.run.view import PlainView, make_view
from runtime.terminal.processes import spawn

logger = logging.getLogger(__name__)


def main(
    argv: Sequence[str] | None = None, begun: Callable[[Path], None] = lambda folder: None
) -> int:
    """Entry point; returns the exit code. 2 means that nothing was started.

    Args:
        begun: told the run's folder when the run begins.
    """
    remarks: list[str] = []
    with ExitStack() as stack:
        try:
            arguments = sys.argv[1:] if argv is None else argv
            folder = resumed_folder(arguments)
            if folder is not None and (folder / RESOLVED).exists():
                # Before anything in it is read: what is read may be another run's to change.
                run_folder.check(folder)
                stack.enter_context(run_folder.held(folder))
            config = load_run_config(
                arguments, remark=remarks.append, population=registry.population_of
            )
            plan = make_plan(config)
            remarks += _thaws(config)
        except (UserError, ValueError) as error:
            exit_with_error(error)
        except OSError as error:
            exit_with_error(SetupError(f"{error.filename}: {error.strerror}"))
        if plan.placer is not None:
            stack.callback(plan.placer.close)
        try:
            if not config.resume:
                stack.enter_context(run_folder.held(plan.directory))
            setup_logging("launcher", 0, plan.directory / "logs")
            reached = plan.played_before.env_steps
            tracker = open_tracker(config.runtime.track, plan.directory, plan.config)
            log = RunLog(plan.directory, tracker=tracker, life=plan.config.life, resumed_at=reached)
            if config.runtime.serial:
                run = SerialTraining(
                    plan, PlainView(config.steps, "steps", Console(file=sys.stdout)), log
                )
            else:
                run = Run(plan, make_view(config.steps), log)
        except (SetupError, OSError) as error:
            if not config.resume:
                shutil.rmtree(plan.directory, ignore_errors=True)
            exit_with_error(error)
        begun(plan.directory)
        return _see_through(plan, run, log, remarks)


def _see_through(plan: Plan, run: Run | SerialTraining, log: RunLog, remarks: Sequence[str]) -> int:
    """Execute the run; the exit code."""
    logger.info("run %s begins", plan.directory)
    for line in remarks:
        logger.warning("%s", line)
    if plan.placer is not None:
        plan.placer.begin()
    try:
        outcome = run.execute()
    finally:
        log.close()
    if outcome.exit_code:
        print(f"error: {outcome.reason}", file=sys.stderr)
    return outcome.exit_code


def make_plan(config: RunConfig) -> Plan:
    """Check everything that can be checked, then make the run's folder.

    Raises:
        SetupError, PolicyFileError, CheckpointError, ValueError: one clear line; nothing was made.
    """
    checkpoint = None
    if config.resume:
        checkpoint = _checkpointed(Path(config.resume) / CHECKPOINT)
        config = _next_life(config, checkpoint.progress)
    env = registry.spec_of(config.env, config.num_agents)
    preflight.require_players(config)
    config = effective(config)
    registry.check(config.env, config.num_agents)
    spec = PolicySpec.of(
        config.network,
        env.observation_dim,
        env.num_actions,
        comm=config.comm,
        comm_options=config.comm_options,
        observation_shape=env.observation_shape,
        bounds=env.bounds,
    )
    preflight.require_actions(config, env)
    preflight.require_populations(config, env)
    preflight.require_speakers(config)
    preflight.check(config, spec)
    graph = graph_of(config.comm, config.comm_options, config.num_agents)
    remembered = carry_dim(spec, graph.num_edges) if traits_of(config.learner).rollout_steps else 0
    if importlib.util.find_spec("torch") is None:
        raise SetupError('training needs torch: install it with pip install -e ".[train]"')
    preflight.require_memory(config, spec, env)
    preflight.require_device(config.learner)
    require_tracker(config.runtime.track)
    is_central = scheme_of(config.comm).centralised
    if config.runtime.serial:
        require_one_process(config)
    elif is_central:
        raise refusal(config.comm, "train with --serial")
    placer: Placer | None = None
    if config.runtime.hosts:
        where = Path(config.runtime.hosts), Path(config.runtime.bundles)
        placer = ByHand(open_bundles(*where, config.num_agents))
    if config.runtime.spreads:
        config = dataclasses.replace(
            config, runtime=dataclasses.replace(config.runtime, transport="tcp")
        )
    played_before, version = PlayedBefore(), 1
    if checkpoint is not None:
        reached, directory = checkpoint.progress, Path(config.resume)
        # Episodes that were acknowledged after the checkpoint are played, learnt from and counted.
        played = max(reached.env_steps, steps_played(directory / JOURNAL))
        played_before = PlayedBefore(
            env_steps=played, episodes=_episodes_begun(directory, config.env.copies)
        )
        version = reached.version
        _require_same_neighbours(parse_run_config(checkpoint.config), config)
        parameters = resumed_policy(directory, checkpoint, spec)
        if config.steps <= reached.env_steps:
            raise SetupError(
                f"{config.resume} has already done {reached.env_steps} of {config.steps} steps: "
                "give --steps a larger number to go on"
            )
    else:
        parameters = _initial_policy(config, spec).flat
        directory = _new_directory(config)
    if config.runtime.placer == "ray":
        placer = _place_by_ray(config, directory)
    try:
        _keep_configuration(config, directory)
    except SetupError:
        if placer is not None:
            placer.close()
        raise

    def setup_of(place: LearnerPlace) -> LearnerSetup:
        return LearnerSetup(
            config=config,
            dimensions=Dimensions.of(env, recorded(config, trains=True), remembered, graph),
            initial=parameters,
            initial_version=version,
            incarnation=place.incarnation,
            launcher_endpoint=place.launcher_endpoint,
            bind_endpoint=place.bind_endpoint,
            checkpoint=directory / CHECKPOINT,
            resume=place.resume,
            keyring=place.keyring,
            run_dir=directory,
            logs=directory / "logs",
        )

    def start_learner(place: LearnerPlace) -> BaseProcess:
        environment = None if placer is None else dict(placer.learner_environment)
        return spawn(learner_entry.main, setup_of(place), "murmuration learner", environment)

    def open_learner(place: LearnerPlace) -> SerialLearner:
        from learner import serial  # torch, which a launcher otherwise does without

        return serial.SerialLearner(setup_of(place))

    def open_centre(
        rules: AgentRules, store: ParameterStore, rngs: Sequence[np.random.Generator]
    ) -> Centre:
        from learner.central import CentralAgents  # torch, as above

        return CentralAgents(config, rules, store, rngs)

    return Plan(
        config=config,
        env=env,
        spec=spec,
        parameters=parameters,
        version=version,
        directory=directory,
        trains=True,
        evaluation_episodes=config.evaluation.episodes,
        start_learner=start_learner,
        open_learner=open_learner if config.runtime.serial else None,
        open_centre=open_centre if is_central else None,
        played_before=played_before,
        head=None if placer is None else placer.head,
        placer=placer,
    )


def require_one_process(config: RunConfig) -> None:
    """Refuse what a run in one process cannot have.

    Raises:
        SetupError: names the option.
    """
    if config.runtime.spreads:
        option = "--hosts" if config.runtime.hosts else "--placer ray"
        raise SetupError(f"--serial keeps everything in one process: leave out {option}")
    if config.learner.ranks > 1:
        raise SetupError(
            f"--serial keeps everything in one process: --learner.ranks {config.learner.ranks} "
            "needs as many, leave it out"
        )


def _place_by_ray(config: RunConfig, directory: Path) -> RayPlacer:
    """Hosts from Ray; what cannot be had leaves no folder behind."""
    try:
        return RayPlacer.open(config, directory)
    except BaseException:
        if not config.resume:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _new_directory(config: RunConfig) -> Path:
    runs = Path(config.runtime.runs_dir)
    try:
        return new_run_directory(runs, config.env.name, datetime.now())
    except OSError as error:
        raise SetupError(
            f"no folder can be made in {runs} ({error.strerror}): --runtime.runs-dir"
        ) from error


def _keep_configuration(config: RunConfig, directory: Path) -> None:
    """Write what is run; a resumed run has one already, which a full disk must not cost."""
    path = directory / RESOLVED
    try:
        write_atomically(path, resolved_text(config).encode())
    except OSError as error:
        if not config.resume:
            shutil.rmtree(directory, ignore_errors=True)
        raise SetupError(
            f"{path} cannot be written ({error.strerror}): make room, or choose another folder "
            "with --runtime.runs-dir"
        ) from error


def _next_life(config: RunConfig, reached: CheckpointProgress) -> RunConfig:
    """What a resumed run is told: files that only an earlier life needed may be gone."""
    learner = config.learner
    if reached.env_steps >= learner.teacher_steps and learner.teacher_coef_end == 0.0:
        learner = dataclasses.replace(learner, teacher="")
    return dataclasses.replace(config, life=config.life + 1, learner=learner)


def _checkpointed(path: Path) -> CheckpointContent:
    """The checkpoint of a run to be resumed, all of it read and verified: the learner would find
    damage only when the others are waiting for it."""
    checkpoint = read_checkpoint(path)
    if not checkpoint.is_verified:
        print(
            f"warning: {path} has no checksum, an older version wrote it: whether it is damaged "
            "cannot be known",
            file=sys.stderr,
        )
    return checkpoint


def _require_same_neighbours(before: RunConfig, config: RunConfig) -> None:
    """What a journal says of edges stands for the graph of its run.

    Raises:
        SetupError: neighbours were others in the earlier life.
    """
    if before.comm != config.comm:
        return  # then the policy has other tensors, and that is said
    moved = moves(before.comm, before.comm_options)
    if moved != moves(config.comm, config.comm_options):
        others = "their neighbours of each step" if moved else "everybody"
        raise SetupError(
            f"--comm.options {config.comm_options!r} does not fit --resume {config.resume}, whose "
            f"agents exchange with {others}: leave it out, or begin a new run, with --policy "
            f"{config.resume}/policy.safetensors if the network is to stay"
        )


def _episodes_begun(directory: Path, copies: int) -> int:
    """A number above all episodes of a run: those that its log or its journal knows, and one in
    each copy. A log on a full disk has gaps."""
    log = directory / EPISODES
    try:
        finished = [int(record["episode"]) for record in read_records(log)]
    except (KeyError, TypeError) as error:
        raise SetupError(f"{log} is damaged: a line lacks the number of its episode") from error
    journaled = newest_number(directory / JOURNAL)
    return max(*finished, journaled, -1) + 1 + copies


def _initial_policy(config: RunConfig, spec: PolicySpec) -> PolicyFile:
    """Where training begins; preflight has made sure that a named file fits."""
    if config.policy:
        return load_policy(policy_path(config.policy, config.env.name))
    flat = initialise(spec, streams.generator(config.seed, Role.POLICY))
    if config.pretrained:
        begin_with(spec, flat, load_pretrained(Path(config.pretrained), spec))
    return PolicyFile(spec, flat, 0, {})


def _thaws(config: RunConfig) -> list[str]:
    """What to say of a policy with frozen tensors that will be trained."""
    if not config.policy or config.pretrained or config.resume:
        return []
    kept = load_policy(policy_path(config.policy, config.env.name)).trained.get(FROZEN)
    if kept is None:
        return []
    return [
        f"--policy {config.policy} has tensors of {kept} that were frozen: all of it is trained "
        "from now on; give that file as --pretrained as well, and they stay as they are"
    ]


if __name__ == "__main__":
    run_command(main)
