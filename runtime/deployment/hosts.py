"""The hosts of a run: names, addresses, ports, and which agents live where.

    hosts.yaml -> load_hosts -> Hosts -> endpoints of every process

    head: a                          # where launcher, world and learner run; only for training
    hosts:
      a: {address: 10.0.0.1}
      b: {address: 10.0.0.2, agents: 4, port: 7500}
      c: {address: c.example.org}

Ports count up from `port` (default 7400): the node, three for the head's processes, one at which a
deployed node waits for updates, three to spare, then one for each agent of the host, so that a
firewall needs one range per host. Hosts that do not say how many agents they take share the rest
evenly, in the order of the file.
"""

import errno
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from configs import bounded
from configs.bounded import brief
from runtime.net.addresses import is_name, parse_address
from runtime.net.errors import SetupError
from runtime.net.packet import MOST_HOSTS
from runtime.net.transport import (
    LAUNCHER,
    LEARNER,
    WORLD,
    agent_of,
    agent_routing_id,
    host_of,
    node_routing_id,
)

DEFAULT_PORT = 7400
FIRST_AGENT_PORT = 8
"""Ports of a host that come before its first agent's."""

_HEAD_PORTS = {LAUNCHER: 1, WORLD: 2, LEARNER: 3}
_UPDATE_PORT = 4
_KEYS = {"address", "port", "agents"}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31}")
_LAST_PORT = 65_535
_MOST_AGENTS = 4096


@dataclass(frozen=True, slots=True)
class Host:
    """One machine."""

    name: str
    address: str
    """IP address or DNS name by which the others reach it, and on which it listens."""
    port: int
    agents: tuple[int, ...]
    """Identities of its share, by port: contiguous in a bundle, then those that have moved here."""

    @property
    def update_port(self) -> int:
        """At which a deployed node waits for updates."""
        return self.port + _UPDATE_PORT

    @property
    def last_port(self) -> int:
        return self.port + FIRST_AGENT_PORT + len(self.agents) - 1

    def is_taken(self, port: int) -> bool:
        """Whether somebody listens on that port of this host, which must be our own."""
        with socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as ZeroMQ does
            try:
                probe.bind((self.address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                return True
        return False


@dataclass(frozen=True, slots=True)
class Hosts:
    """All machines of a run, in the order of the file."""

    hosts: tuple[Host, ...]
    head: str

    @property
    def num_agents(self) -> int:
        return sum(len(host.agents) for host in self.hosts)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.hosts)

    def __getitem__(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def host_of_agents(self) -> tuple[int, ...]:
        """[N] index of the host on which each agent lives."""
        found = {agent: index for index, host in enumerate(self.hosts) for agent in host.agents}
        return tuple(found[agent] for agent in range(len(found)))

    def moved(self, homes: Mapping[int, str]) -> "Hosts":
        """The same hosts when these agents live elsewhere.

        Args:
            homes: host by agent, of all that have ever moved, in the order in which they did: the
                agents that a host has keep their ports when others come.
        """
        return replace(
            self,
            hosts=tuple(
                replace(
                    host,
                    agents=(
                        *(agent for agent in host.agents if agent not in homes),
                        *(agent for agent, home in homes.items() if home == host.name),
                    ),
                )
                for host in self.hosts
            ),
        )

    def room(self, name: str) -> int:
        """Agents that a host has ports for, up to the next host of its address."""
        host = self[name]
        others = [h.port for h in self.hosts if h.address == host.address and h.port > host.port]
        return max(min([_LAST_PORT + 1, *others]) - host.port - FIRST_AGENT_PORT, 0)

    def endpoint(self, identity: str) -> str:
        """Where the process of that name listens."""
        name = identity.encode()
        if (agent := agent_of(name)) is not None:
            host = next(host for host in self.hosts if agent in host.agents)
            return _tcp(host, FIRST_AGENT_PORT + host.agents.index(agent))
        if (host_name := host_of(name)) is not None:
            return _tcp(self[host_name], 0)
        return _tcp(self[self.head], _HEAD_PORTS[identity])

    def whereabouts(self) -> tuple[str, ...]:
        """Where the node of each host listens: what follows from it is where its agents do."""
        return tuple(_tcp(host, 0) for host in self.hosts)

    def at(self, whereabouts: Sequence[str]) -> "Hosts":
        """The same hosts elsewhere; the inverse of `whereabouts`.

        Raises:
            ValueError: not one endpoint for each host, or none of ours.
        """
        if len(whereabouts) != len(self.hosts):
            raise ValueError(f"{len(whereabouts)} places for {len(self.hosts)} hosts")
        places = [_place(endpoint) for endpoint in whereabouts]
        hosts = tuple(
            replace(host, address=address, port=port)
            for host, (address, port) in zip(self.hosts, places, strict=True)
        )
        return Hosts(hosts, self.head)

    def update_endpoint(self, name: str) -> str:
        """Where the deployed node of that host waits for updates."""
        return _tcp(self[name], _UPDATE_PORT)

    def identities(self) -> tuple[str, ...]:
        """Names of everybody who needs keys: nodes, agents, and the head's three."""
        nodes = tuple(node_routing_id(name).decode() for name in self.names)
        agents = tuple(agent_routing_id(agent).decode() for agent in range(self.num_agents))
        return (*nodes, *agents, LAUNCHER, WORLD, LEARNER)

    def identities_on(self, name: str) -> tuple[str, ...]:
        """Names of those whose secrets belong to one host."""
        agents = tuple(agent_routing_id(agent).decode() for agent in self[name].agents)
        heads = (LAUNCHER, WORLD, LEARNER) if name == self.head else ()
        return (node_routing_id(name).decode(), *agents, *heads)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the address book; `from_json` is the inverse."""
        return {
            "head": self.head,
            "hosts": [
                {"name": h.name, "address": h.address, "port": h.port, "agents": list(h.agents)}
                for h in self.hosts
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Hosts":
        """Plain data -> hosts.

        Raises:
            KeyError, TypeError, ValueError: something is missing, of another kind, or cannot be.
        """
        for host in data["hosts"]:
            if not _NAME.fullmatch(host["name"]):
                raise ValueError(f"a host called {host['name']!r:.40}")
            if not isinstance(host["address"], str):  # a number would pass for an address
                raise TypeError(f"address of host {host['name']}")
            parse_address(host["address"])
        hosts = tuple(
            Host(host["name"], host["address"], host["port"], tuple(host["agents"]))
            for host in data["hosts"]
        )
        found = cls(hosts, data["head"])
        for host in hosts:
            if type(host.port) is not int or not 1 <= host.port <= host.last_port <= _LAST_PORT:
                raise ValueError(f"ports of host {host.name} from {host.port!r}")
        agents = [agent for host in hosts for agent in host.agents]
        if len(agents) > 1 << 16 or agents != list(range(len(agents))):
            raise ValueError("shares that do not count all agents in order")
        if found.head not in found.names or len(set(found.names)) < len(hosts):
            raise ValueError(f"head {found.head!r} or two hosts of one name")
        return found


def _tcp(host: Host, offset: int) -> str:
    bracketed = f"[{host.address}]" if ":" in host.address else host.address
    return f"tcp://{bracketed}:{host.port + offset}"


def _place(endpoint: str) -> tuple[str, int]:
    """Address and port; the inverse of `_tcp`."""
    address, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return parse_address(address.strip("[]")), int(port)


def load_hosts(path: Path, num_agents: int) -> Hosts:
    """Read a hosts file and share out the agents.

    Raises:
        SetupError: one line that names the file, the host, the value, and the way out.
    """
    try:
        raw = bounded.parse_yaml(bounded.read_text(path))
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{path}: not valid YAML: it is not UTF-8 text") from error
    except bounded.Unfit as error:
        raise SetupError(f"{path}: {error}") from error
    tree = _mapping(raw, f"{path}", {"head", "hosts"})
    entries = _mapping(tree.get("hosts"), f"{path}: hosts", None)
    if not 1 <= len(entries) <= MOST_HOSTS:
        raise SetupError(f"{path}: between 1 and {MOST_HOSTS} hosts, got {len(entries)}")
    settings = {name: _host(path, name, entry) for name, entry in entries.items()}
    counts = _share_out(path, {name: entry[2] for name, entry in settings.items()}, num_agents)
    hosts: list[Host] = []
    first = 0
    for name, (address, port, _) in settings.items():
        agents = tuple(range(first, first + counts[name]))
        hosts.append(Host(name, address, port, agents))
        first += counts[name]
    head = tree.get("head", hosts[0].name)
    if head not in settings:
        raise SetupError(
            f"{path}: head is {brief(head)}, the hosts are {bounded.shorten(', '.join(settings))}"
        )
    _require_disjoint_ports(path, hosts)
    return Hosts(tuple(hosts), head)


def spread(places: Mapping[str, tuple[str, int]], num_agents: int) -> Hosts:
    """Hosts at these addresses and ports, the head first, and an even share of agents for each.

    Raises:
        SetupError: there are more hosts than agents.
    """
    if len(places) > num_agents:
        raise SetupError(f"{len(places)} hosts for {num_agents} agents: ask for fewer hosts")
    hosts: list[Host] = []
    first = 0
    for (name, (address, port)), count in zip(
        places.items(), _evenly(num_agents, len(places)), strict=True
    ):
        hosts.append(Host(name, address, port, tuple(range(first, first + count))))
        first += count
    return Hosts(tuple(hosts), hosts[0].name)


def _evenly(num_agents: int, num_hosts: int) -> list[int]:
    """Agents of each host; the first ones have one more."""
    return [num_agents // num_hosts + (n < num_agents % num_hosts) for n in range(num_hosts)]


def _mapping(value: object, origin: str, known: set[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SetupError(f"{origin}: expected a mapping, got {type(value).__name__}")
    tree = {str(key): entry for key, entry in cast("dict[object, Any]", value).items()}
    unknown = sorted(set(tree) - known) if known is not None else []
    if unknown:
        raise SetupError(
            f"{origin}: unknown key {brief(unknown[0])}, there is {', '.join(sorted(known or ()))}"
        )
    return tree


def _host(path: Path, name: str, entry: object) -> tuple[str, int, int | None]:
    origin = f"{path}: host {bounded.shorten(name, 60)}"
    if not _NAME.fullmatch(name):
        raise SetupError(f"{origin}: a name has letters, digits, '.', '_' and '-', at most 32")
    values = _mapping(entry, origin, _KEYS)
    address, port, agents = values.get("address"), values.get("port"), values.get("agents")
    try:
        parsed = parse_address(str(address or ""))
    except ValueError as error:
        raise SetupError(
            f"{origin}: address must be an IP address or a DNS name, got {brief(address)}"
        ) from error
    if not is_name(parsed):
        number = ipaddress.ip_address(parsed)
        if number.is_unspecified or number.is_multicast:
            raise SetupError(f"{origin}: {parsed} is no address that others could connect to")
    port = DEFAULT_PORT if port is None else port
    if type(port) is not int or not 1024 <= port <= 65_000:
        raise SetupError(f"{origin}: port must be between 1024 and 65000, got {brief(port)}")
    if agents is not None and (type(agents) is not int or not 1 <= agents <= _MOST_AGENTS):
        raise SetupError(
            f"{origin}: agents must be a number above 0, got {brief(agents)} "
            f"(at most {_MOST_AGENTS})"
        )
    return parsed, port, agents


def _share_out(path: Path, wanted: Mapping[str, int | None], num_agents: int) -> dict[str, int]:
    open_ended = [name for name, count in wanted.items() if count is None]
    left = num_agents - sum(count for count in wanted.values() if count is not None)
    if left < len(open_ended) or (left > 0 and not open_ended):
        raise SetupError(
            f"{path}: the hosts take {num_agents - left} agents in fixed shares"
            + (f" and {len(open_ended)} hosts need some more" if open_ended else "")
            + f", there are {num_agents}: change the shares or --agents"
        )
    shares = dict(zip(open_ended, _evenly(left, len(open_ended)), strict=True)) if left else {}
    return {name: shares[name] if count is None else count for name, count in wanted.items()}


def _require_disjoint_ports(path: Path, hosts: list[Host]) -> None:
    for rank, host in enumerate(hosts):
        if host.last_port > _LAST_PORT:
            raise SetupError(f"{path}: host {host.name} needs ports up to {host.last_port}")
        for other in hosts[:rank]:
            overlap = host.port <= other.last_port and other.port <= host.last_port
            if host.address == other.address and overlap:
                raise SetupError(
                    f"{path}: hosts {other.name} and {host.name} share the address {host.address} "
                    f"and ports from {max(host.port, other.port)}: give one of them another port"
                )
