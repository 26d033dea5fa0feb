"""The health pages: /healthz, /readyz and /metrics, on loopback only and read-only.

There is no token yet, so nothing but loopback is ever bound, and a request whose Host is
another name is refused: a page of a stranger's site may point its own name at 127.0.0.1.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import msgspec
from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from bot.domain.view import QUOTING, View

LOCALHOST: Final = "localhost"
LOCALHOST_ADDRESS: Final = "127.0.0.1"  # one address; the name may stand for two
PORT_MAX: Final = 65_535
CONNECTIONS_MAX: Final = 64
KEEP_ALIVE_S: Final = 15.0  # an idle connection is closed after it
STOP_S_MAX: Final = 1.0  # for answers under way

HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "X-Content-Type-Options": "nosniff",
}


class WebError(Exception):
    """The pages cannot be served; one sentence says why."""


class Readiness(msgspec.Struct, frozen=True):
    """Whether quoting is allowed: it is when no reason speaks against it."""

    level: str
    causes: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Quoting is allowed."""
        return not self.reasons


def readiness(view: View | None, others: Sequence[str] = ()) -> Readiness:
    """Whether an engine that looks like `view` may quote; None is one that is not built yet.

    `others` are reasons that the engine does not know: a feed that is not connected, a
    disk that is full.
    """
    if view is None:
        return Readiness("", (), ("starting", *others))
    reasons = []
    if view.level not in QUOTING:
        causes = ", ".join(view.causes) or "no cause named"
        reasons.append(f"level {view.level}: {causes}")
    if not view.trusted:
        reasons.append(f"book not trusted: {view.distrust}")
    reasons += [f"obstacle: {what}" for what in view.obstacles]
    return Readiness(view.level, view.causes, (*reasons, *others))


class Web:
    """A server of three pages. Its callables are asked once a request, on the event loop.

    `health` adds to what /healthz says, `ready` judges, `exposition` gives the metrics and
    their content type.
    """

    def __init__(
        self,
        *,
        health: Callable[[], Mapping[str, object]],
        ready: Callable[[], Readiness],
        exposition: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._health = health
        self._ready = ready
        self._exposition = exposition
        self._pages: dict[str, Callable[[], web.Response]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
        }
        self._runner: web.ServerRunner | None = None
        self._address = ""

    async def start(self, host: str, port: int) -> int:
        """Serve at `host`, any loopback address; returns the port, a free one for port 0.

        Raises ValueError for an address that is not loopback or a port that is none, and
        `WebError` when the address cannot be had.
        """
        bound = await self.serve(listen(host, port))
        self._address = f"{host}:{bound}"
        return bound

    async def serve(self, listener: socket.socket) -> int:
        """Serve on a socket made by `listen`, which `stop` closes; returns its port."""
        assert self._runner is None, "already started"
        server = _Server(
            self._respond,
            request_factory=_request,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
        )
        runner = web.ServerRunner(server, shutdown_timeout=STOP_S_MAX)
        await runner.setup()
        await web.SockSite(runner, listener, backlog=CONNECTIONS_MAX).start()
        self._runner = runner
        host, bound = listener.getsockname()[:2]
        self._address = f"{host}:{bound}"
        return int(bound)

    async def stop(self) -> None:
        """Close every connection and the port; does nothing the second time."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) != 1 or not _names_loopback(hosts[0]):
            return _error(HTTPStatus.FORBIDDEN, "the Host of the request is no loopback name")
        page = self._pages.get(request.path)
        if page is None:
            return _error(HTTPStatus.NOT_FOUND, f"there are only {', '.join(self._pages)}")
        if request.method != hdrs.METH_GET:
            refusal = _error(HTTPStatus.METHOD_NOT_ALLOWED, "pages are for reading: use GET")
            refusal.headers[hdrs.ALLOW] = hdrs.METH_GET
            return refusal
        return page()

    def _healthz(self) -> web.Response:
        return _json(HTTPStatus.OK, {"status": "alive", **self._health()})

    def _readyz(self) -> web.Response:
        judged = self._ready()
        status = HTTPStatus.OK if judged.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _json(status, {"ready": judged.ready, **msgspec.structs.asdict(judged)})

    def _metrics(self) -> web.Response:
        body, content_type = self._exposition()
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    def __repr__(self) -> str:
        return f"<Web at {self._address}>" if self._runner is not None else "<Web stopped>"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `host`, any loopback address; port 0 takes a free one.

    Raises ValueError for an address that is not loopback or a port that is none, and
    `WebError` when the address cannot be had.
    """
    address = loopback_address(host)
    if not 0 <= port <= PORT_MAX:
        raise ValueError(f"port {port} is not between 0 and {PORT_MAX}")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=CONNECTIONS_MAX)
    except OSError as error:
        raise WebError(why_not(host, port, error)) from error


def why_not(host: str, port: int, error: OSError) -> str:
    """One sentence for an address that cannot be bound."""
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is taken by another program: choose another port"
    return f"{host}:{port} cannot be served: {error.strerror}"


def loopback_address(host: str) -> str:
    """The address to bind for `host`. Raises ValueError unless it is loopback."""
    if host.lower() == LOCALHOST:
        return LOCALHOST_ADDRESS
    address = _parsed(host)
    if address is None or not _is_loopback(address):
        raise ValueError(
            f"{host!r} is not a loopback address: the health pages have no token,"
            " use 127.0.0.1, ::1 or localhost"
        )
    return str(address)


def _parsed(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_loopback(address: IPv4Address | IPv6Address) -> bool:
    # An IPv4 address in IPv6 clothes is loopback or not by the version of Python: refused.
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    return address.is_loopback and not mapped


def _names_loopback(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine's loopback."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return False
        port = port[1:]
    else:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    if name.lower() == LOCALHOST:
        return True
    address = _parsed(name)
    return address is not None and _is_loopback(address)


class _Server(web.Server):
    """Cuts off connections beyond `CONNECTIONS_MAX`: idle ones would use up descriptors."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > CONNECTIONS_MAX:
            # Soon, not now: the connection's own task starts first, and ends in order.
            asyncio.get_running_loop().call_soon(transport.abort)


class _Request(web.BaseRequest):
    """Has the last word on headers, also of the answer to what was no request at all."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.pop(hdrs.SERVER, None)  # which program answers is nobody's business
        response.headers.update(HEADERS)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> _Request:
    return _Request(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _error(status: HTTPStatus, text: str) -> web.Response:
    return _json(status, {"error": text})


def _json(status: HTTPStatus, content: Mapping[str, Any]) -> web.Response:
    body = msgspec.json.encode(content, enc_hook=str)
    return web.Response(status=status, body=body, content_type="application/json")
