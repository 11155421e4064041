"""Processes, sockets, hosts and metrics."""

from dataclasses import dataclass
from typing import Annotated, Literal

from configs.ranges import between, check_ranges, within
from configs.schema.choices import Placer, TrackerName, Transport
from configs.schema.fields import require, short
from configs.schema.limits import MAX_PORT


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig:
    transport: Annotated[Transport, short("transport")] = "ipc"
    """ipc on one machine, or tcp over loopback (the code path of separate hosts)."""

    serial: Annotated[bool, short("serial")] = False
    """Everything in one process, for a debugger: no sockets, the learner takes its updates between
    two steps, and a run depends on its seed alone."""

    track: Annotated[TrackerName, short("track")] = "none"
    """Follow the run with wandb (WANDB_MODE=offline keeps it in the run's folder) or trackio (a
    database on this machine) as well; pip install -e ".[track]"."""

    metrics_port: Annotated[int, short("metrics-port"), between(0, MAX_PORT)] = 9464
    """Port of http://127.0.0.1:PORT/metrics; 0 switches the exporter off."""

    metrics_address: Annotated[str, short("metrics-address")] = "127.0.0.1"
    """Address of /metrics; loopback unless told otherwise."""

    metrics_per_edge: Annotated[bool, short("metrics-per-edge")] = False
    """Export series for every edge as well (agents × offsets of each family), up to 20 000 edges
    a host."""

    metrics_linger_s: Annotated[float, within(0.0, 600.0)] = 0.0
    """Seconds that /metrics stays up after a run, for a last scrape."""

    start_timeout_s: Annotated[float, within(1.0, 86_400.0)] = 120.0
    """Seconds that a start may stand still before it is given up; for each agent there is a fifth
    of a second more. While processes keep coming it goes on, for five times as long at most."""

    step_timeout_s: Annotated[float, within(0.01, 3600.0)] = 20.0
    """Seconds the world waits for an agent's action before it plays a no-op for it."""

    silent_timeout_s: Annotated[float, within(1.0, 86_400.0)] = 60.0
    """Seconds without a word after which a process counts as hung and is ended like a dead one."""

    host_timeout_s: Annotated[float, within(1.0, 3600.0)] = 5.0
    """Seconds without a word after which another host's agents count as gone, until it is back."""

    head_timeout_s: Annotated[float, within(1.0, 86_400.0)] = 30.0
    """Seconds without a word from the head after which another host counts the run as over."""

    rebalance: Annotated[bool, short("rebalance")] = False
    """Move the agents of a host that leaves for good to the other hosts (docs/deploy.md)."""

    rebalance_after_s: Annotated[float, within(1.0, 86_400.0)] = 60.0
    """With rebalance, seconds without a word from a host after which it has left for good."""

    hosts: Annotated[str, short("hosts")] = ""
    """Hosts file of a run across machines (docs/deploy.md); empty keeps everything on this one."""

    bundles: Annotated[str, short("bundles")] = "bundles"
    """Folder of the hosts' keys; made on the first run with these hosts."""

    placer: Annotated[Placer, short("placer")] = "hosts"
    """How nodes are started on other hosts: by hand, with a hosts file, or by a Ray cluster
    (docs/clusters.md; pip install -e ".[ray]")."""

    hosts_count: Annotated[int, short("hosts-count"), between(0, 256)] = 0
    """Hosts of a run on Ray, this machine among them."""

    ray_address: Annotated[str, short("ray-address")] = "auto"
    """ADDRESS:PORT of the Ray cluster; auto takes RAY_ADDRESS, or the one on this machine."""

    ray_cpus: Annotated[float, short("ray-cpus"), within(0.0, 4096.0, above_low=True)] = 1.0
    """CPUs to ask Ray for on each host."""

    ray_gpus: Annotated[int | None, short("ray-gpus"), between(0, 64)] = None
    """GPUs to ask Ray for on this machine, the learner's host; None: one for each rank of a learner
    that trains on GPUs."""

    ray_timeout_s: Annotated[float, short("ray-timeout-s"), within(1.0, 86_400.0)] = 60.0
    """Seconds that Ray has to give all hosts of a run."""

    telemetry: bool = True
    """Count bytes, packets and latencies, read memory and serve /metrics; off measures what that
    costs. Heartbeats, steps and open edges are counted all the same."""

    profile: bool = False
    """Agents measure where their cpu time goes and leave it in logs/profile-AGENT.json."""

    pin: Literal["auto", "on", "off"] = "auto"
    """Keep every agent on one core, in turn; auto does so where they need all cores and nobody
    else does: on one machine, without a learner, with at least twice as many agents as cores."""

    nice: Annotated[int, between(0, 19)] = 5
    """Niceness of agents and world beside a learner: among a hundred of them it would get one
    turn in a hundred."""

    max_restarts: Annotated[int, between(0, 10**6)] = 20
    """Restarts of one agent before the run is given up."""

    runs_dir: str = "runs"
    """Folder under which each run gets its own."""

    def __post_init__(self) -> None:
        check_ranges(self, "runtime")
        by_ray = self.placer == "ray"
        require(not (by_ray and self.hosts), "--placer ray needs no hosts file: leave out --hosts")
        require(by_ray == (self.hosts_count > 0), "--placer ray and --hosts-count N go together")
        require(
            not self.rebalance or self.rebalance_after_s >= self.host_timeout_s,
            f"runtime.rebalance_after_s must be at least runtime.host_timeout_s "
            f"({self.host_timeout_s:g}), got {self.rebalance_after_s:g}",
        )

    @property
    def spreads(self) -> bool:
        """Whether agents live on several hosts."""
        return bool(self.hosts) or self.placer != "hosts"
