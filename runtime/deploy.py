"""Turn a trained policy into one self-contained folder for every host, or replace it in place.

    python -m runtime.deploy --policy policy.safetensors --agents 12 --hosts hosts.yaml --out bundle
    python -m runtime.deploy --policy newer.safetensors --update bundle

    policy + hosts + fresh keys -> OUT/<host>/ -> copied there -> python -m runtime.node --bundle …
    policy + the head's key -> Push -> all running nodes, or none (runtime/deployment/push.py)

A host needs the base dependencies only: no torch, no environment.
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, cast, get_args

import tyro

from agents.comm.centralised import refusal
from agents.comm.graphs import graph_of
from agents.found import scheme_of
from agents.policy import (
    PolicyFile,
    differences,
    load_agents_policy,
    save_policy,
    write_atomically,
)
from configs import extensions
from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_AGENTS, MAX_OFFSETS, MAX_SEED, EnvName, GateMode
from configs.shipped import policy_path
from runtime.deployment.body_endpoint import DEFAULT_BODY, require_bodies
from runtime.deployment.bundle import (
    MANIFEST,
    Bundle,
    DeployOptions,
    make_keys,
    read_all,
    read_bundle,
    write_bundles,
)
from runtime.deployment.hosts import load_hosts
from runtime.deployment.push import Nodes, Push, PushFailed, Terms
from runtime.deployment.update_file import NAME as UPDATE
from runtime.deployment.update_file import addressed
from runtime.net.errors import SetupError
from runtime.net.limits import begin_process
from runtime.net.transport import LAUNCHER

MAX_VERSION = (1 << 32) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployCommand:
    """Write one folder per host: policy, that host's keys, address book, share of the agents. Or
    replace the policy of a deployment that runs (--update)."""

    policy: str
    """Policy file (safetensors) to be deployed; the word shipped takes that of `env`."""

    env: EnvName = "battle"
    """Environment whose shipped policy is meant."""

    agents: Annotated[int | None, between(2, MAX_AGENTS)] = None
    """Number of agents N; a policy runs at any, but may be worth little at a size that it was not
    trained at."""

    hosts: str = ""
    """Hosts file (docs/deploy.md)."""

    out: str = ""
    """Folder that gets a folder for each host."""

    update: str = ""
    """Replace the policy of a deployment that runs: the folder that --out made, or the bundle of
    the head's host. Agents change between two ticks, on all hosts or on none."""

    as_version: Annotated[int | None, between(0, MAX_VERSION)] = None
    """With --update, the version number of the pushed policy, greater than that of the version in
    use; unset takes the file's."""

    watch_s: Annotated[float, within(0.0, 3600.0)] = 5.0
    """With --update, seconds for which the agents are watched before the change, and again before
    the new version is kept; at least three of their reports."""

    timeout_s: Annotated[float, within(0.5, 600.0)] = 10.0
    """With --update, seconds that a host may take to answer."""

    rate_hz: Annotated[float, within(0.0, 1000.0)] = 0.0
    """Ticks a second of the agents; 0 ticks on each observation."""

    max_message_age_steps: Annotated[int, between(1, 100)] = 1
    """Oldest message that an agent still uses, in steps."""

    gate_budget: Annotated[
        int | None, tyro.conf.arg(name="gate.budget"), between(0, MAX_OFFSETS)
    ] = None
    """Edges an agent may open in one step, 0 without limit; unset takes what the policy was trained
    with."""

    body: str = DEFAULT_BODY
    """Endpoint at which an agent waits for its body: ipc or loopback tcp; {agent} is its number,
    {port} 8000 plus that, {bundle} the bundle's folder."""

    seed: Annotated[int, between(0, MAX_SEED)] = 0
    """Root seed of the agents."""

    def __post_init__(self) -> None:
        check_ranges(self)
        given = {f.name for f in fields(self) if getattr(self, f.name) != f.default}
        if self.update:
            ours = {"policy", "env", "update", "as_version", "watch_s", "timeout_s"}
            if foreign := sorted(given - ours):
                raise ValueError(
                    f"--{foreign[0].replace('_', '-')} is settled when a policy is deployed: leave "
                    "it out with --update"
                )
        elif missing := [name for name in ("agents", "hosts", "out") if name not in given]:
            raise ValueError(
                f"--{missing[0]} is missing: give --agents, --hosts and --out to deploy a policy, "
                "or --update to replace that of a deployment that runs"
            )
        elif foreign := sorted(given & {"as_version", "watch_s", "timeout_s"}):
            raise ValueError(f"--{foreign[0].replace('_', '-')} belongs to --update")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    begin_process(keyed=True)  # with everybody's
    try:
        command = parse_command_line(DeployCommand, argv, prog="python -m runtime.deploy")
        if command.update:
            return update(command)
        folders = deploy(command)
    except (UserError, ValueError, OSError) as error:
        exit_with_error(error)
    for folder in folders:
        print(f"copy {folder} to host {folder.name}, and there:")
        print(f"  python -m runtime.node --bundle {folder.name}")
    return 0


def deploy(command: DeployCommand) -> list[Path]:
    """Check everything, then write the bundles.

    Raises:
        SetupError, PolicyFileError, ValueError: one clear line; nothing was written.
    """
    path = policy_path(command.policy, command.env)
    policy = load_agents_policy(path)
    assert command.agents is not None
    comm = policy.trained.get("comm", policy.spec.scheme)
    try:
        extensions.address(extensions.SCHEME, comm)
    except extensions.ExtensionError as error:
        raise SetupError(f"{path}: policy says comm {comm[:100]!r}: {error}") from error
    if scheme_of(comm).centralised:
        raise refusal(comm, "its policies can only be simulated (runtime.evaluate)")
    if scheme_of(comm).moves(policy.spec.scheme_opts()):
        raise SetupError(
            f"{path}: agents with comm {comm} speak to neighbours that change with every step, and "
            "no body says who they are: evaluate it (runtime.evaluate), or deploy another scheme"
        )
    try:
        graph_of(comm, policy.spec.scheme_options, command.agents)
    except ValueError as error:
        raise SetupError(f"{path}: {error}") from error
    options = DeployOptions(
        comm=comm,
        gate_mode=cast("GateMode", _trained(policy, "gate_mode", get_args(GateMode), "learned")),
        gate_budget=policy.gate_budget if command.gate_budget is None else command.gate_budget,
        rate_hz=command.rate_hz,
        max_message_age_steps=command.max_message_age_steps,
        body=command.body,
        seed=command.seed,
    )
    if policy.trained.get("gate_timing", "causal") != "causal":
        raise SetupError(
            f"{path}: trained with gate.timing paper, which needs two exchanges in every step and "
            "somebody to wait for both: train it with --gate.timing causal to deploy it"
        )
    # The shortest folder that there is: where a bundle will lie is not known here. The node looks
    # again.
    require_bodies(command.body, range(command.agents), Path("/"))
    hosts = load_hosts(Path(command.hosts), command.agents)
    content = path.read_bytes()
    out = Path(command.out)
    return write_bundles(out, hosts, make_keys(hosts), policy=content, options=options)


def update(command: DeployCommand) -> int:
    """Replace the policy of a running deployment; returns the exit code.

    0: all hosts have it. 1: they had it, and have been taken back. 2: nothing has changed. 3: some
    host does not answer, so that nobody knows which version it has.

    Raises:
        SetupError, PolicyFileError, ValueError: one clear line; nothing was sent.
    """
    path, folder = policy_path(command.policy, command.env), Path(command.update)
    policy = load_agents_policy(path)
    bundles = [read_bundle(folder)] if (folder / MANIFEST).exists() else read_all(folder)
    head = next((bundle for bundle in bundles if LAUNCHER in bundle.keys), None)
    if head is None:
        raise SetupError(
            f"{folder}: the head's key is in the bundle of host {bundles[0].book.hosts.head}, and "
            "nobody else may push"
        )
    _require_same_way(path, policy, head)
    version = policy.version if command.as_version is None else command.as_version
    addressee = head.book.deployment
    with tempfile.TemporaryDirectory(prefix="murmuration-") as scratch:
        file = Path(scratch) / path.name
        save_policy(file, addressed(policy, addressee, version))
        content = file.read_bytes()
    terms = Terms(watch_s=command.watch_s, timeout_s=command.timeout_s)
    nodes = Nodes(head)
    try:
        Push(nodes, head, terms, lambda line: print(line, flush=True)).run(content, version)
    except PushFailed as error:
        print(f"error: {_verdict(version, error)}", file=sys.stderr)
        return 1 if error.swapped and error.certain else 2 if error.certain else 3
    finally:
        nodes.close()
    try:
        for bundle in bundles:  # so that rotated keys come with the version in use
            write_atomically(bundle.folder / UPDATE, content)
    except OSError as error:
        print(f"{folder}: the new version cannot be kept here ({error.strerror})", file=sys.stderr)
    hosts, agents = len(head.book.hosts.hosts), head.book.hosts.num_agents
    print(f"policy version {version} is in use on {hosts} hosts ({agents} agents)")
    return 0


def _verdict(version: int, error: PushFailed) -> str:
    if not error.certain:
        return f"policy version {version} was given up: {error}"
    if error.swapped:
        return f"policy version {version} was taken back on all hosts: {error}"
    return f"policy version {version} was not taken up, nothing has changed: {error}"


def _require_same_way(path: Path, policy: PolicyFile, bundle: Bundle) -> None:
    """Refuse a policy that deployed agents would have to behave otherwise for.

    Raises:
        SetupError: its options differ from those of the deployment.
    """
    options, made_with = bundle.options, bundle.policy
    if options is None or made_with is None:
        raise SetupError(f"{bundle.folder} has no policy: it is for runs, and no deployment")
    comm = policy.trained.get("comm", policy.spec.scheme)
    mode = policy.trained.get("gate_mode", "learned")
    timing = policy.trained.get("gate_timing", "causal")
    # A budget that was chosen at the deployment holds, whatever policies were trained with.
    is_chosen = options.gate_budget != made_with.gate_budget
    budget = options.gate_budget if is_chosen else policy.gate_budget
    for name, found, deployed in (
        ("comm", comm, options.comm),
        ("gate.mode", mode, options.gate_mode),
        ("gate.timing", timing, "causal"),
        ("gate.budget", budget, options.gate_budget),
        *differences(policy.spec, made_with.spec),
    ):
        if found != deployed:
            raise SetupError(
                f"{path}: {name} is {found}, deployed is {deployed}: deploy this policy anew, it "
                "cannot take the other's place"
            )


def _trained(policy: PolicyFile, key: str, choices: tuple[str, ...], default: str) -> str:
    value = policy.trained.get(key, default)
    if value not in choices:
        raise SetupError(f"policy says {key} {value!r}, known are {', '.join(choices)}")
    return value


if __name__ == "__main__":
    run_command(main)
