"""Order entry: what the engine decided goes to the venue, and what became of it comes back.

    perform -> outbox (budget) -> task: gate -> socket -> answer -> event in the inbox

An answer is a fact (accepted, refused, cancelled) or nobody knows; then the order is UNKNOWN and
the venue is asked by client id until its word settles it (`shell/resolver.py`). Nothing is ever
sent again without proof that it did nothing, except cancels, which may be repeated.

A placement or an amend leaves only through its gate, asked in the last code before the socket:
not withdrawn, of the current epoch, fresh, and the gateway open. A trip raises the epoch.
Cancels pass every gate.
"""

import asyncio
from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, Protocol

import structlog
from asyncio_throttle.throttler import Throttler

from bot.core.fillkeys import FillKey
from bot.core.orders import OrderTable
from bot.domain.decisions import Amend, Cancel, Place, Request
from bot.domain.events import (
    AccountEvent,
    AmendRejected,
    CancelRejected,
    Cleared,
    Filled,
    FillRecovered,
    Obstructed,
    OrderCancelled,
    OrderRejected,
    OutcomeLost,
    OwnEvent,
)
from bot.domain.units import NS_PER_MS
from bot.shell.clock import Clock
from bot.shell.entries import Entries, Entry
from bot.shell.inbox import Inbox
from bot.shell.outbox import Outbox, Tasks
from bot.shell.resolver import Resolver, settled
from bot.shell.wire import CallFailed, Gate
from bot.venues.orderentry import Call, OrderCodec, OrderReport, Refusal, Verdict

STALE_NS: Final = 500 * NS_PER_MS  # a quote older than this is not sent any more
CANCEL_AGAIN_S: Final = 0.25
MUTE_NS: Final = 2_000 * NS_PER_MS  # an accepted order must be on the private stream by then
READS_PER_S: Final = 10
AMEND_NS: Final = 5_000 * NS_PER_MS  # by then the end of a crossing amend was told
TEND_S: Final = 0.25
OWED_NS: Final = 500 * NS_PER_MS  # what a report says has traded must be told by fills until then
LATEST: Final = 64  # orders that a mute stream is noticed by


class Line(Protocol):
    """As much of a `Wire` as order entry needs."""

    def call(self, call: Call, gate: Gate | None = None) -> Coroutine[Any, Any, Any]: ...


class Gateway:
    """One symbol's order entry.

    `orders` is read, never written: events change it. `unheard` is told when the private stream
    does not speak of an order that the venue accepted, `unasked` when the venue took orders
    out by itself, `clock_wrong` when it refused our time, `silence` when it asked for some.
    `told_before` are executions that the journals of earlier runs hold. `throttle` spaces
    ordinary questions. `exclusive`: every order of the symbol on the account is ours.
    """

    def __init__(
        self,
        line: Line,
        codec: OrderCodec,
        orders: OrderTable,
        inbox: Inbox,
        clock: Clock,
        outbox: Outbox,
        tasks: Tasks,
        *,
        unheard: Callable[[str], None],
        unasked: Callable[[str], None],
        clock_wrong: Callable[[], None],
        silence: Callable[[int, bool], None],
        told_before: Container[FillKey] = (),
        throttle: AbstractAsyncContextManager[Any] | None = None,
        exclusive: bool = False,
    ) -> None:
        self._line = line
        self._codec = codec
        self._orders = orders
        self._inbox = inbox
        self._clock = clock
        self._outbox = outbox
        self._tasks = tasks
        self._unheard = unheard
        self._unasked = unasked
        self._clock_wrong = clock_wrong
        self._silence = silence
        self._entries = Entries()
        self._resolver = Resolver(self.ask, codec, orders, clock, self._put)
        self._told_before = told_before
        self._exclusive = exclusive
        self._throttle = throttle or Throttler(rate_limit=READS_PER_S, period=1.0)
        self._log = structlog.get_logger()
        self._epoch = 0
        self._shut = False
        self._owed_since: dict[str, int] = {}
        self.active_at = 0  # the last own activity of any kind, ns
        self.in_flight = 0  # requests about orders without an answer
        self.sent_at = 0  # when a placement or amend last left, ns
        self.sent = 0  # of them, since the beginning

    # --- what the pump wants done -----------------------------------------------------------

    def perform(self, now: int, requests: Sequence[Request]) -> None:
        """Send them, in the order given.

        Placements of one decision go together where that costs no more than each alone. A venue
        may count a short batch as a full one, and a budget spent so makes later quotes wait.
        """
        places: list[Entry] = []
        what: list[Place] = []
        for request in requests:
            match request:
                case Place():
                    entry = Entry(request.order_id, now, self._epoch)
                    self._entries.add(entry)
                    places.append(entry)
                    what.append(request)
                case Amend():
                    self._post_amend(now, request)
                case Cancel():
                    self._post_cancel(now, request.order_id)
        most = self._codec.capabilities.batch_max
        for i in range(0, len(places), most):
            self._post_places(places[i : i + most], what[i : i + most])

    def tripped(self) -> None:
        """Nothing that was decided before may leave any more.

        On an account that nobody else uses one call cancels everything, beside the single
        cancels that the engine decides: whichever arrives first.
        """
        self._epoch += 1
        if self._exclusive:
            call = self._codec.cancel_all()
            self._outbox.post(partial(self._cancel_all, call), call)

    async def _cancel_all(self, call: Call) -> None:
        try:
            await self._send(call, None)
        except CallFailed as failed:
            self._obey(failed.refusal)
            self._log.warning("not_all_cancelled", why=failed.refusal.reason)

    def shut(self) -> None:
        """Nothing but cancels and questions may leave, for good."""
        self._shut = True

    def _may_leave(self, entry: Entry) -> bool:
        fresh = self._clock.now() - entry.decided_at <= STALE_NS
        return not (self._shut or entry.withdrawn) and entry.epoch == self._epoch and fresh

    def _gate(self, entries: Sequence[Entry], *, placement: bool) -> Gate:
        def gate() -> bool:
            if not all(self._may_leave(entry) for entry in entries):
                return False
            self.sent_at = now = self._clock.now()
            for entry in entries:
                entry.touched_at = now
                if placement:
                    entry.sent_at = now
            return True

        return gate

    # --- placements -------------------------------------------------------------------------

    def _post_places(self, entries: Sequence[Entry], places: Sequence[Place]) -> None:
        together = self._codec.place_many(places)
        if together.orders <= len(places):
            self._outbox.post(partial(self._place, entries, together), together)
            return
        for entry, place in zip(entries, places, strict=True):
            call = self._codec.place(place)
            self._outbox.post(partial(self._place, [entry], call), call)

    async def _place(self, entries: Sequence[Entry], call: Call) -> None:
        answers: Sequence[OrderReport | Refusal]
        try:
            body = await self._send(call, self._gate(entries, placement=True))
            answers = self._codec.read_placed(body)
            if len(answers) != len(entries):
                raise ValueError(f"{len(answers)} answers to {len(entries)} placements")
        except CallFailed as failed:
            self._obey(failed.refusal)
            answers = [failed.refusal] * len(entries)
        except ValueError as error:
            self._log.error("unreadable_answer", method=call.method, error=str(error))
            answers = [Refusal(Verdict.UNKNOWN, "unreadable")] * len(entries)
        for entry, answer in zip(entries, answers, strict=True):
            self._placed(entry, answer)
            entry.answered.set()

    def _placed(self, entry: Entry, answer: OrderReport | Refusal) -> None:
        now = self._touch(entry)
        if isinstance(answer, OrderReport):
            if answer.order_id != entry.order_id:
                self._lose(entry, "another order's answer")
                return
            entry.accepted_at = now
            self._learn(entry, answer)
        elif answer.verdict is Verdict.REJECTED:
            self._put(OrderRejected(now, entry.order_id, answer.reason))
        else:
            self._lose(entry, answer.reason)

    # --- amends -------------------------------------------------------------------------------

    def _post_amend(self, now: int, amend: Amend) -> None:
        entry = self._entry(amend.order_id, now)
        entry.decided_at = entry.amended_at = now
        entry.epoch, entry.withdrawn = self._epoch, False
        call = self._codec.amend(amend)
        self._outbox.post(partial(self._amend, entry, call), call)

    async def _amend(self, entry: Entry, call: Call) -> None:
        try:
            body = await self._send(call, self._gate([entry], placement=False))
            report = self._codec.read_order(body)
        except CallFailed as failed:
            self._amend_failed(entry, failed.refusal)
            return
        except ValueError as error:
            self._log.error("unreadable_answer", method=call.method, error=str(error))
            self._lose(entry, "unreadable")
            return
        self._touch(entry)
        self._learn(entry, report, amended=True)

    def _amend_failed(self, entry: Entry, refusal: Refusal) -> None:
        self._obey(refusal)
        now = self._touch(entry)
        ended = refusal.verdict is Verdict.ABSENT or refusal.post_only
        if refusal.verdict is Verdict.REJECTED or ended:
            self._put(AmendRejected(now, entry.order_id, refusal.reason))
        else:
            self._lose(entry, refusal.reason)
        if ended:
            # It was not amended; most likely it traded, or is cancelled because it would have
            # crossed (VENUES 7). The report of that is under way.
            self._ask_about(entry, insist=True, soon=True)

    # --- cancels --------------------------------------------------------------------------------

    def _post_cancel(self, now: int, order_id: str) -> None:
        entry = self._entry(order_id, now)
        entry.withdrawn = entry.cancel_asked = True
        placing = not entry.answered.is_set()
        if placing and not entry.sent_at:
            return  # it has not left, and will not: its task says so
        call = self._codec.cancel(order_id)
        self._outbox.post(partial(self._cancel, entry, call), call)

    async def _cancel(self, entry: Entry, call: Call) -> None:
        """Ask until the venue has an answer; asking twice does no harm."""
        while not self._ended(entry.order_id):
            try:
                body = await self._send(call, None)
                report = self._codec.read_order(body)
            except CallFailed as failed:
                self._obey(failed.refusal)
                self._touch(entry)
                if await self._cancel_failed(entry, failed.refusal):
                    continue
                return
            except ValueError as error:
                self._log.error("unreadable_answer", method=call.method, error=str(error))
                self._lose(entry, "unreadable")
                return
            self._touch(entry)
            self._learn(entry, report)
            return

    async def _cancel_failed(self, entry: Entry, refusal: Refusal) -> bool:
        """What the failure means; True to ask again."""
        if refusal.verdict is Verdict.REJECTED:  # it did nothing: too many, bad clock, not sent
            await asyncio.sleep(max(CANCEL_AGAIN_S, refusal.limited_s))
            return True
        if refusal.verdict is Verdict.ABSENT:
            if not entry.answered.is_set():
                # The cancel overtook its placement: the order may still come to life.
                await entry.answered.wait()
                return True
            self._put(CancelRejected(self._clock.now(), entry.order_id))
            self._ask_about(entry)
            return False
        self._lose(entry, refusal.reason)
        return False

    def cancel_stray(self, order_id: str) -> None:
        """Cancel an order of ours that no engine knows; whoever found it looks again."""
        call = self._codec.cancel(order_id)
        self._outbox.post(partial(self._cancel_stray, order_id, call), call)

    async def _cancel_stray(self, order_id: str, call: Call) -> None:
        try:
            await self._send(call, None)
        except CallFailed as failed:
            self._obey(failed.refusal)
            self._log.warning("stray_not_cancelled", order=order_id, why=failed.refusal.reason)

    # --- what is not known ------------------------------------------------------------------

    def doubt(self, order_id: str) -> None:
        """Ask the venue by client id what has become of an order, whatever we believe."""
        entry = self._entry(order_id, self._clock.now())
        self._put(OutcomeLost(self._clock.now(), order_id, "doubted"))
        self._ask_about(entry, insist=True)

    def pull(self, order_id: str) -> None:
        """Fetch the executions of one order."""
        entry = self._entry(order_id, self._clock.now())
        self._tasks.start(self._resolver.pull(entry), "pull")

    def _lose(self, entry: Entry, why: str) -> None:
        self._put(OutcomeLost(self._clock.now(), entry.order_id, why))
        self._ask_about(entry)

    def _ask_about(self, entry: Entry, *, insist: bool = False, soon: bool = False) -> None:
        if not entry.asking:
            entry.asking = True
            job = self._resolver.resolve(entry, insist=insist, soon=soon)
            self._tasks.start(job, "resolve")

    async def ask(self, call: Call) -> Any:
        """An ordinary question, throttled: its body. Raises CallFailed."""
        async with self._throttle:
            await self._outbox.admitted(call)
            try:
                return await self._line.call(call)
            except CallFailed as failed:
                self._obey(failed.refusal)
                raise

    # --- what the private stream says ---------------------------------------------------------

    def heard(self, message: Mapping[str, Any]) -> bool:
        """Learn one message of the private stream; False when it was the last one.

        Raises ValueError for a message that cannot be read.
        """
        now = self._clock.now()
        news = self._codec.read_stream(message, now)
        for order_id, venue_id in news.venue_ids:
            entry = self._entries.get(order_id)
            if entry is not None:
                entry.venue_id = venue_id
                entry.heard_at = entry.touched_at = now
        for event in news.events:
            self._told(event, now)
        for report in news.foreign:
            self._log.warning("foreign_order", order=report.order_id, status=report.status.value)
        return not news.ended

    def _told(self, event: OwnEvent | AccountEvent, now: int) -> None:
        order_id = getattr(event, "order_id", "")
        entry = self._entries.get(order_id)
        self.active_at = now
        if isinstance(event, OrderCancelled) and entry is not None and unasked(entry, now):
            self._unasked(order_id)
        if isinstance(event, Filled) and not self._orders.knows(order_id):
            event = recovered(event)
        if isinstance(event, FillRecovered):
            # A venue was seen to repeat a fill after forty minutes, and after a restart.
            if (order_id, event.trade_id, event.side) not in self._told_before:
                self._put(event)
        elif not order_id or self._orders.knows(order_id):
            self._put(event)

    # --- a look around ------------------------------------------------------------------------

    async def run(self) -> None:
        """Look every quarter of a second for what should have come and did not."""
        while True:
            await asyncio.sleep(TEND_S)
            self.tend(self._clock.now())

    def tend(self, now: int) -> None:
        """Fetch fills that are owed for OWED_NS; notice a private stream that is mute."""
        owed = self._orders.owed()
        self._owed_since = {order_id: self._owed_since.get(order_id, now) for order_id in owed}
        for order_id, since in self._owed_since.items():
            if now - since >= OWED_NS:
                self._owed_since[order_id] = now
                self.pull(order_id)
        for entry in self._entries.newest(LATEST):
            if entry.accepted_at and not entry.heard_at and now - entry.accepted_at > MUTE_NS:
                entry.heard_at = now  # said once
                self._unheard(entry.order_id)

    def touched_at(self, order_id: str) -> int:
        """When anything was last sent or heard about an order, ns; 0 never."""
        entry = self._entries.get(order_id)
        return 0 if entry is None else entry.touched_at

    # --- inside -----------------------------------------------------------------------------

    async def _send(self, call: Call, gate: Gate | None) -> Any:
        """One request about an order."""
        self.in_flight += 1
        self.sent += 1
        try:
            return await self._line.call(call, gate)
        finally:
            self.in_flight -= 1

    def _learn(self, entry: Entry, report: OrderReport, *, amended: bool = False) -> None:
        """Turn the venue's report of an order into events."""
        entry.venue_id = report.venue_id
        for event in settled(report, self._clock.now(), amended=amended):
            self._put(event)

    def _obey(self, refusal: Refusal) -> None:
        """Draw the consequences of an error for all that follows."""
        now = self._clock.now()
        if refusal.limited_s:
            self._silence(now + round(refusal.limited_s * 1e9), refusal.banned)
        if refusal.clock:
            self._clock_wrong()
        if refusal.auth or refusal.banned:
            self._put(Obstructed(now, "venue", refusal.reason))
            if not refusal.auth:
                self._tasks.start(self._clear_venue(refusal.limited_s), "clear")

    async def _clear_venue(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._put(Cleared(self._clock.now(), "venue"))

    def _entry(self, order_id: str, now: int) -> Entry:
        entry = self._entries.get(order_id)
        if entry is None:
            entry = Entry(order_id, now, self._epoch)
            entry.sent_at = now  # not known to be unsent
            entry.answered.set()
            self._entries.add(entry)
        return entry

    def _ended(self, order_id: str) -> bool:
        return not self._orders.knows(order_id) or not self._orders.find(order_id).working

    def _touch(self, entry: Entry) -> int:
        now = self._clock.now()
        entry.touched_at = self.active_at = now
        return now

    def _put(self, event: OwnEvent | AccountEvent) -> None:
        self._inbox.put_event(event)

    def __repr__(self) -> str:
        return f"<Gateway in_flight={self.in_flight} sent={self.sent} {self._outbox!r}>"


def unasked(entry: Entry, now: int) -> bool:
    """Whether an order was cancelled by a dead-man's switch or a person, and not by us.

    An amend that would have crossed ends its order as cancelled, too (VENUES 7).
    """
    amended = entry.amended_at and now - entry.amended_at < AMEND_NS
    return not (entry.cancel_asked or amended)


def recovered(fill: Filled) -> FillRecovered:
    """A fill of an order that the table has forgotten."""
    return FillRecovered(
        fill.at,
        fill.order_id,
        fill.trade_id,
        fill.side,
        fill.tick,
        fill.lots,
        fill.maker,
        fill.fee,
        fill.fee_currency,
    )
