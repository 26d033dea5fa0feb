"""One open socket: when its streams last spoke, and whether it is to be believed.

A session is to be dropped when it ends, when it is silent (unless it carries nothing but trades,
which may rest), when one stream stands still while others move, and when a pong is late. Pongs
travel behind the data, so while messages still come a pong has more time: reopening in the middle
of a burst would lose what the burst delivers. Whether data that does arrive is old is for the
breakers to judge, which know the exchange's clock.
"""

import asyncio
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from bot.domain.units import NS_PER_MS
from bot.shell.feedlimits import FeedLimits
from bot.venues.binance.endpoints import Connection, announces_shutdown, stream_of

# Why a connection ended.
CUT: Final = "cut"  # without a close frame
CLOSED: Final = "closed"  # the venue said goodbye
OVERSIZE: Final = "oversize"  # a message beyond `frame_bytes_max`
GARBLED: Final = "garbled"  # not WebSocket
SILENT: Final = "silent"
FROZEN: Final = "frozen"
HALF_OPEN: Final = "half_open"
RETIRED: Final = "retired"  # no loss: its successor has taken over

MESSAGE_TOO_BIG: Final = 1009


class Session:
    """One open socket, from `now` for at most `age`; all times are ns.

    `last` says by stream, in the connection's order, when it spoke, 0 where it never did;
    `newest` is the time of any message, and `now` before the first.
    """

    __slots__ = (
        "_frozen_ns",
        "_index",
        "_limits",
        "_moved",
        "_pinged_at",
        "_pong",
        "_steady",
        "bytes",
        "expires_at",
        "frames",
        "last",
        "newest",
        "opened_at",
        "retired",
        "ws",
    )

    def __init__(
        self, ws: ClientConnection, connection: Connection, limits: FeedLimits, now: int, age: int
    ) -> None:
        streams = connection.streams
        self.ws = ws
        self.opened_at = now
        self.expires_at = now + age
        self.retired = False
        self.frames = 0
        self.bytes = 0
        self.newest = now
        self.last = [0] * len(streams)
        self._limits = limits
        self._index = {stream.name.encode(): i for i, stream in enumerate(streams)}
        self._steady = [stream.kind != "trade" for stream in streams]
        self._frozen_ns = [limits.frozen_ns(stream.kind) for stream in streams]
        self._moved = [0] * len(streams)  # when others first went on without this stream
        self._pinged_at = now
        self._pong: asyncio.Future[float] | None = None

    def take(self, at: int, raw: bytes) -> None:
        """Note a message; a stream of ours was alive at `at`."""
        self.frames += 1
        self.bytes += len(raw)
        self.newest = at
        i = self._index.get(stream_of(raw))
        if i is not None:
            self.last[i] = at
        elif announces_shutdown(raw):
            self.expires_at = at

    @property
    def complete(self) -> bool:
        """Whether every stream spoke."""
        return all(self.last)

    @property
    def proven(self) -> bool:
        """Whether every stream spoke that may not rest: enough to take over."""
        return all(at for at, steady in zip(self.last, self._steady, strict=True) if steady)

    def fault(self, now: int) -> str:
        """Why the session must not be believed any longer; empty if it may."""
        limits = self._limits
        if any(self._steady) and now - self.newest >= limits.silence_ms * NS_PER_MS:
            return SILENT
        for i, limit in enumerate(self._frozen_ns):
            own = max(self.last[i], self.opened_at)
            if self._moved[i] <= own:
                others = max((at for j, at in enumerate(self.last) if j != i), default=0)
                behind = others > own + limits.frozen_lag_ms * NS_PER_MS
                self._moved[i] = others if behind else 0
            if limit and self._moved[i] and now - self._moved[i] >= limit:
                return FROZEN
        if self._pong is not None and not self._pong.done():
            quiet = now - max(self._pinged_at, self.newest) >= limits.pong_ms * NS_PER_MS
            if quiet or now - self._pinged_at >= limits.pong_behind_ms * NS_PER_MS:
                return HALF_OPEN
        return ""

    async def ping(self, now: int) -> None:
        """Send a ping if one is due; `fault` looks for its pong."""
        waiting = self._pong is not None and not self._pong.done()
        if waiting or now - self._pinged_at < self._limits.ping_interval_ms * NS_PER_MS:
            return
        self._pinged_at = now
        try:
            async with asyncio.timeout(self._limits.pong_ms / 1_000):
                self._pong = asyncio.ensure_future(await self.ws.ping())
        except (TimeoutError, ConnectionClosed):
            # Unsent for so long, or closed: either way no pong will come.
            self._pong = asyncio.get_running_loop().create_future()

    def ending(self) -> str:
        """Why the socket is closed or closing; empty while it is open."""
        protocol = self.ws.protocol
        if protocol.state is State.OPEN:
            return ""
        if protocol.close_rcvd is not None:
            return CLOSED
        if protocol.close_sent is None:
            return CUT
        return OVERSIZE if protocol.close_sent.code == MESSAGE_TOO_BIG else GARBLED

    def __repr__(self) -> str:
        return f"<Session frames={self.frames} {self.ending() or 'open'}>"
