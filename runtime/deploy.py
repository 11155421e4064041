"""Turn a trained policy into one self-contained folder for every host.

    python -m runtime.deploy --policy policy.safetensors --agents 12 --hosts hosts.yaml --out bundle

    policy + hosts + fresh keys -> OUT/<host>/ -> copied there -> python -m runtime.node --bundle …

A host needs the base dependencies only: no torch, no environment.
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast, get_args

import tyro

from agents.comm.centralised import refusal
from agents.found import scheme_of
from agents.policy import PolicyFile, load_agents_policy
from configs import extensions
from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_AGENTS, MAX_OFFSETS, MAX_SEED, EnvName, GateMode
from configs.shipped import policy_path
from runtime.deployment.body_endpoint import DEFAULT_BODY, require_bodies
from runtime.deployment.bundle import DeployOptions, make_keys, write_bundles
from runtime.deployment.hosts import load_hosts
from runtime.net.errors import SetupError
from runtime.net.limits import begin_process


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployCommand:
    """Write one folder per host: policy, that host's keys, address book, share of the agents."""

    policy: str
    """Policy file (safetensors) to be deployed; the word shipped takes that of `env`."""

    env: EnvName = "battle"
    """Environment whose shipped policy is meant."""

    agents: Annotated[int, between(2, MAX_AGENTS, required=True)]
    """Number of agents N; a policy runs at any, but may be worth little at a size that it was not
    trained at."""

    hosts: str
    """Hosts file (docs/deploy.md)."""

    out: str
    """Folder that gets a folder for each host."""

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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    begin_process(keyed=True)  # with everybody's
    try:
        command = parse_command_line(DeployCommand, argv, prog="python -m runtime.deploy")
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
    comm = policy.trained.get("comm", policy.spec.scheme)
    try:
        extensions.address(extensions.SCHEME, comm)
    except extensions.ExtensionError as error:
        raise SetupError(f"{path}: policy says comm {comm[:100]!r}: {error}") from error
    if scheme_of(comm).centralised:
        raise refusal(comm, "its policies can only be simulated (runtime.evaluate)")
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


def _trained(policy: PolicyFile, key: str, choices: tuple[str, ...], default: str) -> str:
    value = policy.trained.get(key, default)
    if value not in choices:
        raise SetupError(f"policy says {key} {value!r}, known are {', '.join(choices)}")
    return value


if __name__ == "__main__":
    run_command(main)
