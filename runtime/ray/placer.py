"""The hosts of a run as bundles of a Ray placement group, each with an actor that runs a node.

    RayPlacer.open -> placement group, actors -> addresses, keys -> the head's Bundle
    begin -> Host.serve on every Ray node           look -> lost hosts are placed anew

Bundle 0 is the head's and lies on this machine: launcher, world and learner are processes here, and
an actor holds their share. If a Ray node is lost, Ray finds another place for its bundle. A new
actor there gets the same agents and keys; its node joins the run as after any restart.
"""

import logging
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.schema import RunConfig
from runtime.deployment.bundle import Book, Bundle, bundle_files, make_keys
from runtime.deployment.hosts import FIRST_AGENT_PORT, Hosts, spread
from runtime.net.errors import SetupError
from runtime.net.limits import begin_process
from runtime.ray.cluster import Cluster, connect, one_line
from runtime.ray.host import BUNDLE, RUNS, Ended, Host
from runtime.run.placer import News

logger = logging.getLogger(__name__)

HEAD = "head"
_METRICS_PORT = 4
"""Among the ports of a host: the first of those that nobody else needs."""
_SAY_AFTER_S = 3.0
_LAST_WORDS_S = 10.0
"""Seconds that nodes have to end, and to hand over their logs."""
_MOST_FAILURES = 5
_IS_A_FAILURE_S = 30.0
"""A host that ends sooner than that so many times in a row will not do better."""


@dataclass(slots=True)
class _Seat:
    """One host's bundle."""

    index: int
    name: str
    actor: Any
    life: int = 0
    placing: Any = None
    """Reference to where it is, until that is known."""
    serving: Any = None
    """Reference to how its node ends."""
    asked_s: float = 0.0
    failures: int = 0

    @property
    def label(self) -> str:
        return f"{self.name}.{self.life + 1}" if self.life else self.name


class RayPlacer:
    """Hosts on a Ray cluster."""

    def __init__(self, cluster: Cluster, config: RunConfig, directory: Path) -> None:
        """Ask for nothing yet; `open` does."""
        self._cluster, self._ray = cluster, cluster.ray
        self._config, self._runtime = config, config.runtime
        self._directory = directory
        self._gpus = gpus_wanted(config, cluster.total("GPU", cluster.node_id))
        self._deployment = secrets.token_hex(8)
        self._group: Any = None
        self._seats: list[_Seat] = []
        self._lost: list[str] = []
        """Hosts that were lost in this look."""
        self.learner_environment: dict[str, str] = {}

    @classmethod
    def open(cls, config: RunConfig, directory: Path) -> "RayPlacer":
        """Ask for all hosts, and wait until it is known where they are.

        Args:
            directory: the run's folder, whose name actors have.

        Raises:
            SetupError: no Ray, no cluster, not enough resources in time, or a host that cannot run
                a node.
        """
        begin_process(keyed=True)
        runtime = config.runtime
        if runtime.hosts_count > config.num_agents:
            raise SetupError(
                f"--hosts-count {runtime.hosts_count}: there are {config.num_agents} agents: ask "
                "for fewer hosts"
            )
        placer = cls(connect(runtime.ray_address, "--placer ray"), config, directory)
        try:
            placer._reserve()
            placer._find_places()
        except BaseException:
            placer.close()
            raise
        return placer

    # --- the start --------------------------------------------------------------------------------

    def _reserve(self) -> None:
        """Have Ray set aside the bundles.

        Raises:
            SetupError: it cannot, in the time that it has.
        """
        count, cpus = self._runtime.hosts_count, self._runtime.ray_cpus
        here = {"CPU": cpus, **({"GPU": float(self._gpus)} if self._gpus else {})}
        self._group = self._ray.util.placement_group(
            [here, *({"CPU": cpus} for _ in range(count - 1))],
            strategy="SPREAD",
            name=self._directory.name,
            # Every Ray node has this label by itself.
            bundle_label_selector=[
                {"ray.io/node-id": self._cluster.node_id},
                *({} for _ in range(count - 1)),
            ],
        )
        begun_s = time.monotonic()
        what = f"{count} hosts with {cpus:g} CPU{'s' * (cpus != 1)} each"
        what += f" and {self._gpus} GPU{'s' * (self._gpus != 1)} here" if self._gpus else ""
        is_said = False
        while not self._group.wait(timeout_seconds=0.5):
            waited_s = time.monotonic() - begun_s
            if waited_s > self._runtime.ray_timeout_s:
                raise SetupError(
                    f"--placer ray: {what} could not be had in {waited_s:.0f} s from "
                    f"{self._cluster.words()}: add Ray nodes, ask for less (--hosts-count, "
                    "--ray-cpus, --ray-gpus), or wait longer (--ray-timeout-s)"
                )
            if not is_said and waited_s > _SAY_AFTER_S:
                is_said = True
                print(f"waiting for {what} from {self._cluster.words()}", flush=True)

    def _find_places(self) -> None:
        """Start an actor in each bundle, and hear where it is.

        Raises:
            SetupError: one cannot be started there.
        """
        names = [HEAD, *(f"host-{n}" for n in range(1, self._runtime.hosts_count))]
        shares = spread(dict.fromkeys(names, ("", 0)), self._config.num_agents)
        self._seats = [_Seat(n, name, self._actor(n, name)) for n, name in enumerate(names)]
        places: dict[str, tuple[str, int]] = {}
        taken: list[range] = []
        deadline_s = time.monotonic() + self._runtime.ray_timeout_s
        for seat in self._seats:
            num_ports = ports_wanted(self._config, shares, seat.name)
            # One after the other: several may be on one machine, and want different ports.
            call = seat.actor.place.remote(num_ports, taken)
            address, port = self._first_answer(seat, call, deadline_s)
            places[seat.name] = (address, port)
            taken.append(range(port, port + num_ports))
        if self._gpus:
            gpus = self._first_answer(
                self._seats[0], self._seats[0].actor.gpus.remote(), deadline_s
            )
            self.learner_environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        elif self._runtime.ray_gpus == 0 and self._config.learner.device == "auto":
            self.learner_environment["CUDA_VISIBLE_DEVICES"] = ""
        self._hosts = spread(places, self._config.num_agents)
        self._keys = make_keys(self._hosts)

    def _first_answer(self, seat: _Seat, call: Any, deadline_s: float) -> Any:
        try:
            return self._ray.get(call, timeout=max(deadline_s - time.monotonic(), 0.0))
        except self._ray.exceptions.GetTimeoutError as error:
            raise SetupError(
                f"--placer ray: the actor of {seat.name} has not started in "
                f"{self._runtime.ray_timeout_s:.0f} s (--ray-timeout-s gives more)"
            ) from error
        except self._ray.exceptions.RayError as error:
            raise SetupError(_cannot_be_started(seat.name, one_line(error))) from error

    def _actor(self, index: int, label: str) -> Any:
        strategies = self._ray.util.scheduling_strategies
        title = f"{self._directory.name}/{label}"
        return (
            self._ray.remote(Host)
            .options(
                name=title,
                num_cpus=self._runtime.ray_cpus,
                num_gpus=0 if index else self._gpus,
                scheduling_strategy=strategies.PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=index
                ),
            )
            .remote(title)
        )

    # --- the run ----------------------------------------------------------------------------------

    @property
    def head(self) -> Bundle:
        public = {name: pair.public for name, pair in self._keys.items()}
        own = {name: self._keys[name] for name in self._hosts.identities_on(HEAD)}
        book = Book(self._deployment, self._hosts, public)
        return Bundle(self._directory, self._hosts[HEAD], book, own, None, None)

    def begin(self) -> None:
        for seat in self._seats[1:]:
            logger.info("%s is placed on %s", seat.label, self._whereabouts(seat.name))
            self._serve(seat)

    def _whereabouts(self, name: str) -> str:
        """For the log."""
        host = self._hosts[name]
        metrics = f", /metrics on port {host.port + _METRICS_PORT}"
        return f"{host.address}, ports from {host.port}" + metrics * bool(self._metrics_port(name))

    def _metrics_port(self, name: str) -> int:
        return self._hosts[name].port + _METRICS_PORT if self._runtime.metrics_port else 0

    def look(self) -> News:
        self._lost, moved = [], False
        for seat in self._seats[1:]:
            if seat.placing is not None and (answer := self._answer(seat, seat.placing)):
                address, port = answer
                where = [*self._hosts.whereabouts()]
                bracketed = f"[{address}]" if ":" in address else address
                where[seat.index] = f"tcp://{bracketed}:{port}"
                self._hosts, moved = self._hosts.at(where), True
                logger.warning("%s is placed on %s", seat.label, self._whereabouts(seat.name))
                self._serve(seat)
            elif seat.serving is not None and (answer := self._answer(seat, seat.serving)):
                assert isinstance(answer, Ended)
                self._keep(seat, answer)
                said = f"its node ended with {answer.exit_code}: {answer.last_line}"
                self._place_anew(seat, said)
        return News(tuple(self._lost), self._hosts if moved else None)

    def _answer(self, seat: _Seat, call: Any) -> Any:
        """What a call has come to; None: nothing yet, or that the host is lost."""
        done, _ = self._ray.wait([call], timeout=0)
        if not done:
            return None
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._place_anew(seat, one_line(error))
            return None

    def _serve(self, seat: _Seat) -> None:
        """Hand over the host's keys, and have its node started."""
        files = bundle_files(self._hosts, seat.name, self._keys, self._deployment)
        seat.placing, seat.asked_s = None, time.monotonic()
        seat.serving = seat.actor.serve.remote(files, self._arguments(seat.name))

    def _arguments(self, name: str) -> list[str]:
        """Of the node's command."""
        runtime, metrics_port = self._runtime, self._metrics_port(name)
        return [
            *("--bundle", BUNDLE, "--join", self._hosts[HEAD].address, "--runs-dir", RUNS),
            *("--timeout-s", f"{self._config.start_patience_s}"),
            *("--metrics-port", f"{metrics_port}", "--metrics-address", runtime.metrics_address),
            *("--metrics-linger-s", f"{runtime.metrics_linger_s}"),
            *(["--metrics-per-edge"] if runtime.metrics_per_edge else []),
        ]

    def _place_anew(self, seat: _Seat, why: str) -> None:
        """Ask for another place for a host that is lost.

        Raises:
            SetupError: that has been tried often enough.
        """
        logger.warning("%s is lost (%s): Ray is asked for another place", seat.label, why)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(seat.actor)
        is_failure = time.monotonic() - seat.asked_s < _IS_A_FAILURE_S
        seat.failures = seat.failures + 1 if is_failure else 0
        if seat.failures >= _MOST_FAILURES:
            raise SetupError(_cannot_be_started(seat.name, why))
        if seat.serving is not None:
            self._lost.append(seat.name)
        seat.life += 1
        seat.serving, seat.asked_s = None, time.monotonic()
        seat.actor = self._actor(seat.index, seat.label)
        others = [
            range(host.port, host.port + ports_wanted(self._config, self._hosts, host.name))
            for host in self._hosts.hosts
        ]
        num_ports = ports_wanted(self._config, self._hosts, seat.name)
        seat.placing = seat.actor.place.remote(num_ports, others)

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Fetch the logs of all hosts, and give back the bundles."""
        try:
            serving = [seat.serving for seat in self._seats if seat.serving is not None]
            if serving:
                self._ray.wait(serving, num_returns=len(serving), timeout=_LAST_WORDS_S)
            for seat in self._seats:
                self._close_seat(seat)
            if self._group is not None:
                self._ray.util.remove_placement_group(self._group)
        except Exception as error:  # the cluster may be gone: then nothing is left to give back
            logger.warning("what Ray had given could not be given back: %s", one_line(error))
        finally:
            self._ray.shutdown()

    def _close_seat(self, seat: _Seat) -> None:
        errors = self._ray.exceptions
        with suppress(errors.RayError):
            if seat.serving is not None:
                self._keep(seat, self._ray.get(seat.serving, timeout=0))
        with suppress(errors.RayError):
            self._ray.kill(seat.actor)

    def _keep(self, seat: _Seat, ended: Ended) -> None:
        """Keep what a host has written, in the run's folder."""
        folder = self._directory / "hosts" / seat.label
        try:
            for name, content in ended.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                # A run that is resumed has logs of its earlier life.
                with path.open("ab" if path.suffix == ".log" else "wb") as file:
                    file.write(content)
        except OSError as error:
            logger.warning("logs of %s could not be kept: %s", seat.label, error.strerror)


def gpus_wanted(config: RunConfig, on_this_node: float) -> int:
    """GPUs that are asked for with the head's bundle.

    Args:
        on_this_node: GPUs that this machine's Ray node has.
    """
    if config.runtime.ray_gpus is not None:
        return config.runtime.ray_gpus
    learner = config.learner
    may = learner.device == "cuda" or (
        learner.device == "auto" and on_this_node >= max(learner.ranks, 1)
    )
    return max(learner.ranks, 1) if may else 0


def ports_wanted(config: RunConfig, hosts: Hosts, name: str) -> int:
    """Ports of a host: for its own agents, or for everybody's where they may move to it."""
    agents = config.num_agents if config.runtime.rebalance else len(hosts[name].agents)
    return FIRST_AGENT_PORT + agents


def _cannot_be_started(name: str, why: str) -> str:
    return (
        f"--placer ray: {name} cannot be started ({why}): is the project installed on all Ray "
        "nodes, in the same version and for the same Python?"
    )
