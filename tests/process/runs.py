"""Real runs for tests: a policy, a configuration, and a look at what is left behind."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from agents.policy import PolicyFile, PolicySpec, initialise, views
from configs.load import preset_for
from configs.schema import EnvName, GateMode, GateTiming, RunConfig, Transport
from envs.registry import spec_of
from runtime.record.json_lines import last_record
from runtime.run.view import RunSnapshot

T = TypeVar("T")


class SilentView:
    def start(self) -> None: ...

    def update(self, snapshot: RunSnapshot) -> None: ...

    def finish(self, snapshot: RunSnapshot, files: Mapping[str, Path]) -> None: ...


def run_config(
    env: EnvName,
    num_agents: int,
    *,
    copies: int = 2,
    timing: GateTiming = "causal",
    mode: GateMode = "learned",
    transport: Transport = "ipc",
    env_options: Mapping[str, Any] | None = None,
    **changes: Any,
) -> RunConfig:
    """The preset, quiet and small."""
    preset = preset_for(env)
    return dataclasses.replace(
        preset,
        num_agents=num_agents,
        env=dataclasses.replace(preset.env, copies=copies, **(env_options or {})),
        gate=dataclasses.replace(preset.gate, timing=timing, mode=mode),
        runtime=dataclasses.replace(preset.runtime, transport=transport, metrics_port=0),
        **changes,
    )


def undecided_policy(config: RunConfig, *, loud: bool = False, seed: int = 0) -> PolicyFile:
    """An untrained policy whose gates open and close; `loud` makes messages matter more as well."""
    env = spec_of(config.env, config.num_agents)
    spec = PolicySpec.of(
        config.network,
        env.observation_dim,
        env.num_actions,
        comm=config.comm,
        comm_options=config.comm_options,
        observation_shape=env.observation_shape,
    )
    flat = initialise(spec, np.random.default_rng(seed))
    tensors = views(spec, flat)
    factors = {"scorer_out.weight": 10.0, "beacon.weight": 4.0}
    if loud:
        loud_layers = ("encoder", "query", "key", "value", "message", "q_out")
        factors |= {f"{layer}.weight": 3.0 for layer in loud_layers}
    for name in factors.keys() & tensors.keys():  # not every scheme has every layer
        tensors[name][...] *= factors[name]
    if "scorer_out.bias" in tensors:
        tensors["scorer_out.bias"][...] = 0.0
    return PolicyFile(spec, flat, 1, {})


def processes_of(group: int) -> dict[str, int]:
    """Titles and pids of our processes in a process group, by /proc; zombies do not count."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            state, _, process_group = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:  # it has ended while we looked
            continue
        if title.startswith("murmuration: ") and state != "Z" and int(process_group) == group:
            found[title.removeprefix("murmuration: ")] = int(entry.name)
    return found


def murmuration_processes() -> list[str]:
    """Titles of what this very process has started and not ended."""
    return sorted(processes_of(os.getpgrp()))


def wait_for(what: str, condition: Callable[[], T | None], timeout_s: float = 60.0) -> T:
    """Look again and again until there is something; fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)  # nothing to wait on: the state of other processes has no event
    raise AssertionError(f"waited {timeout_s:.0f} s for {what}")


def scratch_folder(owner: object) -> Path:
    """A folder with a short path, which lasts as long as its owner.

    The names of Unix sockets have room for 107 bytes, and pytest's folders take most of them.
    """
    folder = Path(tempfile.mkdtemp(prefix="run-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


class Launched:
    """`python -m runtime.launch` in a process group of its own."""

    def __init__(self, folder: Path, *arguments: str, metrics_port: int = 0) -> None:
        self.folder = folder
        self.sockets = scratch_folder(self)
        """Where the launcher makes its folder of ipc endpoints."""
        self.output = folder / "output.txt"
        command = [sys.executable, "-m", "runtime.launch", *arguments]
        command += ["--runtime.runs-dir", str(folder / "runs"), "--metrics-port", str(metrics_port)]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.sockets)},
            )

    def __enter__(self) -> "Launched":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def processes(self) -> dict[str, int]:
        return processes_of(self.process.pid)

    def wait_until_training(self) -> Path:
        """The run's folder, once episodes are being played."""

        def playing() -> Path | None:
            assert self.process.poll() is None, self.output.read_text()
            for episodes in self.folder.glob("runs/*/episodes.jsonl"):
                if episodes.stat().st_size:
                    return episodes.parent
            return None

        return wait_for("the first episodes", playing)

    def updates(self) -> int:
        """Learner updates by the newest line of the run's log."""
        return int(self.newest_metrics().get("learner/updates", 0))

    def newest_metrics(self) -> dict[str, Any]:
        for metrics in self.folder.glob("runs/*/metrics.jsonl"):
            return last_record(metrics) or {}
        return {}

    def finish(self, timeout_s: float) -> int:
        """The exit code, and proof that nothing is left."""
        code = self.process.wait(timeout_s)
        wait_for("all processes to be gone", lambda: not self.processes, 5.0)
        return code

    def summary(self) -> dict[str, Any]:
        (path,) = self.folder.glob("runs/*/summary.json")
        return json.loads(path.read_text())
