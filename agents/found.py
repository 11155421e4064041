"""Networks and schemes by name, as classes (configs/extensions.py finds them)."""

from functools import cache
from typing import Any

from agents.comm.base import Scheme
from agents.networks.base import Network
from configs import extensions
from configs.extensions import ExtensionError
from configs.schema import GateMode


@cache
def scheme_of(name: str) -> type[Scheme]:
    """The scheme by this name.

    Raises:
        ExtensionError: there is none, or what there is is none.
    """
    found = extensions.load(extensions.SCHEME, name)
    if not (isinstance(found, type) and issubclass(found, Scheme)):
        raise ExtensionError(f"--comm {name}: {found!r:.100} is no agents.comm.base.Scheme")
    return found


def ranks_by_beacons(comm: str, mode: GateMode, options: Any) -> bool:
    """Whether the scheme opens the best of its edges by what beacons say, and no gate is learned:
    another edge takes the place of one whose beacon was lost.
    """
    return mode != "learned" and scheme_of(comm).reads_beacons(mode, options)


@cache
def network_of(name: str) -> type[Network]:
    """The network by this name.

    Raises:
        ExtensionError: there is none, or what there is is none.
    """
    found = extensions.load(extensions.NETWORK, name)
    if not (isinstance(found, type) and issubclass(found, Network)):
        raise ExtensionError(f"--network {name}: {found!r:.100} is no agents.networks.base.Network")
    return found
