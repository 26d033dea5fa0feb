"""A recorded capture as a venue: the same frames, byte for byte, over the same sockets.

The pace is the capture's times `speed` and begins with the first subscription. The
capture's own REST snapshot answers a GET depth that waits for it, and not before the
client has read every frame that lies in front of it; a later GET is answered from a book
that the playback keeps.

A capture holds depth at one speed, and a client may ask for another: whoever subscribes to
a depth stream that was not recorded gets the recorded one, at its own pace, under the name
that was asked for. Only the envelope's name differs then from what was received.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.journal.capture import CaptureError, chunks
from bot.market.book import Book
from bot.shell.venueserver import PULSES, opened, respond
from bot.shell.venuesockets import Motion, VenueSockets
from bot.venues.binance.endpoints import ENVELOPE
from bot.venues.binance.marketdata import MarketData
from bot.venues.binance.publicapi import PublicApi
from bot.venues.binance.publictext import PublicText, Shown
from bot.venues.binance.reply import Refused
from bot.venues.binance.streams import Session, stream_of
from bot.venues.binance.tally import Tally
from bot.venues.binance.text import nanoseconds

CHUNK_BYTES: Final = 256 * 2**10  # read between two looks at the sockets
NAP_S: Final = 0.005  # the longest time without looking after connections
BATCH_MAX: Final = 256  # frames sent without letting clients have a turn
UNREADABLE_MAX: Final = 10  # depth frames in front of the first that can be read
SETTLE_S: Final = 1.0  # a client that has not read by then gets its snapshot anyway

_DATA: Final = b'","data":'
_SNAPSHOT: Final = b'{"lastUpdateId"'
# The smallest book: `_warm` calls the kernels with it.
_SMALLEST: Final = b'{"lastUpdateId":1,"bids":[["1","1"]],"asks":[["2","1"]]}\n'


class Playback:
    """Captures as one market on one port; an async context manager.

    With `lockstep` nothing is sent by itself: every `step` sends the next line. `clock` is
    the wall clock in ns. `finished` is set behind the last line; sockets stay open and silent.
    Raises ValueError for a venue without a public protocol here; a capture that cannot be
    read further, or whose depth is another market's, ends the playing with the `CaptureError`
    that `wait`, `close` and `step` raise.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        instrument: Instrument,
        clock: Callable[[], int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        lockstep: bool = False,
    ) -> None:
        assert speed > 0
        self.instrument = instrument
        self.finished = asyncio.Event()
        self.lines = 0  # played so far
        self.skipped = 0  # frames without a stream's name, which nobody can be subscribed to
        self._clock = clock
        self._speed = speed
        self._lockstep = lockstep
        self._text = PublicText(instrument)
        self._api = PublicApi(self._text, Tally(clock() // NS_PER_MS), self._shown)
        self._data = MarketData(instrument)
        self._book = Book()
        self._depths: dict[str, None] = {}  # streams of depth played so far
        self._source = ", ".join(map(str, paths))
        self._rest = _lines(paths)
        self._waiting: list[asyncio.Future[bytes]] = []  # GET depth; b"" means the kept book
        self._answering = 0
        self._answered = asyncio.Event()
        self._motion = Motion()
        self.sockets = VenueSockets(
            session_of=self._session_of,
            respond=self._respond,
            pulse=PULSES[instrument.venue],
            clock=clock,
            host=host,
            port=port,
        )

    @property
    def port(self) -> int:
        """The port that is listened to."""
        return self.sockets.port

    @property
    def waiting(self) -> int:
        """How many GET depth requests wait for the capture's snapshot."""
        return len(self._waiting)

    async def start(self) -> None:
        """Listen, and play as soon as somebody subscribes.

        Raises CaptureError when not even the beginning can be read, OSError without the port.
        """
        first = next(self._rest)
        self._rest = chain([first], self._rest)
        _warm(self.instrument)
        await self.sockets.start()
        if not self._lockstep:
            self._motion.begin(self._play())

    async def close(self) -> None:
        """Stop and close every socket. Raises what ended the playing too early."""
        error = await self._motion.end()
        self._release(b"")
        await self.sockets.close()
        if error is not None:
            raise error

    async def wait(self) -> None:
        """Return once the playback was closed; raises what ended the playing too early."""
        await self._motion.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def step(self) -> bytes | None:
        """Play exactly the next line and return it; None behind the last one."""
        assert self._lockstep
        line = next(self._rest, None)
        if line is None:
            self._end()
            return None
        await self._show(line)
        return line

    async def _play(self) -> None:
        try:
            while not self.sockets.subscribed.is_set():
                await self._nap(NAP_S)
            began, first = self._clock(), None
            for line in self._rest:
                recv = received(line)
                first = recv if first is None else first
                due = began + round((recv - first) / self._speed)
                while (wait := due - self._clock()) > 0:
                    await self._nap(min(wait / NS_PER_S, NAP_S))
                await self._show(line)
                if self.lines % BATCH_MAX == 0:
                    await self._nap(0)
        finally:
            self._end()
        while True:
            await self._nap(NAP_S)

    async def _nap(self, seconds: float) -> None:
        self.sockets.tend(self._clock())
        await asyncio.sleep(seconds)

    def _end(self) -> None:
        self.finished.set()
        self._release(b"")

    async def _show(self, line: bytes) -> None:
        """Play one line: into the kept book, and to whom it belongs."""
        frame = line[line.index(b" ") + 1 :]
        self.lines += 1
        stream, raw = parts(frame)
        snapshot = frame.startswith(_SNAPSHOT)
        if snapshot or b"@depth" in stream:
            self._learn(line)
        if snapshot:
            await self._hand_out(frame)
        elif stream:
            self._publish(stream.decode(), raw, frame)
            if self._waiting and self._data.sync.synced:
                self._release(b"")
        else:
            self.skipped += 1

    def _publish(self, stream: str, raw: bytes, frame: bytes) -> None:
        """Send a frame; the first recorded depth also stands in for speeds not recorded."""
        self.sockets.publish(stream, raw, frame)
        if not self._is_depth(stream):
            return
        self._depths[stream] = None
        if stream != next(iter(self._depths)):
            return
        for name in self.sockets.streams():
            if name not in self._depths and self._is_depth(name):
                self.sockets.publish(name, raw)

    def _is_depth(self, name: str) -> bool:
        """Whether a stream says what changed in the whole book, at whatever speed."""
        stream = stream_of(self.instrument, name)
        return stream is not None and stream.kind == "depth"

    def _learn(self, line: bytes) -> None:
        for tape in self._data.read(line + b"\n"):
            for i in range(tape.n):
                self._book.learn(tape.rows, i, tape.ticks, tape.qtys)
        self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        """Raises CaptureError once it is clear that the depth is not the instrument's."""
        counts = self._data.counts()
        unreadable = counts["unreadable_depth"] if counts["depth_updates"] == 0 else 0
        if counts["other_dialect"] or unreadable >= UNREADABLE_MAX:
            own = f"{self.instrument.venue} {self.instrument.symbol}"
            raise CaptureError(f"{self._source} holds depth frames of another market than {own}")

    async def _hand_out(self, frame: bytes) -> None:
        """Answer those who wait for a snapshot, behind all that was sent before it."""
        if not self._waiting:
            return
        await self.sockets.settled(SETTLE_S)
        self._answered.clear()
        self._answering = len(self._waiting)
        self._release(frame)
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._answered.wait()
        except TimeoutError:
            pass  # a client went away without its answer

    def _release(self, snapshot: bytes) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():  # its client may have gone
                one.set_result(snapshot)

    def _shown(self, limit: int) -> Shown:
        """The kept book's best levels."""
        one = 10**self._text.qty_decimals
        bids = sorted(self._book.levels(Side.BUY).items(), reverse=True)[:limit]
        asks = sorted(self._book.levels(Side.SELL).items())[:limit]
        return Shown(
            self._book.read().book_id,
            [(tick, round(qty * one)) for tick, qty in bids],
            [(tick, round(qty * one)) for tick, qty in asks],
        )

    def _session_of(self, path: str, query: Mapping[str, str]) -> Session | None:
        return opened(self.instrument.venue, path, query)

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        now = self._clock() // NS_PER_MS
        if not self._asks_depth(request) or self._data.sync.synced:
            return respond(self._api, request, now)
        if self.finished.is_set():
            return unavailable()
        mine: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        snapshot = await mine
        if not snapshot:
            synced = self._data.sync.synced
            return respond(self._api, request, now) if synced else unavailable()
        response = web.Response(body=snapshot, content_type="application/json")
        try:
            # Written here and not by aiohttp, to know when playing may go on.
            await response.prepare(request)
            await response.write_eof()
        finally:
            self._answering -= 1
            if self._answering == 0:
                self._answered.set()
        return response

    def _asks_depth(self, request: web.Request) -> bool:
        if request.method != "GET" or not request.path.endswith("/depth"):
            return False
        try:
            self._api.depth_limit(request.query)
        except Refused:
            return False
        return True

    def __repr__(self) -> str:
        return f"<Playback lines={self.lines} {self._data!r} {self.sockets!r}>"


def received(line: bytes) -> int:
    """A line's receive time in ns."""
    return int(nanoseconds(int(line[: line.index(b" ")])))


def parts(frame: bytes) -> tuple[bytes, bytes]:
    """A combined frame's stream name and bare message; empty for any other frame."""
    if not frame.startswith(ENVELOPE):
        return b"", b""
    end = frame.find(_DATA)
    return (b"", b"") if end < 0 else (frame[len(ENVELOPE) : end], frame[end + len(_DATA) : -1])


def unavailable() -> web.Response:
    """There is no book, and none will come."""
    body = b'{"code":-1001,"msg":"Internal error; unable to process your request."}'
    return web.Response(status=503, body=body, content_type="application/json")


def _warm(instrument: Instrument) -> None:
    """Compile or load the kernels while nobody is connected yet."""
    book = Book()
    for tape in MarketData(instrument).read(b"1 %b" % _SMALLEST):
        book.learn(tape.rows, 0, tape.ticks, tape.qtys)


def _lines(paths: Sequence[Path]) -> Iterator[bytes]:
    for chunk in chunks(paths, CHUNK_BYTES):
        yield from chunk.split(b"\n")[:-1]
