"""A Ray cluster that is there already, and what can be wrong with it in one line.

    --ray-address -> connected -> Ray (this machine is one of its nodes) -> shutdown

Ray is imported here and nowhere else on this side, when somebody asks for it.
"""

import importlib
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from runtime.net.errors import SetupError

EXTRA = 'install it with pip install -e ".[ray]"'
NAMESPACE = "murmuration"
"""Of our actors' names."""
_KNOCK_S = 5.0


class Cluster:
    """This process as a driver of a Ray cluster."""

    def __init__(self, ray: Any, address: str) -> None:
        self.ray = ray
        self.address = address
        """Of the cluster, as Ray itself says it."""
        self.node_id: str = ray.get_runtime_context().get_node_id()
        """Of this machine's Ray node."""

    @property
    def own_address(self) -> str:
        """IP address of this machine's Ray node."""
        return str(self.ray.util.get_node_ip_address())

    def total(self, resource: str, node_id: str = "") -> float:
        """What all living Ray nodes have of a resource, or one of them."""
        return sum(
            node["Resources"].get(resource, 0.0)
            for node in self.ray.nodes()
            if node["Alive"] and node_id in ("", node["NodeID"])
        )

    def words(self) -> str:
        """What the cluster has, for a message."""
        free, all_ = self.ray.available_resources(), self.ray.cluster_resources()
        kinds = ("CPU", "GPU", *sorted(kind for kind in all_ if kind.islower()))
        hidden = ("memory", "object_store_memory")
        parts = [
            f"{free.get(kind, 0.0):g} of {all_[kind]:g} {kind} free"
            for kind in kinds
            if kind in all_ and kind not in hidden and ":" not in kind
        ]
        nodes = sum(node["Alive"] for node in self.ray.nodes())
        return f"{nodes} Ray node{'s' * (nodes != 1)} with {', '.join(parts) or 'no CPU'}"


def import_ray(option: str) -> Any:
    """The package.

    Raises:
        SetupError: it is not installed; the line names the option and the extra.
    """
    # Ray tells its maker what is used unless it is told not to, and that is the user's to decide.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise SetupError(f"{option} needs Ray: {EXTRA}") from error


def connect(address: str, option: str) -> Cluster:
    """Join a cluster as its driver.

    Args:
        option: that asked for it, for messages.

    Raises:
        SetupError: Ray is not installed, nothing answers at the address, or it is another Ray.
    """
    ray = import_ray(option)
    of_environment = os.environ.get("RAY_ADDRESS", "") if address == "auto" else ""
    found = of_environment or address
    said = f"RAY_ADDRESS {found}" if of_environment else f"--ray-address {found}"
    if found.startswith("ray://"):
        raise SetupError(
            f"{said}: a Ray client is no machine of the cluster: run this on one of its machines, "
            "or with `ray job submit`"
        )
    if found != "auto":
        _knock(found, said)
    try:
        with _own_signals():
            context = ray.init(
                address=found,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if found == "auto" and isinstance(error, ConnectionError):
            raise SetupError(
                "--ray-address auto: no Ray runs on this machine: start one with `ray start "
                "--head`, join one with `ray start --address HEAD:6379`, or name another address"
            ) from error
        way_out = "if the cluster asks for a token, set RAY_AUTH_MODE=token"
        raise SetupError(f"{said}: {one_line(error)}: {way_out}") from error
    return Cluster(ray, str(context.address_info["gcs_address"]))


def _knock(address: str, said: str) -> None:
    """Ray itself would try for minutes where nobody listens.

    Args:
        said: the option or variable that names it, and its value, for messages.

    Raises:
        SetupError: nobody does, or it is no address.
    """
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16
    if not host or "/" in host or not is_port:
        raise SetupError(f"{said}: expected ADDRESS:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    except OSError as error:
        raise SetupError(
            f"{said}: nobody answers there ({error.strerror or error}): is it the port of the Ray "
            "head (6379 unless told otherwise), and does it run?"
        ) from error


@contextmanager
def _own_signals() -> Generator[None]:
    """Ray takes SIGTERM for itself; how a command ends is ours to say."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def one_line(error: BaseException, longest: int = 300) -> str:
    """What an error of Ray's comes to: its last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:longest]
