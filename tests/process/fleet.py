"""A training run across hosts, for tests: started, observed, and proved to be gone.

    Fleet.start(folder) -> head on host a, nodes on b and c -> processes, metrics, logs -> exits

Hosts are network namespaces (tests/process/namespaces.py) and share everything but their network,
so a test sees every process and file of every host, and can stop, kill or cut off any of them.

How long a recovery took depends on the machine: no test asserts it. Where MURMURATION_FAULTS_FILE
names a file, `record` appends it as a JSON line (docs/results/faults.md).
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runtime.record.json_lines import last_record
from tests.process.namespaces import Hosts
from tests.process.runs import scratch_folder, wait_for

FAULTS_FILE = "MURMURATION_FAULTS_FILE"

HEAD, REMOTE = "a", ("b", "c")
NUM_AGENTS = 6
"""Two on each host: every agent has neighbours on all three."""

NO_NAMES: Mapping[str, str] = MappingProxyType({})
_REPOSITORY = Path(__file__).parents[2]


def record(lost: str, recovered_s: float, recovery: str, **more: float) -> None:
    """Write down how long a recovery took, if somebody wants to know."""
    path = os.environ.get(FAULTS_FILE)
    if path:
        row = {"lost": lost, "recovered_s": round(recovered_s, 2), "recovery": recovery, **more}
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class Fleet:
    """One run: launcher, world, learner and a node on host a, a node each on hosts b and c."""

    def __init__(self, hosts: Hosts, folder: Path, names: Mapping[str, str] = NO_NAMES) -> None:
        self.hosts = hosts
        self.folder = folder
        self._scratch = scratch_folder(self)
        self.bundles = folder / "bundles"
        self.started: dict[str, list[subprocess.Popen[str]]] = {host.name: [] for host in hosts}
        """Commands started on each host, the newest last."""
        self.addresses = {host.name: host.address for host in hosts} | dict(names)
        text = "".join(f"  {name}: {{address: {a}}}\n" for name, a in self.addresses.items())
        self.hosts_file = folder / "hosts.yaml"
        self.hosts_file.write_text(f"head: {HEAD}\nhosts:\n{text}")

    @classmethod
    @contextlib.contextmanager
    def start(
        cls,
        folder: Path,
        *options: str,
        join: Sequence[str] = REMOTE,
        names: Mapping[str, str] = NO_NAMES,
    ) -> Generator["Fleet"]:
        """Start a run with these options of the launcher, and the nodes of the hosts in `join`.

        Whatever is left of it when the `with` block is left is killed.

        Args:
            names: DNS names of hosts, to be used in place of their addresses.
        """
        with Hosts.create(HEAD, *REMOTE) as hosts:
            if names:
                hosts.publish(names)
            fleet = cls(hosts, folder, names)
            fleet.make_bundles()
            fleet.launch(*options)
            for name in join:
                fleet.join(name)
            yield fleet

    def make_bundles(self, *options: str) -> None:
        command = [self.hosts[HEAD].python, "-m", "runtime.keys", "--hosts", self.hosts_file]
        command += ["--agents", str(NUM_AGENTS), "--out", self.bundles, *options]
        self.hosts[HEAD].run(command, cwd=_REPOSITORY)

    def launch(self, *options: str) -> None:
        """Start the head's command."""
        files = ("--hosts", self.hosts_file, "--bundles", self.bundles)
        runs = ("--runtime.runs-dir", self.folder / "runs", "--metrics-port", "0")
        task = ("--agents", NUM_AGENTS, "--env", "relay", "--env-copies", "4")
        arguments = (*task, *files, *runs, *options)
        self._popen(HEAD, ["runtime.launch", *map(str, arguments)])

    def join(self, name: str, *options: str, bundle: Path | None = None) -> None:
        """Start the node's command on a host."""
        arguments = ["runtime.node", "--join", self.addresses[HEAD], "--metrics-port", "0"]
        arguments += ["--bundle", str(bundle or self.bundles / name)]
        arguments += ["--runs-dir", str(self.folder / f"runs-{name}")]
        self._popen(name, [*arguments, *options])

    def _popen(self, name: str, arguments: list[str]) -> None:
        host, count = self.hosts[name], len(self.started[name])
        sockets = self._scratch / f"{name}-{count + 1}"
        sockets.mkdir(exist_ok=True)
        process = host.popen(
            [host.python, "-m", *arguments],
            cwd=_REPOSITORY,
            env={"TMPDIR": str(sockets)},
            output=self.folder / f"{name}-{count}.txt",
        )
        self.started[name].append(process)

    def _sockets(self, name: str) -> Path:
        """Where the newest command of a host makes its folder of ipc endpoints."""
        return self._scratch / f"{name}-{len(self.started[name])}"

    # --- what is seen
    # -----------------------------------------------------------------------------

    def output(self, name: str, life: int = -1) -> str:
        """What the newest (or the life-th) command of a host has printed."""
        count = range(len(self.started[name]))[life]
        return (self.folder / f"{name}-{count}.txt").read_text()

    def processes(self, name: str) -> dict[str, int]:
        """Titles and pids of a host's processes of ours; the launcher has none of these titles."""
        found: dict[str, int] = {}
        for pid in self.hosts[name].pids():
            with contextlib.suppress(OSError):  # it has ended while we looked
                title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if title.startswith("murmuration: "):
                    found[title.removeprefix("murmuration: ").strip()] = pid
        return found

    def all_processes(self) -> dict[str, int]:
        """Of all hosts, as "b/agent 2"."""
        return {
            f"{host.name}/{title}": pid
            for host in self.hosts
            for title, pid in self.processes(host.name).items()
        }

    def newest(self) -> dict[str, Any]:
        """The newest line of the run's log."""
        for metrics in self.folder.glob("runs/*/metrics.jsonl"):
            return last_record(metrics) or {}
        return {}

    def figure(self, name: str) -> float:
        return float(self.newest().get(name, 0.0))

    def summary(self) -> dict[str, Any]:
        (path,) = self.folder.glob("runs/*/summary.json")
        return json.loads(path.read_text())

    def logs(self, name: str) -> str:
        """All log files of a host, one after the other."""
        runs = "runs" if name == HEAD else f"runs-{name}"
        paths = sorted(self.folder.glob(f"{runs}/*/logs/*.log"))
        return "".join(path.read_text() for path in paths)

    def rss_mb(self, pid: int) -> float:
        """Memory that a process holds."""
        status = Path(f"/proc/{pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    # --- what is waited for
    # -----------------------------------------------------------------------

    def wait_until_learning(self, timeout_s: float = 60.0) -> None:
        """Until all agents play and the learner gets whole episodes: only with everybody there."""

        def learns() -> bool:
            assert self.head.poll() is None, self.output(HEAD)
            newest = self.newest()
            return newest.get("agent/up", 0) == NUM_AGENTS and newest.get("learner/updates", 0) > 3

        wait_for("the run to learn", learns, timeout_s)
        self.wait_for_episodes(timeout_s)

    def wait_for_episodes(self, timeout_s: float = 60.0, more: int = 8) -> None:
        """Until the learner has got some more whole episodes: of agents of all hosts."""
        before = self.figure("learner/episodes")
        wait_for(
            "more whole episodes",
            lambda: self.figure("learner/episodes") > before + more,
            timeout_s,
        )

    def wait_for_steps(self, timeout_s: float = 60.0, more: int = 40) -> None:
        """Until the environments have moved on, whoever takes part."""
        before = self.figure("env/steps")
        wait_for("more steps", lambda: self.figure("env/steps") > before + more, timeout_s)

    def wait_for_versions(self, more: int, timeout_s: float = 60.0) -> None:
        """Until the learner has published some more versions."""
        before = self.figure("learner/version")
        wait_for(
            "newer versions", lambda: self.figure("learner/version") > before + more, timeout_s
        )

    @property
    def head(self) -> subprocess.Popen[str]:
        return self.started[HEAD][-1]

    def signal(self, name: str, title: str, number: int) -> int:
        """Send a signal to a process by its title; returns its pid."""
        pid = self.processes(name)[title]
        os.kill(pid, number)
        return pid

    # --- the end
    # ----------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Ctrl-C at the head."""
        os.kill(self.head.pid, signal.SIGINT)

    def wait_for_exits(self, timeout_s: float) -> Mapping[str, int]:
        """Exit codes of every host's newest command, and proof that nothing is left anywhere."""
        deadline = time.monotonic() + timeout_s
        codes = {
            name: commands[-1].wait(max(deadline - time.monotonic(), 0.1))
            for name, commands in self.started.items()
            if commands
        }
        for host in self.hosts:
            wait_for(f"host {host.name} to be empty", lambda h=host: not h.pids(), 10.0)
        for host in self.hosts:
            left = list(self._sockets(host.name).glob("murmuration-*"))
            assert left == [], f"sockets of host {host.name} are left behind"
        return codes
