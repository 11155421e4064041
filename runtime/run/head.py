"""The head of a run across hosts: its own bundle, and what to do on the others.

    hosts file, folder of bundles -> open_bundles -> the head's Bundle -> invitations

Keys are made the first time and kept: hosts need their folders once, not for every run. A head
needs no bundle but its own: somebody else may have made them.
"""

from pathlib import Path

from runtime.deployment.bundle import MANIFEST, Bundle, make_keys, read_all, write_bundles
from runtime.deployment.hosts import load_hosts
from runtime.host.preflight import require_local_address
from runtime.net.limits import begin_process


def open_bundles(hosts_file: Path, bundles: Path, num_agents: int) -> Bundle:
    """This machine's bundle of a run across hosts; makes keys for hosts that have none yet.

    Raises:
        SetupError: the hosts file is wrong, the bundles are for other hosts, or this is not the
            head.
    """
    begin_process(keyed=True)
    hosts = load_hosts(hosts_file, num_agents)
    require_local_address(hosts[hosts.head].address, f"{hosts_file}: the head is {hosts.head}")
    if not (bundles / hosts.head / MANIFEST).exists():
        write_bundles(bundles, hosts, make_keys(hosts))
    by_name = {bundle.host.name: bundle for bundle in read_all(bundles, hosts, complete=False)}
    return by_name[hosts.head]


def invitations(head: Bundle) -> list[str]:
    """What a person does on every other host, two lines each."""
    hosts = head.book.hosts
    join = f"python -m runtime.node --join {hosts[hosts.head].address} --bundle"
    lines: list[str] = []
    for host in hosts.hosts:
        folder, where = head.folder.with_name(host.name), f"host {host.name} ({host.address})"
        if host.name == hosts.head:
            continue
        copy = f"copy {folder} to {where}, and run there"
        run = copy if folder.exists() else f"run on {where}, which has its bundle"
        lines.append(f"{run}:\n  {join} {host.name}")
    return lines
