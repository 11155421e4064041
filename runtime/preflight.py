"""What can be known to fail before anything is started.

    check(config, spec) -> nothing, or SetupError with the way out (exit code 2)

Population, engine and opponent belong to the environments: `envs.registry.check`.
"""

import os
import resource
import socket
import tempfile
from pathlib import Path

from agents import backbone
from agents.policy import PolicyFileError, PolicySpec, load_policy, require_spec
from configs.schema import RunConfig
from configs.shipped import policy_path
from runtime.errors import SetupError
from runtime.exporter import require_free_port

_SOCKET_PATH_BYTES = 107
_LONGEST_ENDPOINT_NAME = 16


def check(config: RunConfig, spec: PolicySpec) -> None:
    """Check machine and files for a run; raises the limit of open files where that is enough.

    Args:
        spec: what a policy must be like to be run here.

    Raises:
        SetupError: names the obstacle, the value, and what to do about it.
    """
    require_open_files(config.num_agents)
    require_tasks(config.num_agents)
    require_free_port(config.runtime.metrics_port, config.runtime.metrics_address)
    require_writable(Path(config.runtime.runs_dir))
    if config.policy:
        require_policy(policy_path(config.policy, config.env.name), spec)


def open_files_needed(num_agents: int) -> int:
    """Descriptors that the hungriest process of a run opens.

    The node has three for every agent (connection, exit pipe, life line), world and learner one; an
    agent has up to four for each offset (two connections, and two sockets' own). N = 100 needs 400.
    """
    node = 3 * num_agents + 100
    agent = 4 * len(backbone.offsets(num_agents)) + 40
    return max(node, agent)


def require_open_files(num_agents: int) -> None:
    """Raise this process's limit, which all others inherit, if it is too low.

    Raises:
        SetupError: the hard limit is too low as well.
    """
    needed = open_files_needed(num_agents)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SetupError(
            f"{num_agents} agents need {needed} open files in one process, the limit is {hard}: "
            f"raise it with `ulimit -n {needed}` (as root, or in /etc/security/limits.conf)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tasks_needed(num_agents: int) -> int:
    """Processes and threads of a run: each agent has three threads (its own and ZeroMQ's two), and
    300 more are enough for world, learner and node. N = 1000 needs 3300.
    """
    return 3 * num_agents + 300


def require_tasks(num_agents: int) -> None:
    """Check that the machine lets us have so many processes and threads.

    Raises:
        SetupError: it does not; says which limit it is.
    """
    needed = tasks_needed(num_agents)
    limits = {
        "ulimit -u": _user_limit(),
        "kernel.pid_max": _number_in(Path("/proc/sys/kernel/pid_max")),
        "kernel.threads-max": _number_in(Path("/proc/sys/kernel/threads-max")),
        "the cgroup's pids.max": _cgroup_limit(),
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


def _cgroup_limit() -> int | None:
    """The tightest `pids.max` from our cgroup up to the root (v2); None: there is none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if own is None:
        return None
    root = Path("/sys/fs/cgroup")
    folders = [root / own, *(root / own).parents]
    found = [_number_in(folder / "pids.max") for folder in folders if folder.is_relative_to(root)]
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
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"murmuration")
    except OSError as error:
        raise SetupError(
            f"runs folder {folder} cannot be written ({error.strerror}): choose another with "
            "--runtime.runs-dir"
        ) from error


def require_local_address(address: str, what: str) -> None:
    """Check that this machine has an address on which it is to listen.

    Raises:
        SetupError: it has not; begins with `what`, which wants it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise SetupError(
                f"{what} with address {address}, which this machine does not have"
            ) from error


def require_policy(path: Path, spec: PolicySpec) -> None:
    """Read the policy file and compare its dimensions with the run's.

    Raises:
        SetupError: it cannot be read, is damaged, or does not fit.
    """
    try:
        require_spec(path, load_policy(path).spec, spec)
    except PolicyFileError as error:
        raise SetupError(str(error)) from error


def require_short_ipc_dir(folder: Path) -> None:
    """Check that Unix sockets with names of up to 16 bytes fit into this folder.

    Raises:
        SetupError: the kernel would refuse the path (107 bytes at most).
    """
    size, most = len(os.fsencode(folder)), _SOCKET_PATH_BYTES - 1 - _LONGEST_ENDPOINT_NAME
    if size > most:
        raise SetupError(
            f"folder {folder} is too long for Unix sockets ({size} bytes, at most {most}): "
            "set TMPDIR to a shorter one, or use --transport tcp"
        )
