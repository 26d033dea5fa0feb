"""A run's news as log lines: what happened to orders, money, trust and the feed."""

from collections.abc import Sequence
from typing import Any

from bot.domain.decisions import Decision, Rearm, Resync, Trip
from bot.domain.events import (
    Event,
    FeedEvent,
    FeedLost,
    FeedOpened,
    Filled,
    LimitsTightened,
    OrderRejected,
    OutcomeLost,
    QuotingStopped,
    Rearmed,
)
from bot.domain.instrument import Instrument


class Journalist:
    """Writes one line for each thing that a person may want to know next morning.

    Placing and cancelling is the journal's business and is logged at debug level only.
    """

    __slots__ = ("_instrument", "_log")

    def __init__(self, log: Any, instrument: Instrument) -> None:
        self._log = log
        self._instrument = instrument

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so."""
        if trusted:
            self._log.info("book_trusted", at_ns=now)
        else:
            self._log.warning("book_distrusted", at_ns=now)

    def learned(self, event: Event | FeedEvent, engine: object = None) -> None:
        """An event other than a market frame was applied."""
        match event:
            case Filled():
                self._log.info(
                    "filled",
                    at_ns=event.at,
                    order=event.order_id,
                    side=event.side.name,
                    price=self._instrument.price(event.tick),
                    quantity=self._instrument.quantity(event.lots),
                    maker=event.maker,
                )
            case OrderRejected():
                self._log.warning("order_rejected", order=event.order_id, reason=event.reason)
            case OutcomeLost():
                self._log.error("outcome_lost", order=event.order_id)
            case FeedOpened():
                self._log.info("feed_opened", connection=event.connection)
            case FeedLost():
                self._log.warning("feed_lost", connection=event.connection, cause=event.cause)
            case QuotingStopped():
                self._log.info("quoting_stopped", reason=event.reason)
            case LimitsTightened():
                self._log.warning("limits_tightened")
            case Rearmed():
                self._log.warning("operator_rearmed", reason=event.reason)
            case _:
                self._log.debug(type(event).__name__, order=event.order_id)

    def decided(self, now: int, decisions: Sequence[Decision], engine: object = None) -> None:
        """A decision was made."""
        for decision in decisions:
            match decision:
                case Trip():
                    self._log.error(
                        "tripped",
                        at_ns=now,
                        severity=decision.level,
                        cause=decision.cause,
                        **{f"evidence_{name}": value for name, value in decision.evidence.items()},
                    )
                case Rearm():
                    self._log.warning("rearmed", cause=decision.cause, size=decision.size)
                case Resync():
                    self._log.warning("resync", reason=decision.reason)
                case _:
                    self._log.debug(type(decision).__name__, order=decision.order_id)

    def __repr__(self) -> str:
        return f"<Journalist of {self._instrument.symbol}>"
