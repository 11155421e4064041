"""Real runs for tests: a policy, a configuration, and a look at what is left behind."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.policy import PolicyFile, PolicySpec, initialise, views
from configs.load import preset_for
from configs.schema import EnvName, GateMode, GateTiming, RunConfig, Transport
from envs.registry import spec_of
from runtime.view import RunSnapshot


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
    spec = PolicySpec.of(config.network, env.observation_dim, env.num_actions)
    flat = initialise(spec, np.random.default_rng(seed))
    tensors = views(spec, flat)
    factors = {"scorer_out.weight": 10.0, "beacon.weight": 4.0}
    if loud:
        loud_layers = ("encoder", "query", "key", "value", "message", "q_out")
        factors |= {f"{layer}.weight": 3.0 for layer in loud_layers}
    for name, factor in factors.items():
        tensors[name][...] *= factor
    tensors["scorer_out.bias"][...] = 0.0
    return PolicyFile(spec, flat, 1, {})


def murmuration_processes() -> list[str]:
    """Titles of all processes of ours that are alive, by /proc."""
    titles: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if title.startswith("murmuration: ") and state != "Z":
                titles.append(title)
    return sorted(titles)
