"""What became of an order that nobody answered for: ask by client id until the venue says.

Only the venue's word settles an order. That it knows no such order counts once nothing sent can
still arrive (the request's validity has passed, and so has the lag of the venue's own reads), and
then twice. Silence, errors and timeouts count for nothing.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Final

from bot.core.orders import OrderTable
from bot.domain.events import (
    ABSENT,
    AccountEvent,
    Amended,
    CancelRejected,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OwnEvent,
)
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock
from bot.shell.entries import Entry
from bot.shell.statements import told
from bot.shell.wire import Ask, CallFailed
from bot.venues.orderentry import OrderCodec, OrderReport, Status, Verdict

ASK_AFTER_S: Final = (0.25, 0.5, 1.0, 2.0)
SOON_S: Final = 0.05
ASK_EVERY_S: Final = 4.0
ABSENT_READS: Final = 2
LAG_NS: Final = NS_PER_S  # how far a venue's reads may lag behind its matching


def settled(report: OrderReport, at: int, *, amended: bool) -> list[OwnEvent]:
    """What a report of the venue says about an order, as events. Fills come apart from it.

    A filled order is told as open with all of it traded: the fills themselves end it.
    """
    order_id, traded = report.order_id, report.cumulative_lots
    match report.status:
        case Status.OPEN | Status.FILLED if amended:
            return [Amended(at, order_id, report.tick, report.lots, traded)]
        case Status.OPEN | Status.FILLED:
            return [OrderOpened(at, order_id, traded)]
        case Status.CANCELLED:
            return [OrderCancelled(at, order_id, traded)]
        case Status.EXPIRED:
            return [OrderExpired(at, order_id, "by the venue", traded)]
        case Status.REJECTED:
            return [OrderRejected(at, order_id, "by the venue")]


class Resolver:
    """Asks about single orders; `put` takes the events."""

    __slots__ = ("_ask", "_clock", "_codec", "_orders", "_put")

    def __init__(
        self,
        ask: Ask,
        codec: OrderCodec,
        orders: OrderTable,
        clock: Clock,
        put: Callable[[OwnEvent | AccountEvent], None],
    ) -> None:
        self._ask = ask
        self._codec = codec
        self._orders = orders
        self._clock = clock
        self._put = put

    async def resolve(self, entry: Entry, *, insist: bool, soon: bool = False) -> None:
        """Ask until the venue's word about the order has come, from here or from the stream.

        `insist` goes on even where we believe to know: an order that should rest was not seen.
        `soon`: the venue has just said something about it, its own report is all but here.
        """
        try:
            await self._resolve(entry, insist, soon)
        finally:
            entry.asking = False

    async def _resolve(self, entry: Entry, insist: bool, soon: bool) -> None:
        absent = 0
        for n, delay in enumerate(delays(soon=soon)):
            await asyncio.sleep(delay)
            if (n or soon) and not self._open_question(entry.order_id, insist):
                return
            try:
                report = self._codec.read_order(await self._ask(self._codec.order(entry.order_id)))
            except ValueError:
                continue
            except CallFailed as failed:
                absence = failed.refusal.verdict is Verdict.ABSENT
                if absence and self._past_validity(entry.sent_at):
                    absent += 1
                    if absent == ABSENT_READS and self._absent(entry):
                        return
                continue
            if await self._settle(entry, report):
                return

    def _open_question(self, order_id: str, insist: bool) -> bool:
        if not self._orders.knows(order_id):
            return False
        order = self._orders.find(order_id)
        return order.working if insist else order.working and not order.resting

    def _past_validity(self, sent_at: int) -> bool:
        window = self._codec.capabilities.recv_window_ms * NS_PER_MS
        return self._clock.now() > sent_at + window + LAG_NS

    def _absent(self, entry: Entry) -> bool:
        """The venue knows no such order; True when that settles it."""
        now = self._clock.now()
        if not (entry.accepted_at or entry.heard_at):
            self._put(OrderRejected(now, entry.order_id, ABSENT))
            return True
        # It rested once, by the venue's own word: one of the two is wrong. It stays unknown.
        self._put(CancelRejected(now, entry.order_id))
        return False

    async def _settle(self, entry: Entry, report: OrderReport) -> bool:
        """Tell what the venue says; True when that settles it.

        An order that still rests where it was may yet be amended while the amend is valid.
        """
        entry.venue_id = report.venue_id
        if not entry.accepted_at:
            entry.accepted_at = self._clock.now()
        if report.cumulative_lots:
            await self.pull(entry)
        if not self._orders.knows(entry.order_id):
            return True  # it ended long ago, and its fills are told
        order = self._orders.find(entry.order_id)
        as_before = (report.tick, report.lots) == (order.tick, order.lots)
        rests = report.status is Status.OPEN
        if order.amending and rests and as_before and not self._past_validity(entry.decided_at):
            return False
        # Where an amend is open, what the order is now must be said, even if it is as before.
        amended = order.amending or not as_before
        for event in settled(report, self._clock.now(), amended=amended):
            self._put(event)
        return True

    async def pull(self, entry: Entry) -> None:
        """Fetch the executions of an order; those already known are told again, and ignored.

        Where the venue does not answer, what is owed stays owed, and is asked for again.
        """
        try:
            if not entry.venue_id:
                body = await self._ask(self._codec.order(entry.order_id))
                entry.venue_id = self._codec.read_order(body).venue_id
            body = await self._ask(self._codec.executions_of(entry.venue_id))
            executions = self._codec.read_executions(body)
        except (CallFailed, ValueError):
            return
        now = self._clock.now()
        for one in executions:
            self._put(told(one, entry.order_id, now, known=True))


def delays(*, soon: bool) -> Iterator[float]:
    """Seconds before each question, without end."""
    return chain((SOON_S,) if soon else (), ASK_AFTER_S, repeat(ASK_EVERY_S))
