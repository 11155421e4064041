"""Where the agents of a host wait for their bodies: one template, an endpoint for each agent.

    "ipc://{bundle}/body-{agent}", 3, /run/b -> ipc:///run/b/body-3

The template is a user's. It is never handed to str.format, which would look up attributes.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from configs.schema import MAX_PORT
from runtime.net.errors import SetupError
from runtime.net.security import is_private

DEFAULT_BODY = "ipc://{bundle}/body-{agent}"
FIRST_PORT = 8000
"""{port} stands for this plus the agent's number."""
SOCKET_PATH_BYTES = 107
"""Of a Unix socket, at most; the kernel's limit."""

_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")


def body_endpoint(template: str, agent: int, bundle: Path | None = None) -> str:
    """The endpoint of one agent.

    Args:
        bundle: the folder that {bundle} stands for; None where that name means nothing.

    Raises:
        ValueError: something else than {agent}, {port} or {bundle} stands in braces.
    """
    names = {"agent": str(agent), "port": str(FIRST_PORT + agent)}
    if bundle is not None:
        names["bundle"] = str(bundle.resolve())

    def fill_in(found: re.Match[str]) -> str:
        if found[1] not in names:  # a single brace too, which has no name
            known = " or ".join(f"{{{name}}}" for name in names)
            raise ValueError(f"body {template}: in braces may stand {known}, got {found[0]}")
        return names[found[1]]

    return _BRACES.sub(fill_in, template)


def require_bodies(template: str, agents: Iterable[int], bundle: Path) -> None:
    """Check that each of these agents can listen for a body, and for its own.

    Raises:
        SetupError: one line: unknown names in braces, an endpoint that other machines could reach,
            that the kernel would refuse, or that two agents share.
    """
    taken: dict[str, int] = {}
    for agent in agents:
        try:
            endpoint = body_endpoint(template, agent, bundle)
        except ValueError as error:
            raise SetupError(str(error)) from error
        if not is_private(endpoint) or endpoint.startswith("inproc:"):
            raise SetupError(
                f"body {template} can be reached from other machines, or not at all: a body sits "
                "on its agent's host, use ipc:// or tcp://127.0.0.1:{port}"
            )
        _require_listenable(endpoint, template)
        other = taken.setdefault(endpoint, agent)
        if other != agent:
            raise SetupError(
                f"body {template} is the same for all agents ({other} and {agent}): put {{agent}} "
                "or {port} into it"
            )


def _require_listenable(endpoint: str, template: str) -> None:
    scheme, _, rest = endpoint.partition("://")
    if scheme == "tcp":
        port = rest.rpartition(":")[2]
        if not port.isdigit() or not 1 <= int(port) <= MAX_PORT:
            raise SetupError(f"body {template}: {endpoint} has no port between 1 and {MAX_PORT}")
        return
    size = len(os.fsencode(rest))
    if size > SOCKET_PATH_BYTES or not rest:
        raise SetupError(
            f"body {template}: the path of {endpoint} has {size} bytes, a Unix socket takes "
            f"between 1 and {SOCKET_PATH_BYTES}: put the bundle into a folder with a shorter path, "
            "or deploy with --body tcp://127.0.0.1:{port}"
        )
