"""The preflight of real orders: everything that can be asked without changing anything.

First this machine, then the venue without the key, then with it. A question that fails is a
finding; where nothing more can be learned after it, the asking ends.
"""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from bot.domain.instrument import Fees, Instrument
from bot.domain.units import NS_PER_MS
from bot.modes import judgement, premises
from bot.modes.preflight import Examination, Finding, Level, VenueUnreachable
from bot.modes.settings import Loaded
from bot.modes.terms import adjusted
from bot.shell.clock import Clock
from bot.shell.wire import CallFailed, NotSent
from bot.venues.binance.refusals import key_fault
from bot.venues.orderentry import Call, Holdings, OrderCodec, OrderReport

SAMPLES: Final = 3
TRIES: Final = 2
NO_SUCH_SYMBOL: Final = -1121
BUSY: Final = ("internal", "no_answer", "overload")

T = TypeVar("T")


class Line(Protocol):
    """As much of a `Wire` as an examination needs."""

    async def call(self, call: Call) -> Any: ...
    def set_offset(self, ms: int) -> None: ...


async def examine(
    loaded: Loaded,
    wire: Line,
    new_codec: Callable[[Instrument], OrderCodec],
    clock: Clock,
    *,
    state: Path,
    name: str,
    holding_lease: bool = False,
    neutral: Decimal | None = None,
) -> Examination:
    """Examine a testnet or live config. Nothing is placed, cancelled or set at the venue.

    `new_codec` makes the codec of an instrument; `state` and `name` are of `lease.state_folder`
    and `account_name`; a caller who holds the lease already says so, and one who knows an
    earlier run gives its neutral spot balance. The wire is left with the venue's clock offset.
    Raises nothing that a venue or a user could cause.
    """
    if neutral is None:
        neutral = loaded.settings.account.neutral_qty
    examiner = _Examiner(loaded, wire, new_codec, clock, (state, name), neutral)
    examiner.note(premises.disk(Path(loaded.settings.run.folder)))
    if not holding_lease:
        examiner.note(premises.lease(state, name))
    await examiner.ask_all()
    return examiner.result()


class _Examiner:
    def __init__(
        self,
        loaded: Loaded,
        wire: Line,
        new_codec: Callable[[Instrument], OrderCodec],
        clock: Clock,
        files: tuple[Path, str],
        neutral: Decimal | None,
    ) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._wire = wire
        self._new_codec = new_codec
        self._codec = new_codec(loaded.instrument)
        self._clock = clock
        self._files = files  # the state folder, and the account's name in it
        self._neutral = neutral
        self._findings: list[Finding] = []
        self._unreachable = False
        self._offset_ms: int | None = None
        self._listed: Instrument | None = None
        self._fees: Fees | None = None
        self._holdings: Holdings | None = None

    def note(self, finding: Finding) -> Finding:
        self._findings.append(finding)
        return finding

    def result(self) -> Examination:
        return Examination(
            tuple(self._findings),
            self._unreachable,
            self._listed,
            self._fees,
            self._holdings,
            self._offset_ms,
        )

    async def ask_all(self) -> None:
        """Ask until the end, or until the venue falls silent."""
        try:
            await self._ask_clock()
            await self._ask_filters()
            price = await self._ask_price()
            body = await self._ask_key()
            if body is not None:
                await self._ask_account(body, price)
            if not self._codec.capabilities.dead_man:
                where = premises.watchdog(self._loaded, *self._files, self._clock)
                self.note(await where)
        except VenueUnreachable as silence:
            self._unreachable = True
            self._say("venue", Level.FAIL, str(silence))

    # --- without the key --------------------------------------------------------------------

    async def _ask_clock(self) -> None:
        """The offset by the quickest of three answers: its way there and back errs least."""
        samples = []
        for _ in range(SAMPLES):
            asked = self._clock.now()
            body = await self._ask(self._codec.server_time())
            answered = self._clock.now()
            try:
                theirs = self._codec.read_server_time(body)
            except ValueError as strange:
                raise VenueUnreachable(f"what answers is not {self._place}: {strange}") from None
            samples.append((answered - asked, (asked + answered) // 2 - theirs))
        took, ahead = min(samples)
        self._offset_ms = ahead // NS_PER_MS
        self._wire.set_offset(self._offset_ms)
        self._say("venue", Level.OK, f"{self._place} answers within {took / NS_PER_MS:.0f} ms")
        self.note(judgement.offset(self._offset_ms))

    async def _ask_filters(self) -> None:
        codec = self._codec
        listed = await self._answer("filters", codec.filters(), codec.read_filters)
        if listed is None:
            return
        if self.note(judgement.filters(self._loaded, listed)).level is not Level.FAIL:
            self._listed = listed
            self._codec = self._new_codec(listed)

    async def _ask_price(self) -> tuple[Decimal, Decimal] | None:
        listed, codec = self._listed, self._codec
        if listed is None:
            return None
        touch = await self._answer("orders", codec.touch(), codec.read_touch)
        if touch is not None:
            self.note(judgement.orders(self._settings, listed, touch[0]))
        return touch

    # --- with the key -----------------------------------------------------------------------

    async def _ask_key(self) -> Any:
        """The account's body, or None when the key is not let in: then it need not be tried on."""
        try:
            body = await self._ask(self._codec.holdings())
        except CallFailed as failure:
            self._say("key", Level.FAIL, self._refused(failure))
            return None
        self._say("key", Level.OK, "the venue accepts the API key and its signature")
        return body

    async def _ask_account(self, body: Any, touch: tuple[Decimal, Decimal] | None) -> None:
        codec, settings = self._codec, self._settings
        await self._ask_permissions()
        listed = self._listed
        if listed is None:
            return  # the rest is about the symbol
        fees = await self._answer("fees", codec.fees(), codec.read_fees)
        if fees is not None:
            self._fees = fees
            self.note(judgement.fees(self._loaded, listed, fees))
        leverage = None
        if codec.capabilities.margin:
            if not await self._is_one_way():
                return
            leverage = await self._answer("leverage", codec.leverage(), codec.read_leverage)
        reports = await self._answer("open orders", codec.open_orders(), codec.read_orders)
        if reports is not None:
            self.note(judgement.open_orders(reports))
        self._holdings = self._read("position", body, codec.read_holdings)
        if self._holdings is not None:
            self.note(judgement.position(settings, listed, self._holdings, self._neutral))
            if touch is not None and (leverage is not None or not codec.capabilities.margin):
                self._judge_funds(listed, self._holdings, touch[1], leverage, reports or [])
        if codec.capabilities.dead_man:
            after = settings.execution.dead_man_s
            text = f"the venue cancels everything after {after} s without a sign of life"
            self._say("dead man", Level.OK, text)

    async def _ask_permissions(self) -> None:
        """Only production has the endpoint, and the simulated exchange that stands in its place."""
        settings = self._settings
        live = settings.mode == "live"
        if not (live or settings.feed.base_url):
            self._say("permissions", Level.OK, f"{self._place} does not offer to ask for them")
            return
        codec = self._codec
        found = await self._answer("permissions", codec.permissions(), codec.read_permissions)
        if found is not None:
            self.note(judgement.permissions(found, live=live))

    async def _is_one_way(self) -> bool:
        codec, name = self._codec, "position mode"
        one_way = await self._answer(name, codec.position_mode(), codec.read_one_way)
        if one_way is False:
            text = "the account is in hedge mode: switch it to one-way mode at the venue"
            self._say(name, Level.FAIL, text)
        elif one_way:
            self._say(name, Level.OK, "one-way")
        return bool(one_way)

    def _judge_funds(
        self,
        listed: Instrument,
        holdings: Holdings,
        price: Decimal,
        leverage: int | None,
        reports: list[OrderReport],
    ) -> None:
        settings = adjusted(self._settings, listed, self._fees or self._loaded.fees)
        found = judgement.funds(settings, listed, holdings, price, leverage)
        self.note(judgement.bound(found, reports))

    # --- how it is asked --------------------------------------------------------------------

    @property
    def _place(self) -> str:
        settings = self._settings
        return settings.feed.base_url or f"{settings.venue} {settings.feed.world}"

    def _say(self, name: str, level: Level, text: str) -> None:
        self.note(Finding(name, level, text))

    async def _answer(self, name: str, call: Call, read: Callable[[Any], T]) -> T | None:
        """The answer to a question; None where it failed, which is then a finding."""
        try:
            body = await self._ask(call)
        except CallFailed as failure:
            self._say(name, Level.FAIL, self._refused(failure))
            return None
        return self._read(name, body, read)

    def _read(self, name: str, body: Any, read: Callable[[Any], T]) -> T | None:
        try:
            return read(body)
        except ValueError as strange:
            self._say(name, Level.FAIL, str(strange))
            return None

    async def _ask(self, call: Call) -> Any:
        """A body, asked for twice at most: questions may be repeated.

        Raises CallFailed where the venue said no, VenueUnreachable where it said nothing.
        """
        for left in reversed(range(TRIES)):
            try:
                return await self._wire.call(call)
            except CallFailed as failure:
                refusal = failure.refusal
                if refusal.limited_s:
                    text = f"{self._place} wants no request for {refusal.limited_s:g} s"
                    raise VenueUnreachable(
                        f"{text} ({refusal.reason}): wait, then try again"
                    ) from None
                proved = failure.code is not None and refusal.reason not in BUSY
                if (proved or refusal.auth) and not isinstance(failure, NotSent):
                    raise
                if not left:
                    text = f"{self._place} cannot be reached ({refusal.reason})"
                    raise VenueUnreachable(f"{text}: look at the network") from None
        raise AssertionError("the last try returns or raises")

    def _refused(self, failure: CallFailed) -> str:
        """A refusal in words for a user."""
        if failure.code == NO_SUCH_SYMBOL:
            return f"{self._settings.venue} does not list {self._settings.symbol}"
        if failure.refusal.auth:
            return key_fault(failure.code, failure.text)
        if failure.refusal.clock:
            return "the venue finds our requests out of time: set this machine's clock (NTP)"
        return f"the venue refuses to answer: {failure.text} ({failure.code})"
