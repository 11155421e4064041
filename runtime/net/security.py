"""Who may talk to whom: CURVE keys, and the gatekeeper that checks them.

    connecting socket ── CURVE handshake ──▶ listening socket ── ZAP request ──▶ Gatekeeper
                                                        user id = name of the key ◀──┘

Identity = key. A connection is known by the name under which its public key is listed, and by
nothing that its owner claims: names come out of the handshake (ZAP's user id), claims in packets
are compared with them. CURVE encrypts and authenticates the server; without a ZAP handler it would
let every client in (ZeroMQ RFC 26 and 27).
"""

import ipaddress
import itertools
import logging
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar
from weakref import WeakKeyDictionary

import zmq
from zmq.utils import z85

from runtime.net.doorway import Doorway, most_connections
from runtime.net.errors import SetupError

logger = logging.getLogger(__name__)

KEY_CHARACTERS = 40
"""Length of a key: 32 octets in Z85."""

_ZAP_ENDPOINT = "inproc://zeromq.zap.01"  # fixed by RFC 27
_ZAP_VERSION = b"1.0"
_NEW_DOOR, _END = b"door", b""
_NUMBERS = itertools.count()
_MOST_LOGGED = 20
"""Refusals that are logged in full; a flood of strangers must not fill the disk."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One identity's keys, Z85 text. The secret half never shows in logs."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> "KeyPair":
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())


@dataclass(frozen=True, slots=True)
class Keyring:
    """What one process holds: its own keys, and everybody's public ones by name."""

    name: str
    own: KeyPair
    public: Mapping[str, str]
    is_renewed: bool = False
    """Whether agents may get new keys while the run goes on (runtime/net/moves.py)."""

    def client_of(self, server: str) -> "CurveClient":
        """For a socket that connects to `server`."""
        return CurveClient(self.own, self.public[server])

    def server(self, domain: str) -> "CurveServer":
        """For a socket that listens; the gatekeeper knows its guests by the domain."""
        return CurveServer(self.own, domain)


@dataclass(frozen=True, slots=True)
class CurveClient:
    """Keys of a connecting socket."""

    own: KeyPair
    server_key: str

    def apply(self, socket: "zmq.Socket[bytes]") -> None:
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.own.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret.encode())
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server_key.encode())


@dataclass(frozen=True, slots=True)
class CurveServer:
    """Keys of a listening socket, and its ZAP domain."""

    own: KeyPair
    domain: str

    def apply(self, socket: "zmq.Socket[bytes]") -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, self.domain.encode())
        # Without it a socket that finds no gatekeeper would let everybody in.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class Gatekeeper:
    """A process's ZAP handler (RFC 27): lets listed keys in, each to the domains it is listed for.

    It has a thread of its own, so that a handshake never waits for an update or a step. Make it
    before the first listening socket, close it after the last. The same thread keeps watch over
    how many connections those sockets hold (runtime/net/doorway.py).
    """

    _of_contexts: ClassVar["WeakKeyDictionary[zmq.Context[zmq.Socket[bytes]], Gatekeeper]"] = (
        WeakKeyDictionary()
    )

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", *, is_patient: bool = False
    ) -> None:
        """Nobody is listed yet.

        Args:
            is_patient: whether those with an unlisted key may try again: it may be a new one, of
                which we have not heard yet. A ZeroMQ that is told no gives up for good.
        """
        self._context = context
        self._refusal = b"300" if is_patient else b"400"
        self._guests: dict[str, Mapping[bytes, str]] = {}
        self._refused: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._new_doors: list[tuple[zmq.Socket[bytes], Doorway]] = []
        self._doors: list[Doorway] = []
        self._of_contexts[context] = self
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_ZAP_ENDPOINT)
        name = f"inproc://gatekeeper-{id(self)}"
        self._bell = context.socket(zmq.PAIR)
        self._bell.bind(name)
        self._ears = context.socket(zmq.PAIR)
        self._ears.connect(name)
        self._thread = threading.Thread(target=self._serve, name="gatekeeper", daemon=True)
        self._thread.start()

    def admit(self, domain: str, guests: Mapping[str, str]) -> None:
        """From now on exactly these may connect to sockets of the domain.

        Args:
            guests: public key (Z85) by name.
        """
        keys = {z85.decode(key.encode()): name for name, key in guests.items()}
        with self._lock:
            self._guests[domain] = keys

    @classmethod
    def of(cls, context: "zmq.Context[zmq.Socket[bytes]]") -> "Gatekeeper | None":
        """The one that answers for this context's sockets."""
        return cls._of_contexts.get(context)

    def watch(self, socket: "zmq.Socket[bytes]", endpoint: str, domain: str) -> None:
        """Bound the connections of a socket that listens; it stops with `disable_monitor`."""
        with self._lock:
            most = most_connections(len(self._guests.get(domain, {})))
        address = f"inproc://door-{id(self)}-{next(_NUMBERS)}"
        socket.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        door = self._context.socket(zmq.PAIR)
        door.setsockopt(zmq.LINGER, 0)
        door.connect(address)
        with self._lock:
            self._new_doors.append((door, Doorway(endpoint, most)))
        self._bell.send(_NEW_DOOR)

    @property
    def refused(self) -> int:
        """Connections turned away so far: no listed key, or none shown while others waited."""
        with self._lock:
            return self._refused.total() + sum(door.cut for door in self._doors)

    def close(self) -> None:
        self._of_contexts.pop(self._context, None)
        self._bell.send(_END)
        self._thread.join()
        self._bell.close()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._ears, zmq.POLLIN)
        doors: dict[zmq.Socket[bytes], Doorway] = {}
        while True:
            ready = dict(poller.poll())
            if self._ears in ready:
                if self._ears.recv() == _END:
                    break
                with self._lock:
                    new, self._new_doors = dict(self._new_doors), []
                    self._doors += new.values()
                doors |= new
                for door in new:
                    poller.register(door, zmq.POLLIN)
            if self._socket in ready:
                self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
            for door, doorway in doors.items():
                if door in ready:
                    _take_event(door, doorway)
        self._socket.unbind(_ZAP_ENDPOINT)  # now, and not some time after it was closed
        self._socket.close()
        self._ears.close()
        for door in (*doors, *dict(self._new_doors)):
            door.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """[version, id, domain, address, identity, mechanism, credentials…] -> a reply"""
        version, request_id, domain, address = (request + [b""] * 4)[:4]
        mechanism, credentials = (request + [b""] * 7)[5:7]
        name: str | None = None
        if version == _ZAP_VERSION and mechanism == b"CURVE" and len(request) == 7:
            with self._lock:
                guests = self._guests.get(domain.decode(errors="replace"), {})
                name = guests.get(credentials)
        if name is None:
            self._turn_away(domain, address)
            return [_ZAP_VERSION, request_id, self._refusal, b"this key is not listed", b"", b""]
        return [_ZAP_VERSION, request_id, b"200", b"OK", name.encode(), b""]

    def _turn_away(self, domain: bytes, address: bytes) -> None:
        where = domain.decode(errors="replace")
        with self._lock:
            self._refused[where] += 1
            total = self._refused.total()
        if total <= _MOST_LOGGED:
            logger.warning(
                "%s: refused a connection from %s, its key is not listed",
                where,
                address.decode(errors="replace"),
            )


def _take_event(door: "zmq.Socket[bytes]", doorway: Doorway) -> None:
    event, *_ = door.recv_multipart()
    kind, descriptor = struct.unpack_from("=HI", event)
    if kind == zmq.EVENT_ACCEPTED:
        before = doorway.cut
        doorway.opened(descriptor)
        if before == 0 < doorway.cut:  # once: a flood of strangers must not fill the disk
            logger.warning(
                "%s holds %d connections and no more: the oldest that show no key are cut off",
                doorway.endpoint,
                len(doorway),
            )
    elif kind == zmq.EVENT_DISCONNECTED:
        doorway.closed(descriptor)


def is_private(endpoint: str) -> bool:
    """Whether only this machine can reach an endpoint: ipc, inproc, or tcp over loopback."""
    scheme, _, rest = endpoint.partition("://")
    if scheme in ("ipc", "inproc"):
        return True
    host = rest.rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, an interface or *: who knows where that leads
        return False


def require_secure(endpoint: str, curve: "CurveClient | CurveServer | None") -> None:
    """Refuse a socket that others could reach in clear.

    Raises:
        SetupError: neither private nor protected by CURVE.
    """
    if curve is None and not is_private(endpoint):
        raise SetupError(
            f"{endpoint} can be reached from other machines: it needs CURVE keys "
            "(python -m runtime.keys makes them), or use 127.0.0.1 or ipc"
        )
