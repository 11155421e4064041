"""Networks and schemes by name, as classes (configs/extensions.py finds them)."""

from functools import cache

from agents.comm.base import Scheme
from agents.networks.base import Network
from configs import extensions
from configs.extensions import ExtensionError


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
