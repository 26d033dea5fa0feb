"""Public market data of one symbol: sockets held open, snapshots fetched, all of it as raw bytes.

Nothing is decoded here. Every message goes into the inbox with its receive time; what the feed
itself has to say is FeedOpened and FeedLost. Per connection of the endpoints:

    open -> serve -> lost        FeedLost at once, then reopen with back-off
                  -> expiring    a successor opens; both deliver until it is complete, then the
                                 old one closes: no FeedLost, the book drops what comes twice

Waiting is bounded, retries are spaced, and budgets are kept: see `feedlimits`.
"""

import asyncio
from collections import Counter
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from bot.domain.events import FeedLost, FeedOpened
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock
from bot.shell.feedlimits import Allowance, FeedLimits
from bot.shell.inbox import Inbox
from bot.shell.session import RETIRED, Session
from bot.venues.binance.endpoints import Connection, Endpoints, is_snapshot

HELD_UP_TURNS_MAX: Final = 20  # a loop that is late for so long is no excuse any more


class FeedStats(msgspec.Struct, frozen=True):
    """Counts since the beginning; `last_recv` by stream, ns, 0 where it never spoke."""

    connects: int
    drops: dict[str, int]
    refused: dict[str, int]
    rollovers: int
    frames: int
    bytes: int
    last_recv: dict[str, int]
    snapshots: int
    snapshot_failures: dict[str, int]


class _Line:
    """A connection of the endpoints through its sessions: one, or two while one expires."""

    __slots__ = ("bytes", "connection", "failures", "frames", "last", "sessions", "wanting")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.sessions: list[Session] = []  # oldest first
        self.failures = 0  # in a row
        self.wanting = asyncio.Event()  # look whether a session is missing
        self.wanting.set()
        self.frames = 0
        self.bytes = 0
        self.last = [0] * len(connection.streams)

    def lacks(self, now: int) -> bool:
        """Whether a session is to be opened."""
        if not self.sessions:
            return True
        return len(self.sessions) == 1 and now >= self.sessions[0].expires_at

    def forget(self, session: Session) -> None:
        """Take an ended session out, keeping its counts."""
        self.sessions.remove(session)
        self.frames += session.frames
        self.bytes += session.bytes
        self.last = [max(pair) for pair in zip(self.last, session.last, strict=True)]


class Feed:
    """Delivers one symbol's market data into an inbox for as long as `run` runs.

    Raises ValueError if `limits` would break the venue's.
    """

    def __init__(
        self, endpoints: Endpoints, inbox: Inbox, clock: Clock, limits: FeedLimits
    ) -> None:
        limits.check(endpoints)
        self._endpoints = endpoints
        self._inbox = inbox
        self._clock = clock
        self._limits = limits
        self._lines = [_Line(connection) for connection in endpoints.connections]
        self._attempts = Allowance(limits.attempts_max, limits.attempts_window_ms * NS_PER_MS)
        self._weights = Allowance(limits.snapshot_weight_per_min_max, 60 * NS_PER_S)
        self._wanted = asyncio.Event()  # a snapshot
        self._connects = 0
        self._rollovers = 0
        self._drops: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._snapshots = 0
        self._snapshot_failures: Counter[str] = Counter()

    async def run(self) -> None:
        """Deliver until cancelled; no socket and no task is left then."""
        # Identity encoding: a body cannot grow behind its length. No proxy and no cookie.
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._limits.snapshot_timeout_ms / 1_000),
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        async with session as http, asyncio.TaskGroup() as group:
            group.create_task(self._fetch_snapshots(http))
            for line in self._lines:
                group.create_task(self._keep(line))

    def request_snapshot(self) -> None:
        """Ask for the book's snapshot; it arrives as a frame. Idempotent while one is under way."""
        self._wanted.set()

    def stats(self) -> FeedStats:
        """Counters, for eyes."""
        lines, last_recv = self._lines, {}
        for line in lines:
            for i, stream in enumerate(line.connection.streams):
                last_recv[stream.name] = max(
                    [line.last[i], *(session.last[i] for session in line.sessions)]
                )
        return FeedStats(
            connects=self._connects,
            drops=dict(self._drops),
            refused=dict(self._refused),
            rollovers=self._rollovers,
            frames=sum(line.frames + sum(s.frames for s in line.sessions) for line in lines),
            bytes=sum(line.bytes + sum(s.bytes for s in line.sessions) for line in lines),
            last_recv=last_recv,
            snapshots=self._snapshots,
            snapshot_failures=dict(self._snapshot_failures),
        )

    # --- connections --------------------------------------------------------------------

    async def _keep(self, line: _Line) -> None:
        """Hold a session open for ever, and a successor while it expires."""
        try:
            async with asyncio.TaskGroup() as serving:
                while True:
                    await line.wanting.wait()
                    line.wanting.clear()
                    if line.lacks(self._clock.now()):
                        session = await self._open(line)
                        line.sessions.append(session)
                        serving.create_task(self._serve(line, session))
        finally:
            for session in line.sessions:  # a task cancelled before its first step closes nothing
                session.ws.transport.abort()

    async def _open(self, line: _Line) -> Session:
        limits, pause = self._limits, 0
        while True:
            wait = max(pause, limits.backoff_ns(line.failures, self._clock.jitter()))
            await self._spend(self._attempts, 1, self._clock.now() + wait)
            pause = 0
            try:
                ws = await connect(
                    line.connection.url,
                    compression=None,
                    proxy=None,
                    ping_interval=None,
                    open_timeout=limits.open_timeout_ms / 1_000,
                    close_timeout=limits.close_timeout_ms / 1_000,
                    max_size=limits.frame_bytes_max,
                    max_queue=limits.queue_frames_max,
                )
            except InvalidStatus as refusal:
                status = refusal.response.status_code
                self._refused[f"status {status}"] += 1
                named = refusal.response.headers.get_all("Retry-After")  # `get` raises on two
                pause = limits.pause_ns(status, named[0] if named else "")
            except TimeoutError:
                self._refused["timeout"] += 1
            except (OSError, WebSocketException):
                self._refused["unreachable"] += 1
            except AssertionError:
                # websockets 17 asserts where bytes come before the answer to its handshake.
                self._refused["garbled"] += 1
            else:
                self._connects += 1
                age = limits.age_ms_max - int(self._clock.jitter() * limits.age_jitter_ms)
                now = self._clock.now()
                return Session(ws, line.connection, limits, now, age * NS_PER_MS)
            line.failures += 1

    async def _serve(self, line: _Line, session: Session) -> None:
        """Deliver a session's messages until it ends, and say so if that leaves a hole."""
        name = line.connection.name
        reader = asyncio.create_task(self._read(session))
        try:
            if len(line.sessions) == 1:
                self._inbox.put_event(FeedOpened(session.opened_at, name))
            cause = await self._watch(line, session, reader)
            reader.cancel()  # nothing of this session comes after its FeedLost
            now = self._clock.now()
            line.forget(session)
            self._drops[cause] += 1
            lived = now - session.opened_at
            line.failures = 0 if lived >= self._limits.stable_ms * NS_PER_MS else line.failures + 1
            covered = any(other.proven for other in line.sessions)
            if cause != RETIRED and not covered:
                self._inbox.put_event(FeedLost(now, cause, name))
                if line.sessions:
                    self._inbox.put_event(FeedOpened(now, name))
            line.wanting.set()
            if cause == RETIRED:
                await session.ws.close()
        finally:
            reader.cancel()
            session.ws.transport.abort()
            await asyncio.wait({reader})
            await session.ws.wait_closed()

    async def _read(self, session: Session) -> None:
        recv, take = session.ws.recv, session.take
        put, now = self._inbox.put_frame, self._clock.now
        try:
            while True:
                raw = await recv(decode=False)
                at = now()
                take(at, raw)
                put(at, raw)
        except ConnectionClosed:
            return  # `Session.ending` knows why

    async def _watch(self, line: _Line, session: Session, reader: asyncio.Task[None]) -> str:
        """Why the session ends."""
        watch_s = self._limits.watch_ms / 1_000
        held_up = 0  # turns in a row
        while True:
            before = self._clock.now()
            await asyncio.wait({reader}, timeout=watch_s)
            if reader.done():
                reader.result()
            now = self._clock.now()
            if session.retired:
                return RETIRED
            if cause := session.ending():
                return cause
            # If the loop itself was held up, the silence may be ours: let it read first.
            late = now - before > 3 * self._limits.watch_ms * NS_PER_MS
            held_up = held_up + 1 if late else 0
            if 0 < held_up <= HELD_UP_TURNS_MAX:
                continue
            if cause := session.fault(now):
                return cause
            await session.ping(now)
            self._roll(line, session, now)

    def _roll(self, line: _Line, session: Session, now: int) -> None:
        """Ask for a successor, or take over as one."""
        if session is not line.sessions[-1]:
            return
        if len(line.sessions) == 1:
            if now >= session.expires_at:
                line.wanting.set()
            return
        overlapped = now - session.opened_at >= self._limits.overlap_ms * NS_PER_MS
        if session.complete or (overlapped and session.proven):
            for older in line.sessions[:-1]:
                self._rollovers += not older.retired
                older.retired = True

    # --- snapshots ----------------------------------------------------------------------

    async def _fetch_snapshots(self, http: aiohttp.ClientSession) -> None:
        """Answer each request with one snapshot, however many attempts that takes."""
        weight = self._endpoints.snapshot_weight
        not_before = failures = 0
        while True:
            await self._wanted.wait()
            started = await self._spend(self._weights, weight, not_before)
            pause = await self._fetch_snapshot(http)
            failures = 0 if pause is None else failures + 1
            wait = max(
                self._limits.snapshot_spacing_ms * NS_PER_MS,
                self._limits.backoff_ns(failures, self._clock.jitter()),
            )
            not_before = max(started + wait, self._clock.now() + (pause or 0))

    async def _fetch_snapshot(self, http: aiohttp.ClientSession) -> int | None:
        """None if a snapshot went into the inbox, else the pause that the venue asks for, ns."""
        failure, pause = "", 0
        try:
            async with http.get(self._endpoints.snapshot_url, allow_redirects=False) as answer:
                if answer.status != HTTPStatus.OK:
                    failure = f"status {answer.status}"
                    pause = self._limits.pause_ns(
                        answer.status, answer.headers.get("Retry-After", "")
                    )
                else:
                    body = await self._read_body(answer)
                    failure = "" if is_snapshot(body) else "garbage"
        except TimeoutError:
            failure = "timeout"
        except (aiohttp.ClientError, OSError):
            failure = "unreachable"
        if failure:
            self._snapshot_failures[failure] += 1
            return pause
        self._snapshots += 1
        self._wanted.clear()
        # One line, as captures are made of lines.
        self._inbox.put_frame(self._clock.now(), body.replace(b"\r", b"").replace(b"\n", b""))
        return None

    async def _read_body(self, answer: aiohttp.ClientResponse) -> bytes:
        """The body; empty beyond `snapshot_bytes_max`."""
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > self._limits.snapshot_bytes_max:
                return b""
        return bytes(body)

    async def _spend(self, allowance: Allowance, amount: int, not_before: int) -> int:
        """Wait until `not_before` and until the allowance has room, take it: the time then."""
        now = self._clock.now()
        while (wait := max(not_before - now, allowance.wait_ns(now, amount))) > 0:
            await asyncio.sleep(wait / NS_PER_S)
            now = self._clock.now()
        allowance.spend(now, amount)
        return now

    def __repr__(self) -> str:
        sessions = ", ".join(f"{line.connection.name} {line.sessions}" for line in self._lines)
        return f"<Feed {self._endpoints.symbol}: {sessions}>"
