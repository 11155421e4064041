"""What can be known to fail before anything is started.

    check(config, spec) -> nothing, or SetupError with the way out (exit code 2)

Population, engine and opponent belong to the environments: `envs.registry.check`.
"""

import os
import resource
import socket
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

from agents.comm.graphs import graph_of, moves
from agents.found import scheme_of
from agents.policy import PolicyFileError, PolicySpec, load_policy, require_spec
from agents.pretrained import load_pretrained, require_within
from configs.algorithms.base import Replayed
from configs.algorithms.described import describe, traits_of
from configs.extensions import ALGORITHM, own_names
from configs.options import read as read_options
from configs.schema import LearnerConfig, RunConfig
from configs.shipped import policy_path
from envs import registry
from envs.base import EnvSpec
from envs.battle.opponents import PolicyFileOpponent, opponent_file
from runtime.host.exporter import require_free_port
from runtime.net.addresses import is_name
from runtime.net.errors import SetupError
from runtime.net.topology import Graph
from runtime.terminal.places import probe
from runtime.terminal.scratch import require_temporary_folder

_COUNT_GPUS = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
NAME_PATIENCE_S = 60.0
"""Seconds that a host's DNS name has to become an address of this machine: cluster DNS keeps an
answer for up to thirty."""
_NAME_RETRY_S = 0.5
_MOST_FLOAT16 = 2049
"""Numbers from 0 that float16 holds exactly."""
_COPIES_OF_WEIGHTS = 5
"""The learner holds its weights, the target network's, their gradient and Adam's two moments."""


def check(config: RunConfig, spec: PolicySpec) -> None:
    """Check machine and files for a run; raises the limit of open files where that is enough.

    Args:
        spec: what a policy must be like to be run here.

    Raises:
        SetupError, PretrainedError: names the obstacle, the value, and what to do about it.
    """
    require_scheme(config)
    require_open_files(graph_of(config.comm, config.comm_options, config.num_agents))
    require_tasks(config.num_agents, config.learner.threads)
    require_temporary_folder()
    require_free_port(config.runtime.metrics_port, config.runtime.metrics_address)
    require_writable(Path(config.runtime.runs_dir))
    if config.policy and not config.resume:  # a resumed run has a policy of its own
        require_policy(policy_path(config.policy, config.env.name), spec)
    if config.pretrained and not config.resume:
        tensors = load_pretrained(Path(config.pretrained), spec)
        if config.policy:
            path = policy_path(config.policy, config.env.name)
            require_within(load_policy(path), tensors, f"policy file {path}")


def require_scheme(config: RunConfig) -> None:
    """Check that the communication scheme runs with so many agents and in such steps.

    Raises:
        SetupError: it has more edges than can be named, not this timing, no positions or neighbours
            to go by, or actions that no message can name.
    """
    try:
        graph_of(config.comm, config.comm_options, config.num_agents)
    except ValueError as error:
        raise SetupError(f"--comm {config.comm}: {error}") from error
    _require_position(config)
    _require_actions(config)
    _require_neighbours(config)
    timings = scheme_of(config.comm).timings
    if config.gate.timing not in timings:
        raise SetupError(
            f"--comm {config.comm} runs with --gate.timing {' or '.join(timings)}, got "
            f"{config.gate.timing}"
        )


def _require_position(config: RunConfig) -> None:
    """Check that observations say where an agent is, if the scheme reads that."""
    scheme = scheme_of(config.comm)
    options = read_options(scheme.Options, config.comm_options, "--comm.options")
    env = config.env
    if not scheme.needs_position(options):
        return
    if registry.spec_of(env, config.num_agents).has_position:
        return
    offered = {field.name for field in fields(registry.family_of(env.name).Options)}
    way_out = f"observations of {env.name} have none: take another environment, or"
    if "position" in offered:
        way_out = "give --env.options position=true, or"
    raise SetupError(
        f"--comm {config.comm} chooses edges by the agents' positions: {way_out} "
        "--comm.options distance=ring"
    )


def _require_neighbours(config: RunConfig) -> None:
    """Check that the environment says who is whose neighbour, if the scheme goes by that."""
    env = config.env
    if not moves(config.comm, config.comm_options):
        return
    if registry.spec_of(env, config.num_agents).has_neighbours:
        return
    offered = {field.name for field in fields(registry.family_of(env.name).Options)}
    way_out = f"{env.name} has none: take another environment (gather, battle) or another scheme"
    if "neighbours" in offered:
        way_out = "give --env.options neighbours=true"
    raise SetupError(
        f"--comm {config.comm} speaks to the neighbours that an agent has in a step: {way_out}"
    )


def _require_actions(config: RunConfig) -> None:
    """Check that a message can name each action, if the scheme says actions."""
    if not scheme_of(config.comm).says_actions:
        return
    env = registry.spec_of(config.env, config.num_agents)
    if env.is_continuous:
        raise SetupError(
            f"--comm {config.comm} says which action of a list was chosen, and actions of "
            f"{config.env.name} are real numbers: take another scheme"
        )
    if config.network.message_dtype == "float16" and env.num_actions > _MOST_FLOAT16:
        raise SetupError(
            f"--comm {config.comm} says actions by their numbers, and {config.env.name} has "
            f"{env.num_actions} of them, more than float16 tells apart: give "
            "--network.message-dtype float32"
        )


def open_files_needed(graph: Graph) -> int:
    """Descriptors that the hungriest process of a run opens.

    The node has three for every agent (connection, exit pipe, life line), world and learner one; an
    agent has up to four for each edge (two connections, and two sockets' own). N = 100 needs 400.
    """
    node = 3 * graph.num_agents + 100
    agent = 4 * graph.num_edges + 40
    return max(node, agent)


def require_open_files(graph: Graph) -> None:
    """Raise this process's limit, which all others inherit, if it is too low.

    Raises:
        SetupError: the hard limit is too low as well.
    """
    needed = open_files_needed(graph)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SetupError(
            f"{graph.num_agents} agents need {needed} open files in one process, the limit is "
            f"{hard}: raise it with `ulimit -n {needed}` (as root, or in /etc/security/limits.conf)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tasks_needed(num_agents: int, threads: int = 0) -> int:
    """Processes and threads of a run: each agent has three threads (its own and ZeroMQ's two), and
    300 more are enough for world, learner and node. N = 1000 needs 3300.

    Args:
        threads: that the learner was told to have.
    """
    return 3 * num_agents + 300 + threads


def require_tasks(num_agents: int, threads: int = 0) -> None:
    """Check that the machine lets us have so many processes and threads.

    Raises:
        SetupError: it does not; says which limit it is.
    """
    needed = tasks_needed(num_agents, threads)
    limits = {
        "ulimit -u": _user_limit(),
        "kernel.pid_max": _number_in(Path("/proc/sys/kernel/pid_max")),
        "kernel.threads-max": _number_in(Path("/proc/sys/kernel/threads-max")),
        "the cgroup's pids.max": _cgroup_limit("pids.max"),
    }
    for name, limit in limits.items():
        if limit is not None and limit < needed:
            raise SetupError(
                f"{num_agents} agents need {needed} processes and threads, {name} allows {limit}: "
                "raise it, or run fewer agents"
            )


def _user_limit() -> int | None:
    if os.geteuid() == 0:  # the kernel does not hold root to it
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return None if soft == resource.RLIM_INFINITY else soft


def _cgroup_limit(name: str) -> int | None:
    """The tightest limit of this name from our cgroup up to the root (v2); None: there is none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if own is None:
        return None
    root = Path("/sys/fs/cgroup")
    folders = [root / own, *(root / own).parents]
    found = [_number_in(folder / name) for folder in folders if folder.is_relative_to(root)]
    return min((limit for limit in found if limit is not None), default=None)


def _number_in(path: Path) -> int | None:
    """The number that a file holds; None if it holds none ("max") or cannot be read."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def require_writable(folder: Path) -> None:
    """Create the folder if need be and write something into it.

    Raises:
        SetupError: no room, no right, or not a folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe(folder)
    except OSError as error:
        raise SetupError(
            f"runs folder {folder} cannot be written ({error.strerror}): choose another with "
            "--runtime.runs-dir"
        ) from error


def require_players(config: RunConfig) -> None:
    """Look up everybody that the configuration names, where there is another team.

    Raises:
        SetupError: names the option, and says what there is.
    """
    schedule = registry.opponents_of(config.env)
    if schedule is None:
        return
    family = registry.contested_family_of(config.env.name)
    wanted = [("--opponent", name, family.opponent) for name in schedule.names]
    if family.has_advisers and config.agents.adviser:
        wanted.append(("--agents.adviser", config.agents.adviser, family.adviser))
    for option, name, find in wanted:
        try:
            find(name)
        except ValueError as error:
            raise SetupError(f"{option}: {error}") from error
    if family.has_advisers and config.learner.teacher:
        try:
            PolicyFileOpponent(opponent_file(config.learner.teacher))
        except ValueError as error:
            raise SetupError(f"--learner.teacher: {error}") from error


def require_actions(config: RunConfig, env: EnvSpec) -> None:
    """Check that the algorithm can take the environment's actions.

    Raises:
        SetupError: says which algorithms can.
    """
    kind = "box" if env.is_continuous else "discrete"
    if kind in traits_of(config.learner).actions:
        return
    able = [name for name in own_names(ALGORITHM) if kind in describe(name, "").traits.actions]
    what = "real numbers" if env.is_continuous else "chosen from a list"
    raise SetupError(
        f"actions of {config.env.name} are {what}, which algorithm {config.learner.algorithm} "
        f"cannot take: " + (f"{', '.join(able)} can" if able else "none here can")
    )


def require_speakers(config: RunConfig) -> None:
    """Check that what agents say in a training means something.

    Raises:
        SetupError: a guide chooses all actions, in evaluations as well, and agents have messages;
            or they say what they have chosen, and in training something else may be played.
    """
    traits = traits_of(config.learner)
    if traits.centralised and config.comm != "none":
        raise SetupError(
            f"algorithm {config.learner.algorithm} chooses all actions in the learner's process, "
            "so messages of agents mean nothing: add --comm none"
        )
    if not scheme_of(config.comm).says_actions:
        return
    if traits.acting == "guided":
        raise SetupError(
            f"--comm {config.comm} says what an agent has chosen, and the guide of algorithm "
            f"{config.learner.algorithm} plays something else: take another scheme"
        )
    if traits.acting == "epsilon-greedy" and config.agents.adviser:
        raise SetupError(
            f"--comm {config.comm} says what an agent has chosen, and the adviser "
            f'{config.agents.adviser} may play something else: give --agents.adviser ""'
        )


def require_populations(config: RunConfig, env: EnvSpec) -> None:
    """Check that the learner can train for further numbers of agents (`learner.also_agents`).

    Raises:
        SetupError: a number that the environment or the algorithm does not take, and why.
    """
    if not config.learner.also_agents:
        return
    traits = traits_of(config.learner)
    algorithm = config.learner.algorithm
    if traits.fixes_agents:
        raise SetupError(
            f"--also-agents: algorithm {algorithm} has a weight for each agent, so it trains for "
            "one number of agents"
        )
    replayed = isinstance(traits.experience, Replayed) and traits.acting == "epsilon-greedy"
    if not replayed or traits.columns:
        raise SetupError(
            "--also-agents: the learner plays further populations epsilon-greedily and replays "
            f"them, which algorithm {algorithm} does not"
        )
    if config.agents.adviser or config.agents.record_q:
        raise SetupError(
            "--also-agents: nobody advises populations that the learner plays, and their values "
            'are not recorded: give --agents.adviser "" and leave out --agents.record-q'
        )
    for number in config.learner.also_agents:
        if number == config.num_agents:
            raise SetupError(f"--also-agents {number}: the run's own agents are as many")
        registry.check(config.env, number)
        try:
            graph_of(config.comm, config.comm_options, number)
        except ValueError as error:
            raise SetupError(f"--also-agents {number}: {error}") from error
        other = registry.spec_of(config.env, number)
        for what in ("observation_shape", "num_actions", "state_dim"):
            if getattr(other, what) != getattr(env, what):
                raise SetupError(
                    f"--also-agents {number}: {what} is {getattr(other, what)}, and with "
                    f"{config.num_agents} agents {getattr(env, what)}"
                )


def require_device(config: LearnerConfig) -> None:
    """Check that there is a GPU for each rank, if they are to train on GPUs.

    torch says so in a process of its own, which takes seconds: the launcher does without torch.

    Raises:
        SetupError: torch finds fewer.
    """
    if config.device == "cpu" or (config.device == "auto" and config.ranks == 1):
        return
    asked = subprocess.run(
        [sys.executable, "-P", "-c", _COUNT_GPUS], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no output"])[-1]
        raise SetupError(f"--device {config.device}: torch cannot be asked for GPUs: {reason}")
    number = int(asked.stdout.split()[-1])
    if number == 0 and config.device == "cuda":
        raise SetupError(
            "--device cuda: torch finds no GPU that it can use: train with --device cpu, or "
            "install a driver and a torch that fits it"
        )
    if 0 < number < config.ranks:
        raise SetupError(
            f"--learner.ranks {config.ranks} need a GPU each, torch finds {number}: give "
            f"--learner.ranks {number}, or --device cpu"
        )


def require_memory(config: RunConfig, spec: PolicySpec, env: EnvSpec) -> None:
    """Check that the machine has room for a run's networks and one batch.

    Raises:
        SetupError: names what would take the most, and the option that makes it smaller.
    """
    limits = (_memory_bytes(), _cgroup_limit("memory.max"))
    room = min((limit for limit in limits if limit is not None), default=None)
    if room is None:
        return
    needed = memory_needed(config, spec, env)
    if sum(needed.values()) > room:
        what = max(needed, key=lambda name: needed[name])
        raise SetupError(
            f"{what} would take {needed[what] / 1e9:.1f} GB, the run at least "
            f"{sum(needed.values()) / 1e9:.1f} GB: there are {room / 1e9:.1f} GB of memory"
        )


def memory_needed(config: RunConfig, spec: PolicySpec, env: EnvSpec) -> dict[str, int]:
    """Bytes that a run takes on this machine at the very least, by what takes them.

    What other hosts hold does not count, nor what a GPU holds if one is asked for.
    """
    learner = config.learner
    needed = {
        f"a batch of {learner.batch_size} episodes (learner.batch_size, learner.window)": (
            (1 if env.observation_dtype == "uint8" else 2)
            * learner.batch_size
            * min(learner.window or env.episode_limit, env.episode_limit)
            * (env.num_agents + sum(learner.also_agents))
            * env.observation_dim
        ),
    }
    if not config.runtime.spreads:
        agents = f"networks of {config.num_agents} agents (network.hidden {config.network.hidden})"
        needed[agents] = 4 * config.num_agents * spec.size
    if learner.device == "cuda":
        return needed
    needed["the learner's network"] = _COPIES_OF_WEIGHTS * 4 * spec.size
    if "hypernet_embed" in traits_of(learner).reads:
        mixer = learner.hypernet_embed * (
            2 * env.state_dim + (env.num_agents + 1) * learner.mixing_embed
        )
        needed[
            f"the mixer (learner.mixing_embed {learner.mixing_embed}, learner.hypernet_embed "
            f"{learner.hypernet_embed})"
        ] = _COPIES_OF_WEIGHTS * 4 * mixer
    return needed


def _memory_bytes() -> int | None:
    """Main memory of the machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def require_local_address(
    address: str, what: str, *, name_patience_s: float = NAME_PATIENCE_S
) -> None:
    """Check that this machine has an address on which it is to listen.

    A name is waited for: a cluster publishes it only when its owner already runs, and for some
    seconds with the address of the owner's former life.

    Raises:
        SetupError: it has not; begins with `what`, which wants it.
    """
    until_s = time.monotonic() + (name_patience_s if is_name(address) else 0.0)
    is_said = False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        try:
            with socket.socket(family) as probe:
                probe.bind((address, 0))
            return
        except socket.gaierror as error:
            obstacle, cause = f"cannot be looked up ({error.strerror})", error
        except OSError as error:
            obstacle, cause = "this machine does not have", error
        if time.monotonic() >= until_s:
            raise SetupError(f"{what} with address {address}, which {obstacle}") from cause
        if not is_said:
            is_said = True
            wait = f"waiting up to {name_patience_s:.0f} s for it"
            print(f"{what} with address {address}, which {obstacle}: {wait}", flush=True)
        time.sleep(_NAME_RETRY_S)


def require_policy(path: Path, spec: PolicySpec) -> None:
    """Read the policy file and compare its dimensions with the run's.

    Raises:
        SetupError: it cannot be read, is damaged, or does not fit.
    """
    try:
        require_spec(path, load_policy(path).spec, spec)
    except PolicyFileError as error:
        raise SetupError(str(error)) from error
