"""The sockets of a pretended venue: REST and web sockets on one port, and their faults.

What is said is decided elsewhere: `session_of` opens a session for a web socket path,
`respond` answers every other request, `publish` carries a stream's message to whoever
subscribed to it. A client that does not read is cut off; it neither delays the others nor
lets memory grow.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import WSMessage, WSMsgType, web

from bot.domain.units import NS_PER_MS, NS_PER_S

QUEUED_MAX: Final = 20_000  # messages waiting for one client
QUEUED_BYTES_MAX: Final = 16 * 2**20
DELAYED_MAX: Final = 200_000  # messages held back or ageing; the oldest fall out
CLIENTS_MAX: Final = 512
INBOUND_BYTES_MAX: Final = 64 * 2**10
CLOSE_S: Final = 0.5  # how long a client may take to answer a close frame
GOING_AWAY: Final = 1001  # close codes of RFC 6455 7.4.1
POLICY_VIOLATION: Final = 1008


class Session(Protocol):
    """What one connection is subscribed to; obeys its control messages."""

    combined: bool
    streams: dict[str, None]

    def carries(self, name: str) -> bool:
        """Whether messages of a subscribed stream reach this connection."""
        ...

    def receive(self, text: str | bytes) -> bytes:
        """Obey one control message; returns the reply."""
        ...


class Pulse(NamedTuple):
    """How a venue keeps connections alive, ns, and how many messages a second it takes."""

    ping_every: int
    pong_within: int
    inbound_per_s: int


class SocketStats(NamedTuple):
    """Counts since the start, and what there is now."""

    clients: int
    subscriptions: int
    connections: int
    sent: int
    lost: int  # muted away, or fallen out of the delay
    cut: int  # too slow, too talkative, or without a pong
    queued_most: int


class Message(NamedTuple):
    """One message of a stream in both forms; `due` is when it leaves."""

    due: int
    stream: str
    raw: bytes
    combined: bytes


class Client:
    """One web socket with its own bounded queue and the task that empties it."""

    def __init__(self, ws: web.WebSocketResponse, request: web.Request, session: Session) -> None:
        self.session = session
        self.queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self.closing = False
        self.sent = 0
        self.pong_due: int | None = None
        self.inbound: deque[int] = deque()
        self._ws = ws
        self._request = request
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pong = asyncio.Event()

    def put(self, text: bytes) -> None:
        """Queue one text message; the caller watches the queue's size."""
        self.queue.append(text)
        self.queued_bytes += len(text)
        self._idle.clear()
        self._wake.set()

    async def write(self) -> None:
        """Send what is queued until the connection ends."""
        try:
            while True:
                while self.queue:
                    text = self.queue.popleft()
                    self.queued_bytes -= len(text)
                    await self._ws.send_frame(text, WSMsgType.TEXT)
                    self.sent += 1
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
        except ConnectionResetError:
            self._idle.set()

    async def ping(self) -> None:
        """Send a protocol ping."""
        self._pong.clear()
        try:
            await self._ws.ping()
        except ConnectionResetError:
            self.abort()

    async def pong(self, data: bytes) -> None:
        """Answer a client's ping."""
        try:
            await self._ws.pong(data)
        except ConnectionResetError:
            self.abort()

    def ponged(self) -> None:
        """The client answered a ping."""
        self.pong_due = None
        self._pong.set()

    async def settled(self, within_s: float) -> None:
        """Wait until the client has read everything queued before, for at most `within_s`.

        A pong comes after the client took in all that was sent before the ping.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
                await self.ping()
                await self._pong.wait()
        except TimeoutError:
            pass

    def abort(self) -> None:
        """Drop the connection without a word."""
        self.closing = True
        self._idle.set()
        self._pong.set()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self, code: int) -> None:
        """Say goodbye, wait a moment for the answer, drop."""
        self.closing = True
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._ws.close(code=code)
        except TimeoutError:
            pass
        self.abort()


class Motion:
    """The task that moves a market while its sockets are open."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def begin(self, job: Coroutine[Any, Any, None]) -> None:
        """Run `job` until it ends, or until `end`."""
        self._task = asyncio.create_task(job)

    async def end(self) -> Exception | None:
        """Stop it, if it was begun; what broke it, which its caller raises once all is closed."""
        task, self._task = self._task, None
        if task is None:
            return None
        task.cancel()
        await asyncio.wait([task])
        return broken(task)

    async def wait(self) -> None:
        """Return once it has ended; raises what broke it."""
        if (task := self._task) is not None:
            await asyncio.wait([task])
            if error := broken(task):
                raise error


def broken(task: asyncio.Task[None]) -> Exception | None:
    """What broke an ended task; None for a cancelled one."""
    error = None if task.cancelled() else task.exception()
    assert error is None or isinstance(error, Exception)
    return error


class VenueSockets:
    """One port on `host`. `clock` is the wall clock in ns.

    `admit`, if there is one, may answer a request for a web socket itself instead of None.
    The owner calls `tend` every few milliseconds: it releases delayed messages and pings.
    """

    def __init__(
        self,
        *,
        session_of: Callable[[str, Mapping[str, str]], Session | None],
        respond: Callable[[web.Request], Awaitable[web.StreamResponse]],
        pulse: Pulse,
        clock: Callable[[], int],
        host: str,
        port: int,
        queued_max: int = QUEUED_MAX,
        admit: Callable[[web.Request], Awaitable[web.Response | None]] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.changed = 0  # grows when subscriptions change
        self.subscribed = asyncio.Event()  # set at the first subscription
        self._session_of = session_of
        self._respond = respond
        self._pulse = pulse
        self._clock = clock
        self._queued_max = queued_max
        self._admit = admit
        self._runner: web.AppRunner | None = None
        self._clients: dict[int, Client] = {}
        self._streams: dict[str, dict[int, Client]] = {}
        self._delayed: deque[Message] = deque()
        self._pinging: set[asyncio.Task[None]] = set()
        self._ping_at = 0
        self._muted_until = 0
        self._held_until = 0
        self._age = 0  # ns by which the newest message is late
        self._age_step = 0  # ns that each message adds to it
        self._refusing = False
        self._connections = self._sent = self._lost = self._cut = self._queued_most = 0

    async def start(self) -> None:
        """Listen; `port` is then the real one. Raises OSError when it cannot be had."""
        assert self._runner is None
        app = web.Application(client_max_size=INBOUND_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._request)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_S)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError:
            await self.close()
            raise
        self.port = int(runner.addresses[0][1])
        self._ping_at = self._clock() + self._pulse.ping_every

    async def close(self) -> None:
        """Close every connection and the port; nothing is left behind."""
        self._refusing = True
        clients = list(self._clients.values())
        await asyncio.gather(*(client.close(GOING_AWAY) for client in clients))
        await asyncio.gather(*self._pinging, return_exceptions=True)
        self._delayed.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def streams(self) -> list[str]:
        """Names that somebody receives."""
        return list(self._streams)

    def wants(self, stream: str) -> bool:
        """Whether anybody receives this stream."""
        return stream in self._streams

    def publish(self, stream: str, raw: bytes, combined: bytes | None = None) -> None:
        """Send a stream's message to its subscribers; `combined` is built where not given."""
        now = self._clock()
        if combined is None:
            combined = b'{"stream":"%b","data":%b}' % (stream.encode(), raw)
        self._age += self._age_step
        due = max(now + self._age, self._held_until)
        if not self._delayed and due <= now:
            self._send(Message(now, stream, raw, combined), now)
            return
        if self._delayed:
            due = max(due, self._delayed[-1].due)
        if len(self._delayed) == DELAYED_MAX:
            self._delayed.popleft()
            self._lost += 1
        self._delayed.append(Message(due, stream, raw, combined))

    def _send(self, message: Message, now: int) -> None:
        receivers = self._streams.get(message.stream)
        if not receivers:
            return
        if now < self._muted_until:
            self._lost += len(receivers)
            return
        for client in list(receivers.values()):
            self._put(client, message.combined if client.session.combined else message.raw)

    def _put(self, client: Client, text: bytes) -> None:
        if client.closing:
            return
        if len(client.queue) >= self._queued_max or client.queued_bytes >= QUEUED_BYTES_MAX:
            self._cut += 1
            client.abort()
            return
        client.put(text)
        self._queued_most = max(self._queued_most, len(client.queue))

    def tend(self, now: int) -> None:
        """Release what is due, ping who is to be pinged, drop who did not answer."""
        while self._delayed and self._delayed[0].due <= now:
            self._send(self._delayed.popleft(), now)
        if now < self._ping_at:
            return
        self._ping_at = now + self._pulse.ping_every
        for client in list(self._clients.values()):
            if client.pong_due is not None and client.pong_due <= now:
                self._cut += 1
                client.abort()
            elif now >= self._muted_until and not client.closing:
                client.pong_due = client.pong_due or now + self._pulse.pong_within
                task = asyncio.create_task(client.ping())
                self._pinging.add(task)
                task.add_done_callback(self._pinging.discard)

    async def settled(self, within_s: float) -> None:
        """Wait until every client has read what was sent, each for at most `within_s`."""
        clients = [client for client in self._clients.values() if not client.closing]
        await asyncio.gather(*(client.settled(within_s) for client in clients))

    def stats(self) -> SocketStats:
        """Counts for eyes and tests."""
        clients = self._clients.values()
        return SocketStats(
            len(self._clients),
            sum(map(len, self._streams.values())),
            self._connections,
            self._sent + sum(client.sent for client in clients),
            self._lost,
            self._cut,
            self._queued_most,
        )

    # --- Faults ----------------------------------------------------------------------------

    def cut(self, which: Callable[[Session], bool] | None = None) -> None:
        """Drop web sockets (every one, or those of some sessions) without a close frame."""
        for client in list(self._clients.values()):
            if which is None or which(client.session):
                client.abort()

    def mute(self, seconds: float) -> None:
        """Stay connected and say nothing, not even a pong; what would be said is lost."""
        self._muted_until = self._clock() + round(seconds * NS_PER_S)

    def unmute(self) -> None:
        """End `mute`."""
        self._muted_until = 0

    def age(self, ms_per_message: float) -> None:
        """Delay each stream message by so much more than the one before; 0 heals at once."""
        self._age_step = round(ms_per_message * NS_PER_MS)
        if self._age_step == 0:
            self._age = 0
            self._delayed = deque(m._replace(due=0) for m in self._delayed)

    def hold(self, seconds: float) -> None:
        """Keep stream messages back, then send all of them at once, in order."""
        self._held_until = self._clock() + round(seconds * NS_PER_S)

    def refuse(self, refusing: bool) -> None:
        """Answer every request and new connection with 503."""
        self._refusing = refusing

    # --- Connections -----------------------------------------------------------------------

    async def _request(self, request: web.Request) -> web.StreamResponse:
        if self._refusing:
            return web.Response(status=503, text="Service Unavailable")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await self._respond(request)
        if self._admit is not None and (refusal := await self._admit(request)) is not None:
            return refusal
        session = self._session_of(request.path, request.query)
        if session is None or len(self._clients) >= CLIENTS_MAX:
            return web.Response(status=404 if session is None else 503)
        ws = web.WebSocketResponse(
            timeout=CLOSE_S, autoping=False, compress=False, max_msg_size=INBOUND_BYTES_MAX
        )
        await ws.prepare(request)
        self._connections += 1
        client = Client(ws, request, session)
        key = self._connections
        self._clients[key] = client
        writer = asyncio.create_task(client.write())
        try:
            self._index(key, client, {})
            while await self._obey(key, client, await ws.receive()):
                pass
        finally:
            client.closing = True
            self._forget(key, client)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self._sent += client.sent
        return ws

    async def _obey(self, key: int, client: Client, message: WSMessage) -> bool:
        """Act on what a client sent; False when the connection is over."""
        if client.closing or message.type not in (
            WSMsgType.TEXT,
            WSMsgType.BINARY,
            WSMsgType.PING,
            WSMsgType.PONG,
        ):
            return False
        now = self._clock()
        client.inbound.append(now)
        while client.inbound[0] <= now - NS_PER_S:
            client.inbound.popleft()
        if len(client.inbound) > self._pulse.inbound_per_s:
            self._cut += 1
            await client.close(POLICY_VIOLATION)
            return False
        muted = now < self._muted_until
        if message.type == WSMsgType.PONG:
            client.ponged()
        elif message.type == WSMsgType.PING:
            if not muted:
                await client.pong(message.data)
        else:
            before = client.session.streams
            reply = client.session.receive(message.data)
            if not muted:
                self._put(client, reply)
            self._index(key, client, before)
        return True

    def _index(self, key: int, client: Client, before: dict[str, None]) -> None:
        """Bring the index of streams up to a session that had `before`."""
        after = client.session.streams
        for name in before:
            if name not in after:
                self._leave(key, name)
        for name in after:
            if name not in before and client.session.carries(name):
                self._streams.setdefault(name, {})[key] = client
        if before != after:
            self.changed += 1
        if after:
            self.subscribed.set()

    def _leave(self, key: int, name: str) -> None:
        receivers = self._streams.get(name, {})
        receivers.pop(key, None)
        if not receivers:
            self._streams.pop(name, None)

    def _forget(self, key: int, client: Client) -> None:
        del self._clients[key]
        for name in client.session.streams:
            self._leave(key, name)
        self.changed += 1

    def __repr__(self) -> str:
        return f"<VenueSockets {self.host}:{self.port} {self.stats()}>"
