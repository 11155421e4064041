"""A deployment that runs: a node for each host, and bodies that ask every agent at every tick.

    LiveDeployment.start -> nodes (runtime.node) -> agents ⇄ Bodies that remember who said what when

Hosts are addresses: ports of one machine, or network namespaces. Bodies reach their agents over
Unix sockets, so those of all hosts are driven from the test.
"""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.policy import PolicyFile, initialise, save_policy
from runtime import deploy
from runtime.bodies import Pace
from runtime.body import BodyClient
from runtime.deployment.bundle import read_bundle
from runtime.deployment.push import Nodes, Terms
from runtime.net import wire
from tests.process.deployed import fresh_policy
from tests.process.namespaces import Host
from tests.process.runs import scratch_folder, wait_for

_REPOSITORY = Path(__file__).parents[2]
RATE_HZ = 2.0
"""Slow, so that no tick is lost where agents share a core with other work."""
OBSERVATIONS, ACTIONS = 6, 4
_PORTS_PER_HOST = 20


class Ticks:
    """Bodies of all agents: what each agent answered to the observation of each tick."""

    def __init__(self, endpoints: Mapping[int, str]) -> None:
        self._clients = {
            agent: BodyClient(endpoint, agent, timeout_s=30.0)
            for agent, endpoint in endpoints.items()
        }
        self.answers: dict[int, dict[int, int]] = {agent: {} for agent in endpoints}
        """By agent, the policy version of each tick's answer."""
        self.asked: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()

    def _drive(self) -> None:
        pace = Pace(RATE_HZ, time.time() + 1.0, agents_tick=True)
        rng = np.random.default_rng(0)
        for i in itertools.count():
            pace.wait(i)
            if self._over.is_set():
                break
            tick = pace.number(i)
            for client in self._clients.values():
                row = rng.standard_normal(OBSERVATIONS).astype(np.float32)
                client.send(row, step=tick, first=i == 0)
            self.asked.append(tick)
            until_s = pace.due_s(i + 1) - 0.1
            while time.time() < until_s:
                self._take()
                time.sleep(0.01)
        time.sleep(2.0 / RATE_HZ)
        self._take()

    def _take(self) -> None:
        for agent, client in self._clients.items():
            while (answer := client.receive()) is not None:
                assert isinstance(answer, wire.BodyAction)
                self.answers[agent][answer.step] = answer.policy_version

    def stop(self) -> None:
        self._over.set()
        self._thread.join(30.0)
        assert not self._thread.is_alive()
        for client in self._clients.values():
            client.close()

    def lost(self) -> list[tuple[int, int]]:
        """Ticks that an agent did not answer, once stopped."""
        return [
            (a, tick) for a, said in self.answers.items() for tick in self.asked if tick not in said
        ]

    def first_by(self, version: int) -> dict[int, int]:
        """By agent, the first tick that was acted by a version."""
        return {
            agent: min(tick for tick, used in said.items() if used == version)
            for agent, said in self.answers.items()
        }

    def versions(self, agent: int) -> list[int]:
        """Versions in the order in which an agent acted by them."""
        said = [version for _, version in sorted(self.answers[agent].items())]
        return [version for version, _ in itertools.groupby(said)]


class LiveDeployment:
    """Nodes of a deployment, and the desk from which it was made."""

    def __init__(
        self, folder: Path, hosts: Mapping[str, Host | str], num_agents: int, *, rate_hz: float
    ) -> None:
        """Make the bundles; nothing is started.

        Args:
            hosts: by name, a namespace each, or an address or name of this machine.
        """
        self.folder = folder
        self.scratch = scratch_folder(self)
        self.num_agents = num_agents
        self._hosts = hosts
        self.out = self.scratch / "out"
        self.policy = fresh_policy(OBSERVATIONS, ACTIONS)
        self._pusher: subprocess.Popen[str] | None = None
        self.nodes: dict[str, subprocess.Popen[str]] = {}
        base = _free_ports(_PORTS_PER_HOST * len(hosts))
        lines = [
            f"  {name}: {{address: {host if isinstance(host, str) else host.address}, "
            f"port: {base + _PORTS_PER_HOST * rank}}}"
            for rank, (name, host) in enumerate(hosts.items())
        ]
        self._hosts_file = folder / "hosts.yaml"
        self._hosts_file.write_text("hosts:\n" + "\n".join(lines) + "\n")
        self.make(self.out, rate_hz)

    def make(self, out: Path, rate_hz: float = RATE_HZ) -> None:
        """Write a deployment's bundles, with keys of its own."""
        arguments = ["--policy", f"{self.write(self.policy)}", "--hosts", f"{self._hosts_file}"]
        arguments += ["--agents", f"{self.num_agents}", "--rate-hz", f"{rate_hz}"]
        assert deploy.main([*arguments, "--out", f"{out}"]) == 0

    @classmethod
    @contextlib.contextmanager
    def start(
        cls,
        folder: Path,
        hosts: Mapping[str, Host | str],
        num_agents: int,
        *,
        rate_hz: float = RATE_HZ,
    ) -> Generator["LiveDeployment"]:
        """Start all nodes; what is left of them at the end is killed."""
        deployment = cls(folder, hosts, num_agents, rate_hz=rate_hz)
        try:
            for name in hosts:
                deployment.run_node(name)
            for name in hosts:
                deployment.wait_until_up(name)
            yield deployment
        finally:
            deployment.interrupt_push(signal.SIGKILL)
            for name in deployment.nodes:
                deployment.kill(name)

    # --- policies ---------------------------------------------------------------------------------

    def write(self, policy: PolicyFile) -> Path:
        path = self.folder / f"policy-{policy.version}-{random.getrandbits(32):x}.safetensors"
        save_policy(path, policy)
        return path

    def newer(self, version: int, seed: int = 1) -> Path:
        """A policy that would fit."""
        flat = initialise(self.policy.spec, np.random.default_rng(seed))
        return self.write(replace(self.policy, flat=flat, version=version))

    # --- nodes ------------------------------------------------------------------------------------

    def run_node(self, name: str) -> None:
        bundle = self.out / name
        arguments = [sys.executable, "-m", "runtime.node", "--bundle", f"{bundle}"]
        arguments += ["--metrics-port", "0", "--runs-dir", f"{self.folder / f'runs-{name}'}"]
        host, output = self._hosts[name], self.folder / f"{name}.txt"
        output.write_text("")
        if isinstance(host, Host):
            self.nodes[name] = host.popen(arguments, cwd=_REPOSITORY, output=output)
            return
        with output.open("a") as sink:
            self.nodes[name] = subprocess.Popen(
                arguments, stdout=sink, stderr=sink, text=True, cwd=_REPOSITORY,
                start_new_session=True,
            )  # fmt: skip

    def wait_until_up(self, name: str) -> None:
        agents = f"{self.num_agents // len(self._hosts)}"

        def up() -> bool:
            assert self.nodes[name].poll() is None, self.output(name)
            return f"{agents}/{agents} agents up" in self.output(name)

        wait_for(f"the agents of host {name}", up, 60.0)

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.txt").read_text()

    def log(self, name: str) -> str:
        """The node's log of the newest life."""
        paths = sorted(self.folder.glob(f"runs-{name}/*/logs/node-0.log"))
        return paths[-1].read_text()

    def kill(self, name: str) -> None:
        """End a node and all of its agents at once."""
        process = self.nodes[name]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20.0)

    def kill_agent(self, agent: int) -> None:
        os.kill(self.pid_of(agent), signal.SIGKILL)

    def pid_of(self, agent: int) -> int:
        """An agent's process, by its title and its node's session."""
        sessions = {process.pid for process in self.nodes.values()}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                session = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3])
                if title == f"murmuration: agent {agent}" and session in sessions:
                    return int(entry.name)
        raise AssertionError(f"agent {agent} does not run")

    def ticks(self) -> Ticks:
        """Bodies for all agents, which begin to ask."""
        per_host = self.num_agents // len(self._hosts)
        return Ticks(
            {
                agent: f"ipc://{self.out / list(self._hosts)[agent // per_host]}/body-{agent}"
                for agent in range(self.num_agents)
            }
        )

    def look(self) -> dict[str, wire.UpdateState]:
        """What each host says to the holder of the head's key."""
        name, host = next(iter(self._hosts.items()))
        with host.inside() if isinstance(host, Host) else contextlib.nullcontext():
            nodes = Nodes(read_bundle(self.out / name))
        try:
            states = nodes.order("look", Terms(watch_s=0.0, timeout_s=20.0))
        finally:
            nodes.close()
        return {
            name: state for name, state in states.items() if isinstance(state, wire.UpdateState)
        }

    def interrupt_push(self, number: int = signal.SIGINT) -> None:
        """Ctrl-C at the command that pushes, if it runs."""
        if self._pusher is not None and self._pusher.poll() is None:
            os.killpg(self._pusher.pid, number)

    # --- the desk ---------------------------------------------------------------------------------

    def push(
        self,
        policy: Path,
        *options: str,
        bundles: Path | None = None,
        at: Host | None = None,
        when: Callable[[str], None] = lambda line: None,
    ) -> "Pushed":
        """Run the command to its end; `when` hears each line that it prints."""
        arguments = [sys.executable, "-m", "runtime.deploy", "--policy", f"{policy}"]
        arguments += ["--update", f"{bundles or self.out}", *options]
        errors = self.folder / "errors.txt"
        errors.write_text("")
        if at is not None:
            process = at.popen(arguments, cwd=_REPOSITORY, output=errors, talk=True)
        else:
            with errors.open("a") as sink:
                process = subprocess.Popen(
                    arguments, stdout=subprocess.PIPE, stderr=sink, text=True, cwd=_REPOSITORY,
                    start_new_session=True,
                )  # fmt: skip
        assert process.stdout is not None
        self._pusher = process
        lines: list[str] = []
        with process.stdout:
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                when(lines[-1])
        return Pushed(process.wait(60.0), lines, errors.read_text().splitlines())


class Pushed:
    """What the command said at its end."""

    def __init__(self, code: int, lines: Sequence[str], errors: Sequence[str]) -> None:
        self.code, self.lines, self.errors = code, lines, errors

    @property
    def refusal(self) -> str:
        """Its one line of error."""
        (line,) = self.errors
        return line

    def __repr__(self) -> str:
        return f"exit code {self.code}: {self.lines} {self.errors}"


def _free_ports(count: int) -> int:
    """First of so many ports of this machine on which nobody listens, below the ephemeral ones."""
    while True:
        base = random.randrange(12_000, 30_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(base, base + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return base
