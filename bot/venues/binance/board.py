"""What subscribed streams show next: depth gathered per speed, best prices, statistics.

Sans-I/O. Level changes come in one by one; `due` yields the messages of the moment. Each
depth stream is a chain of its own that begins where it was first asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bot.domain.units import NS_PER_MS, Side
from bot.venues.binance.publictext import PublicText, Shown
from bot.venues.binance.streams import Stream
from bot.venues.binance.tally import Tally


class Change(Protocol):
    """One level's new quantity in lots."""

    @property
    def side(self) -> Side: ...
    @property
    def tick(self) -> int: ...
    @property
    def lots(self) -> int: ...


class Channel:
    """One stream and its time; a depth stream also gathers changes."""

    def __init__(self, stream: Stream, now: int) -> None:
        self.stream = stream
        self.every = stream.every * NS_PER_MS
        self.at = now + self.every
        self.sent_id = -1  # last id of the message before
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def take_turn(self, now: int) -> bool:
        """Whether its time has come; the turn is then taken, and the next one keeps the beat."""
        if now < self.at:
            return False
        if self.every:
            self.at += (now - self.at) // self.every * self.every + self.every
        return True

    def __repr__(self) -> str:
        return f"<Channel {self.stream.name} after u={self.sent_id}>"


class Board:
    """The streams of one symbol that somebody receives.

    Times are virtual ns; `wall_ms` is the wall clock, which messages state.
    """

    def __init__(self, text: PublicText) -> None:
        self._text = text
        self._channels: dict[str, Channel] = {}
        self._kinds: dict[str, list[Stream]] = {}
        self._depths: list[Channel] = []
        self._last_id = -1  # of the last change learned
        self._touch: tuple[object, object] | None = None

    def plan(self, streams: Sequence[Stream], now: int) -> None:
        """Show these from now on; those shown before go on as they were."""
        before = self._channels
        self._channels = {s.name: before.get(s.name) or Channel(s, now) for s in streams}
        self._depths = [
            channel for channel in self._channels.values() if channel.stream.kind == "depth"
        ]
        self._kinds = {}
        for stream in streams:
            self._kinds.setdefault(stream.kind, []).append(stream)

    def of_kind(self, kind: str) -> Sequence[Stream]:
        """The streams of a kind."""
        return self._kinds.get(kind, ())

    def change(self, update_id: int, change: Change) -> None:
        """Learn one change of a level."""
        atoms = change.lots * self._text.lot_atoms
        for channel in self._depths:
            if channel.sent_id < 0:
                channel.sent_id = update_id - 1
            levels = channel.bids if change.side == Side.BUY else channel.asks
            levels[change.tick] = atoms
        self._last_id = update_id

    def due(
        self, now: int, wall_ms: int, tally: Tally, shown: Callable[[int], Shown]
    ) -> Iterator[tuple[Stream, bytes]]:
        """Messages of the moment: best prices first, then what has its time."""
        text = self._text
        if "bookTicker" in self._kinds:
            book = shown(1)
            touch = (list(book.bids), list(book.asks))
            if touch != self._touch:
                self._touch = touch
                raw = text.book_ticker(wall_ms, wall_ms, book)
                for stream in self._kinds["bookTicker"]:
                    yield stream, raw
        for channel in self._channels.values():
            stream = channel.stream
            if stream.kind in ("bookTicker", "trade", "aggTrade") or not channel.take_turn(now):
                continue
            message = self._message(channel, wall_ms, tally, shown)
            if message is not None:
                yield stream, message

    def _message(
        self, channel: Channel, wall_ms: int, tally: Tally, shown: Callable[[int], Shown]
    ) -> bytes | None:
        text, stream = self._text, channel.stream
        match stream.kind:
            case "depth":
                return self._depth(channel, wall_ms)
            case "partial":
                book = shown(stream.levels)
                before, channel.sent_id = channel.sent_id, book.last_id
                if book.last_id == before:
                    return None
                first = book.last_id if before < 0 else before + 1
                return text.partial(wall_ms, wall_ms, first, max(before, 0), book)
            case "ticker":
                return text.day(wall_ms, tally, shown(1))
            case "miniTicker":
                return text.mini_day(wall_ms, tally)
            case _:
                last = tally.last_candle(stream.interval)
                return None if last is None else text.candle(wall_ms, stream.interval, *last)

    def _depth(self, channel: Channel, wall_ms: int) -> bytes | None:
        if not channel.bids and not channel.asks:
            return None
        changed = Shown(
            self._last_id,
            sorted(channel.bids.items(), reverse=True),
            sorted(channel.asks.items()),
        )
        first, before = channel.sent_id + 1, channel.sent_id
        channel.sent_id = self._last_id
        channel.bids, channel.asks = {}, {}
        return self._text.depth_update(wall_ms, wall_ms, first, before, changed)

    def __repr__(self) -> str:
        return f"<Board u={self._last_id} {list(self._channels)}>"
