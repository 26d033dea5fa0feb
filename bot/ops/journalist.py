"""A run's news as log lines: what happened to orders, money, trust and the feed."""

from collections.abc import Sequence
from typing import Any

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


def _fee(event: Filled | FillRecovered) -> dict[str, object]:
    """What the venue charged, where it said so."""
    if event.fee is None:
        return {}
    return {"fee": event.fee, "fee_currency": event.fee_currency}


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
            case Filled() | FillRecovered():
                self._log.info(
                    "filled" if isinstance(event, Filled) else "fill_recovered",
                    at_ns=event.at,
                    order=event.order_id,
                    side=event.side.name,
                    price=self._instrument.price(event.tick),
                    quantity=self._instrument.quantity(event.lots),
                    maker=event.maker,
                    **_fee(event),
                )
            case OrderRejected():
                self._log.warning("order_rejected", order=event.order_id, reason=event.reason)
            case OrderExpired():
                self._log.warning("order_expired", order=event.order_id, reason=event.reason)
            case AmendRejected():
                self._log.warning("amend_rejected", order=event.order_id, reason=event.reason)
            case PositionAdopted() | Funded() | Obstructed() | Cleared():
                self._account(event)
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

    def _account(self, event: PositionAdopted | Funded | Obstructed | Cleared) -> None:
        match event:
            case PositionAdopted():
                position = self._instrument.quantity(event.lots)
                self._log.warning("position_adopted", position=position, reason=event.reason)
            case Funded():
                self._log.info("funded", amount=event.amount)
            case Obstructed():
                self._log.error("obstructed", what=event.what, detail=event.detail)
            case Cleared():
                self._log.info("cleared", what=event.what)

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
