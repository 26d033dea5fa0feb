"""The last notable events of a run, one line each: eyes beside the pump, read-only."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from bot.domain.decisions import Decision, Rearm, Resync, Trip
from bot.domain.events import (
    AmendRejected,
    Cleared,
    Event,
    FeedEvent,
    FeedLost,
    FeedOpened,
    Filled,
    FillRecovered,
    Funded,
    LimitsTightened,
    Obstructed,
    OrderExpired,
    OrderRejected,
    OutcomeLost,
    PositionAdopted,
    QuotingStopped,
    Rearmed,
)
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.ops.terminal_screen import Notable, Tone
from bot.ops.terminal_text import decimals, exact

EVENTS_MAX: Final = 200


class EventTicker:
    """A ring of `limit` events, oldest first.

    The same event again (a venue that rejects every order) counts up instead of pushing
    everything else out. The engine is taken and never looked at.
    """

    __slots__ = ("_instrument", "_ring")

    def __init__(self, instrument: Instrument, limit: int = EVENTS_MAX) -> None:
        if limit < 1:
            raise ValueError(f"a ticker needs room for one event, got {limit}")
        self._instrument = instrument
        self._ring: deque[Notable] = deque(maxlen=limit)

    @property
    def events(self) -> tuple[Notable, ...]:
        """What is remembered, oldest first."""
        return tuple(self._ring)

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so."""
        if trusted:
            self._add(now, "book", "trusted", "good")
        else:
            self._add(now, "book", "not trusted", "wary")

    def fed(self, event: FeedEvent) -> None:
        """A market-data connection opened, or was lost."""
        if isinstance(event, FeedOpened):
            self._add(event.at, "feed", f"opened {event.connection}", "good")
        else:
            self._add(event.at, "feed", f"lost {event.connection}: {event.cause}", "wary")

    def learned(self, event: Event | FeedEvent, engine: object) -> None:
        """An event other than a market frame was applied."""
        match event:
            case FeedOpened() | FeedLost():
                self.fed(event)
            case QuotingStopped():
                self._add(event.at, "stop", event.reason, "wary")
            case LimitsTightened():
                self._add(event.at, "config", "risk limits tightened", "wary")
            case Filled() | FillRecovered():
                self._add(event.at, "fill", self._fill(event), "plain")
            case OrderExpired():
                self._add(event.at, "expired", event.reason, "wary")
            case AmendRejected():
                self._add(event.at, "rejected", f"amend: {event.reason}", "bad")
            case PositionAdopted():
                lots = self._instrument.quantity(event.lots)
                text = f"the venue's position counts: {lots} ({event.reason})"
                self._add(event.at, "position", text, "wary")
            case Funded():
                self._add(event.at, "funding", f"{event.amount:+f}", "plain")
            case Obstructed():
                text = f"{event.what}: {event.detail}" if event.detail else event.what
                self._add(event.at, "obstacle", text, "bad")
            case Cleared():
                self._add(event.at, "cleared", event.what, "good")
            case OrderRejected():
                self._add(event.at, "rejected", event.reason, "bad")
            case OutcomeLost():
                self._add(event.at, "unknown", f"no answer about {event.order_id}", "bad")
            case Rearmed():
                self._add(event.at, "operator", f"clears the halt: {event.reason}", "wary")
            case _:
                pass  # opened and cancelled orders are no news

    def decided(self, now: int, decisions: Sequence[Decision], engine: object) -> None:
        """Decisions were made; placing and cancelling is no news."""
        for decision in decisions:
            match decision:
                case Trip():
                    evidence = " ".join(f"{k}={v:.6g}" for k, v in decision.evidence.items())
                    text = f"{decision.level} {decision.cause}  {evidence}".rstrip()
                    self._add(now, "trip", text, "bad")
                case Rearm():
                    text = f"after {decision.cause} at {100.0 * decision.size:.0f} % size"
                    self._add(now, "rearm", text, "good")
                case Resync():
                    self._add(now, "resync", f"new book asked for: {decision.reason}", "wary")
                case _:
                    pass

    def _fill(self, event: Filled | FillRecovered) -> str:
        instrument = self._instrument
        verb = "bought" if event.side is Side.BUY else "sold"
        quantity = exact(instrument.quantity(event.lots), decimals(instrument.lot))
        price = exact(instrument.price(event.tick), decimals(instrument.tick))
        role = "maker" if event.maker else "TAKER"
        late = "  recovered" if isinstance(event, FillRecovered) else ""
        return f"{verb:<6} {quantity} at {price}  {role}{late}"

    def _add(self, at: int, kind: str, text: str, tone: Tone) -> None:
        last = self._ring[-1] if self._ring else None
        if last is not None and (last.kind, last.text) == (kind, text) and kind != "fill":
            self._ring[-1] = replace(last, at=at, times=last.times + 1)
        else:
            self._ring.append(Notable(at, kind, text, tone))

    def __repr__(self) -> str:
        return f"<EventTicker {len(self._ring)} events, {self.events[-1:]}>"
