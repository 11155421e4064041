"""Hosts files: what they say, who gets which share and port, and what is wrong with bad ones."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runtime.deployment.hosts import FIRST_AGENT_PORT, Hosts, load_hosts
from runtime.net.errors import SetupError


def written(folder: Path, text: str) -> Path:
    path = folder / "hosts.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def hosts_of(folder: Path, text: str, num_agents: int) -> Hosts:
    return load_hosts(written(folder, text), num_agents)


THREE = """
head: b
hosts:
  a: {address: 10.0.0.1}
  b: {address: 10.0.0.2, agents: 4, port: 7500}
  c: {address: 10.0.0.3}
"""


def test_agents_are_shared_out_in_the_order_of_the_file(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, THREE, 9)
    assert hosts.names == ("a", "b", "c")
    assert [host.agents for host in hosts.hosts] == [(0, 1, 2), (3, 4, 5, 6), (7, 8)]
    assert hosts.host_of_agents() == (0, 0, 0, 1, 1, 1, 1, 2, 2)
    assert hosts.num_agents == 9
    assert hosts.head == "b"


def test_ports_count_up_from_the_hosts_own(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, THREE, 9)
    assert hosts.endpoint("node-a") == "tcp://10.0.0.1:7400"
    assert hosts.endpoint("node-b") == "tcp://10.0.0.2:7500"
    assert [hosts.endpoint(name) for name in ("launcher", "world", "learner")] == [
        f"tcp://10.0.0.2:{port}" for port in (7501, 7502, 7503)
    ]
    assert hosts.endpoint("agent-0") == f"tcp://10.0.0.1:{7400 + FIRST_AGENT_PORT}"
    assert hosts.endpoint("agent-6") == f"tcp://10.0.0.2:{7500 + FIRST_AGENT_PORT + 3}"
    assert hosts.endpoint("agent-8") == f"tcp://10.0.0.3:{hosts['c'].last_port}"


def test_hosts_that_are_elsewhere_keep_their_agents(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, THREE, 9)
    assert hosts.at(hosts.whereabouts()) == hosts
    where = ("tcp://10.0.0.1:7400", "tcp://10.0.0.2:7500", "tcp://[fd00::9]:9000")
    moved = hosts.at(where)
    assert moved.whereabouts() == where
    assert moved.endpoint("agent-8") == f"tcp://[fd00::9]:{9000 + FIRST_AGENT_PORT + 1}"
    assert moved.host_of_agents() == hosts.host_of_agents()
    assert moved.endpoint("agent-6") == hosts.endpoint("agent-6")


@pytest.mark.parametrize("where", [(), ("tcp://10.0.0.1:7400",) * 2, ("tcp://10.0.0.300:1",) * 3])
def test_places_that_are_none_are_refused(tmp_path: Path, where: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"places|IPv4"):
        hosts_of(tmp_path, THREE, 9).at(where)


def test_everybody_has_an_endpoint_of_their_own(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, THREE, 9)
    endpoints = {hosts.endpoint(name) for name in hosts.identities()}
    assert len(endpoints) == len(hosts.identities()) == 9 + 3 + 3


def test_secrets_of_the_hosts_together_are_everybodys_and_none_is_on_two(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, THREE, 9)
    parts = [hosts.identities_on(name) for name in hosts.names]
    together = [name for part in parts for name in part]
    assert sorted(together) == sorted(hosts.identities())
    assert len(set(together)) == len(together)
    assert {"launcher", "world", "learner"} <= set(hosts.identities_on("b"))


def test_the_head_is_the_first_host_unless_the_file_says_another(tmp_path: Path) -> None:
    assert hosts_of(tmp_path, "hosts: {x: {address: 10.0.0.9}}", 3).head == "x"


def test_ipv6_addresses_are_bracketed(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, 'hosts: {a: {address: "FD00:0::0:1"}}', 2)
    assert hosts["a"].address == "fd00::1"
    assert hosts.endpoint("node-a") == "tcp://[fd00::1]:7400"


def test_names_stay_names_to_be_looked_up_at_every_connection(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, "hosts: {a: {address: Node-0.Murmuration}}", 2)
    assert hosts["a"].address == "node-0.murmuration"
    assert hosts.endpoint("agent-1") == "tcp://node-0.murmuration:7409"


@pytest.mark.parametrize("address", ["10.0.0.1", "a.example.org"])
def test_a_book_gives_the_hosts_back(tmp_path: Path, address: str) -> None:
    hosts = hosts_of(tmp_path, THREE.replace("10.0.0.1", address), 9)
    assert Hosts.from_json(hosts.to_json()) == hosts


def test_two_hosts_may_share_an_address_if_their_ports_do_not_meet(tmp_path: Path) -> None:
    text = """
    hosts:
      a: {address: 10.0.0.1, agents: 2}
      b: {address: 10.0.0.1, agents: 2, port: 7410}
    """
    hosts = hosts_of(tmp_path, text, 4)
    assert hosts["a"].last_port == 7409


@given(
    fixed=st.lists(st.none() | st.integers(1, 9), min_size=1, max_size=8),
    extra=st.integers(0, 40),
)
def test_shares_are_contiguous_complete_and_even(
    tmp_path_factory: pytest.TempPathFactory, fixed: list[int | None], extra: int
) -> None:
    open_ended = fixed.count(None)
    taken = sum(count for count in fixed if count is not None)
    num_agents = taken + (open_ended + extra if open_ended else 0)
    entries = {
        f"h{i}": {"address": f"10.0.0.{i + 1}", **({} if count is None else {"agents": count})}
        for i, count in enumerate(fixed)
    }
    path = written(tmp_path_factory.mktemp("hosts"), yaml.safe_dump({"hosts": entries}))
    hosts = load_hosts(path, num_agents)
    assert [a for host in hosts.hosts for a in host.agents] == list(range(num_agents))
    sizes = {host.name: len(host.agents) for host in hosts.hosts}
    assert all(sizes[f"h{i}"] == count for i, count in enumerate(fixed) if count is not None)
    free = [sizes[f"h{i}"] for i, count in enumerate(fixed) if count is None]
    assert not free or max(free) - min(free) <= 1


# --- what is wrong with a file --------------------------------------------------------------------


def host(entry: str) -> str:
    return f"hosts: {{a: {entry}}}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a mapping, got NoneType"),
        ("- a", "expected a mapping, got list"),
        ("hosts: {a: {address: 10.0.0.1", "not valid YAML"),
        ("head: a", "hosts: expected a mapping, got NoneType"),
        ("hosts: {}", "between 1 and 256 hosts, got 0"),
        ("host: {a: {}}", "unknown key 'host', there is head, hosts"),
        (host("5"), "host a: expected a mapping, got int"),
        (host("{address: 10.0.0.1, agnets: 3}"), "host a: unknown key 'agnets'"),
        ("hosts: {'a/b': {address: 10.0.0.1}}", "host a/b: a name has letters"),
        ("hosts: {'../up': {address: 10.0.0.1}}", "host ../up: a name has letters"),
        (f"hosts: {{{'a' * 33}: {{address: 10.0.0.1}}}}", "at most 32"),
        (host("{}"), "must be an IP address or a DNS name, got None"),
        (host("{address: ex_ample}"), "must be an IP address or a DNS name, got 'ex_ample'"),
        (host("{address: 10.0.0.300}"), "must be an IP address or a DNS name"),
        (host("{address: 10.0.0.1:7400}"), "address must be an IP address"),
        (host("{address: 0.0.0.0}"), "0.0.0.0 is no address that others could connect to"),
        (host("{address: '::'}"), ":: is no address that others could connect to"),
        (host("{address: 239.1.1.1}"), "no address that others could connect to"),
        (host("{address: 10.0.0.1, port: 80}"), "port must be between 1024 and 65000, got 80"),
        (host("{address: 10.0.0.1, port: 65001}"), "port must be between 1024 and 65000"),
        (host("{address: 10.0.0.1, port: '7400'}"), "port must be between 1024 and 65000"),
        (host("{address: 10.0.0.1, port: true}"), "port must be between 1024 and 65000"),
        (host("{address: 10.0.0.1, agents: 0}"), "agents must be a number above 0, got 0"),
        (host("{address: 10.0.0.1, agents: all}"), "agents must be a number above 0, got 'all'"),
        (host("{address: 10.0.0.1, agents: 3}"), "take 3 agents in fixed shares, there are 8"),
        (host("{address: 10.0.0.1, agents: 9}"), "take 9 agents in fixed shares, there are 8"),
        (
            "hosts: {a: {address: 10.0.0.1, agents: 8}, b: {address: 10.0.0.2}}",
            "take 8 agents in fixed shares and 1 hosts need some more, there are 8",
        ),
        ("head: z\n" + host("{address: 10.0.0.1}"), "head is 'z', the hosts are a"),
        (
            "hosts: {a: {address: 10.0.0.1}, b: {address: 10.0.0.1, port: 7405}}",
            "hosts a and b share the address 10.0.0.1 and ports from 7405",
        ),
    ],
)
def test_a_bad_hosts_file_is_refused_with_what_is_wrong(
    tmp_path: Path, text: str, says: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SetupError, match=f"^{re.escape(str(path))}: .*{re.escape(says)}") as error:
        load_hosts(path, 8)
    assert "\n" not in str(error.value)


def test_ports_must_not_run_out(tmp_path: Path) -> None:
    path = written(tmp_path, host("{address: 10.0.0.1, port: 65000}"))
    with pytest.raises(SetupError, match="host a needs ports up to 65600"):
        load_hosts(path, 65_600 - 65_000 - FIRST_AGENT_PORT + 1)


def test_too_many_hosts_are_refused(tmp_path: Path) -> None:
    entries = {f"h{i}": {"address": f"10.0.{i // 250}.{i % 250}"} for i in range(257)}
    path = written(tmp_path, yaml.safe_dump({"hosts": entries}))
    with pytest.raises(SetupError, match="between 1 and 256 hosts, got 257"):
        load_hosts(path, 1000)


def test_a_hosts_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"none\.yaml: cannot be read \(No such file"):
        load_hosts(tmp_path / "none.yaml", 8)
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match="not valid YAML"):
        load_hosts(tmp_path / "image.yaml", 8)


# --- agents that move -----------------------------------------------------------------------------


def test_agents_that_move_take_the_ports_after_those_of_their_new_host(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, THREE, 9).moved({7: "a", 8: "b"})
    assert [host.agents for host in hosts.hosts] == [(0, 1, 2, 7), (3, 4, 5, 6, 8), ()]
    assert hosts.host_of_agents() == (0, 0, 0, 1, 1, 1, 1, 0, 1)
    assert hosts.endpoint("agent-7") == f"tcp://10.0.0.1:{7400 + FIRST_AGENT_PORT + 3}"
    assert hosts.endpoint("agent-8") == f"tcp://10.0.0.2:{7500 + FIRST_AGENT_PORT + 4}"
    assert hosts.endpoint("agent-2") == hosts_of(tmp_path, THREE, 9).endpoint("agent-2")


def test_agents_that_have_moved_keep_their_ports_when_others_move(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, THREE, 9)
    once = hosts.moved({7: "a", 8: "b"})
    again = once.moved({7: "a", **dict.fromkeys((3, 4, 5, 6, 8), "a")})
    assert again == hosts.moved({7: "a", 3: "a", 4: "a", 5: "a", 6: "a", 8: "a"})
    assert again.endpoint("agent-7") == once.endpoint("agent-7")


def test_a_host_has_room_up_to_the_next_one_of_its_address(tmp_path: Path) -> None:
    text = (
        "hosts: {a: {address: 10.0.0.1, port: 7400}, b: {address: 10.0.0.1, port: 7500}, "
        "c: {address: 10.0.0.2, port: 7450}}"
    )
    hosts = hosts_of(tmp_path, text, 9)
    assert hosts.room("a") == 100 - FIRST_AGENT_PORT
    assert hosts.room("b") == 65_536 - 7500 - FIRST_AGENT_PORT
    assert hosts.room("c") == 65_536 - 7450 - FIRST_AGENT_PORT
