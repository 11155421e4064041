"""The HTTP server behind /metrics: a thread for each request, and never many of them.

    connection -> one too many, or too slow? cut off : registry -> text, or a check -> 200 or 503

Anybody who reaches the port can connect and say nothing. Each such connection costs a thread and a
descriptor of the node, so both their number and their time are bounded. Where they are too many the
oldest goes: a scraper is done within milliseconds, one that idles is what is old.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, exposition

from runtime.host.health import Check

Application = Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]
"""As in PEP 3333."""

MOST_REQUESTS = 16
"""Requests under way at once before the oldest is cut off."""
LONGEST_S = 10.0
"""Seconds for a whole request and its answer, Prometheus's own patience with a scrape."""


class MetricsServer:
    """Serves one registry until closed."""

    def __init__(
        self,
        port: int,
        address: str,
        registry: CollectorRegistry,
        *,
        longest_s: float = LONGEST_S,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        """Start serving on a thread of its own; port 0 takes any free one, see `port`.

        Args:
            checks: what answers on paths of their own (runtime/host/health.py).

        Raises:
            OSError: the port is taken, or the address is not one of this host.
        """
        family, *_, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]

        class Server(_Server):
            address_family = family

        self._server = Server((str(where[0]), port), longest_s)
        metrics: Application = cast("Any", exposition).make_wsgi_app(registry)  # untyped
        self._server.set_app(_with_checks(metrics, checks or {}))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def num_requests(self) -> int:
        """Requests under way."""
        return self._server.num_requests

    def close(self) -> None:
        # Its thread looks up twice a second only; a socket that ends here wakes it (Linux).
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _with_checks(metrics: Application, checks: Mapping[str, Check]) -> Application:
    """Ask the check of that path, if there is one; every other path is /metrics."""

    def answer(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            return metrics(environ, start)
        wrong = check()
        status = "503 Service Unavailable" if wrong else "200 OK"
        start(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{wrong or 'ok'}\n".encode()]

    return answer


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a scrape every few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024  # what waits there costs us nothing

    def __init__(self, address: tuple[str, int], longest_s: float) -> None:
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._since_s: dict[socket.socket, float] = {}
        """Requests under way, oldest first; those that were cut stay until their thread ends."""
        self._cut: set[socket.socket] = set()
        super().__init__(address, _Handler)

    @property
    def num_requests(self) -> int:
        with self._lock:
            return len(self._since_s)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            waiting = [other for other in self._since_s if other not in self._cut]
            is_full = len(self._since_s) >= 2 * MOST_REQUESTS
            if not is_full:
                self._since_s[request] = time.monotonic()
            if len(waiting) >= MOST_REQUESTS:
                self._cut_off(waiting[0])
        if is_full:  # threads that were cut off have not come to an end yet
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Called after every request and twice a second."""
        with self._lock:
            before_s = time.monotonic() - self._longest_s
            for request, since_s in self._since_s.items():
                if since_s < before_s:
                    self._cut_off(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._since_s.pop(request, None)
            self._cut.discard(request)
            super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for request in self._since_s:
                self._cut_off(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that break off; the standard one prints a traceback."""

    def _cut_off(self, request: socket.socket) -> None:
        """End the connection; the thread that reads from it or writes to it notices and closes."""
        self._cut.add(request)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)
