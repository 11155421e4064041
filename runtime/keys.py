"""Make and rotate the keys of a set of hosts.

    python -m runtime.keys --hosts hosts.yaml --agents 100 --out bundles
    python -m runtime.keys --out bundles --rotate agent-3 node-b

    hosts.yaml -> fresh key pairs -> one bundle per host (runtime/deployment/bundle.py)

Every host's folder is to be copied there and nowhere else. Rotating replaces keys and writes all
folders anew, because the public halves stand in everybody's address book: the old key is refused
wherever the new folder has arrived and its processes have been started again, so all are to be
copied. A head refuses every folder that was not written together with its own.
"""

from runtime.terminal.command import guard, run_command

if __name__ == "__main__":
    guard()  # before the imports that take long


import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from configs.errors import UserError
from configs.load import exit_with_error, parse_command_line
from configs.ranges import between, check_ranges
from configs.schema import MAX_AGENTS
from runtime.deployment.bundle import POLICY, Bundle, make_keys, read_all, write_bundles
from runtime.deployment.hosts import load_hosts
from runtime.deployment.update_file import NAME as UPDATE
from runtime.deployment.update_file import newest_policy
from runtime.net.errors import SetupError
from runtime.net.limits import begin_process
from runtime.net.security import KeyPair

ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysOptions:
    """Make a key pair for every process of a run across hosts, or replace some of them."""

    out: str
    """Folder of the bundles, one for each host."""

    hosts: str = ""
    """Hosts file (docs/deploy.md); not needed to rotate."""

    agents: Annotated[int, between(0, MAX_AGENTS)] = 0
    """Number of agents N; not needed to rotate."""

    rotate: tuple[str, ...] = ()
    """Names whose keys are replaced (agent-3, node-b, learner …), or all."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.rotate and (not self.hosts or self.agents < 1):
            raise ValueError("give --hosts and --agents to make keys, or --rotate to replace some")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    begin_process(keyed=True)  # with everybody's
    try:
        options = parse_command_line(KeysOptions, argv, prog="python -m runtime.keys")
        folders = rotate(Path(options.out), options.rotate) if options.rotate else make(options)
    except (UserError, ValueError, OSError) as error:
        exit_with_error(error)
    for folder in folders:
        print(f"{folder}: copy it to host {folder.name} and nowhere else")
    return 0


def make(options: KeysOptions) -> list[Path]:
    """Write bundles with fresh keys.

    Raises:
        SetupError: the hosts file is wrong, or there are bundles already.
    """
    hosts, out = load_hosts(Path(options.hosts), options.agents), Path(options.out)
    taken = [name for name in hosts.names if (out / name).exists()]
    if taken:
        raise SetupError(
            f"{out / taken[0]} exists: replace its keys with --rotate {ALL}, or choose another "
            "--out"
        )
    return write_bundles(out, hosts, make_keys(hosts))


def rotate(out: Path, names: Sequence[str]) -> list[Path]:
    """Replace the keys of these names and write all bundles anew.

    Raises:
        SetupError: no bundles, damaged ones, or a name that nobody has.
    """
    bundles = read_all(out)
    hosts = bundles[0].book.hosts
    keys: dict[str, KeyPair] = {}
    for bundle in bundles:
        keys |= bundle.keys
    for name in hosts.identities() if ALL in names else names:
        if name not in keys:
            raise SetupError(f"nobody is called {name}: there are {_some(sorted(keys))}")
        keys[name] = KeyPair.generate()
    first = bundles[0]
    policy = _newest_policy(bundles) if first.is_deployment else None
    options = None if first.options is None else dataclasses.replace(first.options)
    return write_bundles(out, hosts, keys, policy=policy, options=options)


def _newest_policy(bundles: Sequence[Bundle]) -> bytes:
    """The file of the version that was pushed to this deployment last, or was deployed.

    A push may have left it in the head's bundle alone. Version numbers only grow.
    """
    versions: dict[Path, int] = {}
    for bundle in bundles:
        assert bundle.policy is not None
        newest = newest_policy(bundle.folder, bundle.book.deployment, bundle.policy)
        file = bundle.folder / (POLICY if newest is bundle.policy else UPDATE)
        versions[file] = newest.version
    return max(versions, key=lambda file: versions[file]).read_bytes()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


if __name__ == "__main__":
    run_command(main)
