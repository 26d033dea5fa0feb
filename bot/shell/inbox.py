"""What the pump waits on: market frames and events of one consumer, in arrival order.

Market frames may be dropped, because a book can be built anew, but never silently: the
frames that found no room are replaced by one FeedLost. Events are never dropped.
"""

import asyncio
from collections import deque
from typing import Final

import msgspec

from bot.domain.events import Event, FeedEvent, FeedLost
from bot.domain.units import NS_PER_S
from bot.shell.clock import Clock

OVERFLOW: Final = "overflow"


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One market message as it came off the wire; `recv` is our time, ns."""

    recv: int
    raw: bytes


Item = Frame | Event | FeedEvent


class InboxFull(RuntimeError):
    """Events pile up and nobody takes them: the bot no longer knows its own orders."""


class Inbox:
    """A bounded queue with one consumer, on one event loop.

    Holds at most `frames_max` frames of `bytes_max` bytes together, and `events_max` events.
    After an overflow every frame is dropped until the consumer has taken the FeedLost that
    stands for them: what follows it is a fresh beginning and no remnant.
    """

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_clock",
        "_events",
        "_events_max",
        "_frames",
        "_frames_max",
        "_items",
        "_marker",
        "_waiter",
        "dropped",
        "overflows",
    )

    def __init__(
        self, clock: Clock, *, frames_max: int, bytes_max: int, events_max: int = 65_536
    ) -> None:
        assert min(frames_max, bytes_max, events_max) > 0
        self._clock = clock
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._events_max = events_max
        self._items: deque[Item] = deque()
        self._frames = 0
        self._bytes = 0
        self._events = 0
        self._marker: FeedLost | None = None  # of an overflow, while it waits to be taken
        self._waiter: asyncio.Future[None] | None = None
        self.dropped = 0  # frames, since the beginning
        self.overflows = 0

    def put_frame(self, recv: int, raw: bytes) -> None:
        """Add a market frame, or drop it and mark the loss."""
        if self._marker is not None:
            self.dropped += 1
            return
        if self._frames >= self._frames_max or self._bytes + len(raw) > self._bytes_max:
            self.dropped += 1
            self.overflows += 1
            self._marker = FeedLost(recv, OVERFLOW)
            self._items.append(self._marker)
        else:
            self._frames += 1
            self._bytes += len(raw)
            self._items.append(Frame(recv, raw))
        self.wake()

    def put_event(self, event: Event | FeedEvent) -> None:
        """Add an event. Raises InboxFull beyond `events_max`."""
        if self._events >= self._events_max:
            raise InboxFull(f"{self._events} events wait in the inbox")
        self._events += 1
        self._items.append(event)
        self.wake()

    async def wait(self, until: int | None) -> None:
        """Return when something is here, or at `until` (ns since the epoch); None waits on.

        The event loop gets its turn even if something is here already: sockets are read
        before the consumer decides, and a busy consumer starves nobody.
        """
        if self._items or (until is not None and until <= self._clock.now()):
            await asyncio.sleep(0)
            return
        assert self._waiter is None, "an inbox has one consumer"
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        alarm = None
        if until is not None:
            delay_s = (until - self._clock.now()) / NS_PER_S
            alarm = loop.call_later(max(0.0, delay_s), self.wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if alarm is not None:
                alarm.cancel()

    def drain(self, limit: int) -> list[Item]:
        """Take up to `limit` items, oldest first."""
        items = self._items
        taken = [items.popleft() for _ in range(min(limit, len(items)))]
        for item in taken:
            if isinstance(item, Frame):
                self._frames -= 1
                self._bytes -= len(item.raw)
            elif item is self._marker:
                self._marker = None
            else:
                self._events -= 1
        return taken

    def wake(self) -> None:
        """End the wait under way, if there is one, though nothing came."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        full = " overflown" if self._marker is not None else ""
        return f"<Inbox frames={self._frames} bytes={self._bytes} events={self._events}{full}>"
