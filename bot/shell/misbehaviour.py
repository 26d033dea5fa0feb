"""What the simulated exchange does wrong to its users: to requests here, to events in `events`.

A layer around the venue: a request passes `respond` on its way in and out, a user's event
`events`. What is switched on holds for the next `times` requests that match, or until healed.
While nothing is, a request costs one look at an empty list.

A request meets all faults that match it, in this order: late, lost or refused unseen, carried
out, its answer changed, late, lost. No task runs here: requests wait in the handlers that
brought them, and the owner's `tend` lets them go on.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, NoReturn, Protocol, TypeVar

from aiohttp import web

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.eventfaults import EventFaults, ns_of
from bot.shell.venuesockets import Session
from bot.shell.waitingroom import Closed, WaitingRoom
from bot.venues.binance.failures import (
    AMENDS,
    CLOSED,
    FAILURES,
    LISTING,
    MAINTENANCE,
    OPEN_ORDERS,
    OUTSIDE_WINDOW,
    PLACEMENTS,
    SPOILT,
    Failure,
    Matcher,
    anything,
    banned,
    below,
    carries_private,
    halted,
    opens_private,
    throttled,
    without_newest,
)

FAULTS_MAX: Final = 100
HANG_NS_MAX: Final = 600 * NS_PER_S  # a request that gets no answer is cut off then
PARTITION_S_MAX: Final = 3_600.0
LAG_MS_MAX: Final = 60_000
LAG_STEPS: Final = 1_000  # a list's states within the lag, so many at most

NAMES: Final = (
    "lose_reply",
    "lose_request",
    "fail_after",
    "fail_before",
    "spoil",
    "delay_request",
    "delay_reply",
    "lag",
    "forget_newest",
    "answer_empty",
    "maintenance",
    "halt",
    "throttle",
    "ban",
    "clock_storm",
    "partition",
)

Choice = TypeVar("Choice")
Venue = Callable[[int], web.Response]  # carries a request out as arrived at a time, ns


class Wires(Protocol):
    """The sockets of the venue."""

    def publish(self, key: str, raw: bytes) -> None:
        """Write a user's event."""
        ...

    def cut(self, which: Callable[[Session], bool]) -> None:
        """Drop the web sockets of some sessions."""
        ...

    def mute(self, seconds: float) -> None:
        """Let nothing out of any web socket."""
        ...

    def unmute(self) -> None:
        """End `mute`."""
        ...


class Lost(Exception):
    """The client gets no answer: its connection is to be dropped."""


class Listed(NamedTuple):
    """A list that an API key may GET."""

    key: str
    path: str


class Asked(NamedTuple):
    """What is known of a request; `gone` says whether its client has left."""

    method: str
    path: str
    key: str  # of the API, empty where there is none
    signed: bool
    gone: Callable[[], bool]


class History:
    """What a list was, for `span` ns."""

    def __init__(self, span: int) -> None:
        self._span = span
        self._states: deque[tuple[int, bytes]] = deque()

    def take(self, now: int, show: Callable[[], bytes]) -> None:
        """Remember what the list is, and forget what nobody can be told any more."""
        if not self._states or self._states[-1][0] + self._span // LAG_STEPS <= now:
            self._states.append((now, show()))
        while len(self._states) > 1 and self._states[1][0] <= now - self._span:
            self._states.popleft()

    def at(self, when: int) -> bytes:
        """What the list was at `when`, or the oldest that is known."""
        found = self._states[0][1]
        for at, body in self._states:
            if at > when:
                break
            found = body
        return found


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """One way to misbehave; `met` counts the requests that it befell."""

    name: str
    where: Matcher
    left: int | None  # requests; None until healed
    signed_only: bool = False
    until: int | None = None  # ns
    late: int = 0  # ns, before the venue sees the request
    unseen: bool = False  # lost before the venue sees it
    lost: Literal["no", "drop", "hang"] = "no"
    refuse: Callable[[int], Failure] | None = None  # instead of the venue, by the time in ns
    change: Callable[[Asked, bytes, int], Failure] | None = None  # the venue's body
    only_ok: bool = False  # change no error
    reply_late: int = 0  # ns
    histories: dict[Listed, History] = field(default_factory=dict)
    met: int = 0

    def meets(self, asked: Asked, now: int) -> bool:
        """Whether it befalls a request."""
        return (
            not self.over(now)
            and (asked.signed or not self.signed_only)
            and self.where(asked.method, asked.path)
        )

    def over(self, now: int) -> bool:
        """Whether it has no effect any more."""
        return self.left == 0 or (self.until is not None and self.until <= now)

    def count(self) -> None:
        """One more request was befallen."""
        self.met += 1
        if self.left is not None:
            self.left -= 1


class Misbehaviour:
    """What a test or `mmbot serve --misbehaviour` switches. `clock` is in ns.

    `lists` renders what a GET of each list would show now (for `lag`); more may come.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        wires: Wires,
        lists: Mapping[Listed, Callable[[], bytes]] | None = None,
    ) -> None:
        self.events = EventFaults(clock, wires.publish, self._cut_private)
        self._clock = clock
        self._wires = wires
        self._lists = {} if lists is None else lists
        self._faults: list[Fault] = []
        self._met: Counter[str] = Counter()
        self._room = WaitingRoom(clock)
        self._muted = False

    # --- The way of a request --------------------------------------------------------------

    async def respond(self, request: web.Request, venue: Venue) -> web.Response:
        """Answer a request through `venue`, or let happen what is switched on."""
        if not self._faults:
            return venue(self._clock())
        body = await request.read()
        signed = "signature=" in request.query_string or b"signature=" in body
        key = request.headers.get("X-MBX-APIKEY", "")
        asked = Asked(request.method, request.path, key, signed, lambda: departed(request))
        try:
            return await self.through(asked, venue)
        except (Lost, Closed):
            return dropped(request)

    def _cut_private(self) -> None:
        self._wires.cut(lambda session: carries_private(session.streams))

    async def admit(self, request: web.Request) -> web.Response | None:
        """None to open a web socket, else what is said instead."""
        if self.events.shut and opens_private(request.path_qs):
            return web.Response(status=503, text="Service Unavailable")
        if any(fault.name == "partition" for fault in self._faults):
            with suppress(Closed):
                await self._room.wait(HANG_NS_MAX, lambda: departed(request))
            return dropped(request)
        return None

    async def through(self, asked: Asked, venue: Venue) -> web.Response:
        """As `respond`, for a request of any make.

        Raises Lost when there is no answer, Closed when the server ends first.
        """
        met = self._meeting(asked)
        if late := sum(fault.late for fault in met):
            await self._room.wait(late)
        for fault in met:
            if fault.unseen:
                await self._lose(fault, asked)
        refuse = next((fault.refuse for fault in met if fault.refuse is not None), None)
        if refuse is not None:
            answer = answer_of(refuse(self._clock()))
        else:
            answer = self._changed(asked, met, venue(self._clock()))
        if late := sum(fault.reply_late for fault in met):
            await self._room.wait(late)
        for fault in met:
            if fault.lost != "no":
                await self._lose(fault, asked)
        return answer

    def _meeting(self, asked: Asked) -> list[Fault]:
        now = self._clock()
        met = [fault for fault in self._faults if fault.meets(asked, now)]
        for fault in met:
            fault.count()
            self._met[fault.name] += 1
        self._faults = [fault for fault in self._faults if not fault.over(now)]
        return met

    def _changed(self, asked: Asked, met: list[Fault], answer: web.Response) -> web.Response:
        for fault in met:
            if fault.change is not None and (answer.status == 200 or not fault.only_ok):
                body = answer.body if isinstance(answer.body, bytes) else b""
                failure = fault.change(asked, body, self._clock())
                answer = answer_of(failure, answer.headers)
        return answer

    async def _lose(self, fault: Fault, asked: Asked) -> NoReturn:
        if fault.lost == "hang":
            await self._room.wait(HANG_NS_MAX, asked.gone)
        raise Lost

    def tend(self, now: int) -> None:
        """Let go on what is due; to be called every few milliseconds."""
        for fault in self._faults:
            for listed, history in fault.histories.items():
                history.take(now, self._lists[listed])
        self._room.tend(now)
        self.events.tend(now)

    async def close(self) -> None:
        """Lose every request that waits; none is left when this returns."""
        self.events.close()
        await self._room.close()

    # --- The switches; each returns the fault, ValueError for what cannot be ----------------

    def lose_reply(self, where: Matcher, *, times: int | None = 1, hang: bool = False) -> Fault:
        """Carry the request out and drop the connection, or say nothing for ever."""
        return self._add("lose_reply", where, times, lost="hang" if hang else "drop")

    def lose_request(self, where: Matcher, *, times: int | None = 1, hang: bool = False) -> Fault:
        """The venue never sees the request: the connection drops, or nothing ever comes."""
        lost: Literal["drop", "hang"] = "hang" if hang else "drop"
        return self._add("lose_request", where, times, lost=lost, unseen=True)

    def fail_after(self, where: Matcher, answer: str = "503", *, times: int | None = 1) -> Fault:
        """Carry the request out and answer "503", "-1006" or "-1007"."""
        failure = chosen(FAILURES, answer)
        return self._add("fail_after", where, times, change=lambda *_: failure)

    def fail_before(self, where: Matcher, answer: str = "503", *, times: int | None = 1) -> Fault:
        """Answer as `fail_after` does, and carry nothing out."""
        failure = chosen(FAILURES, answer)
        return self._add("fail_before", where, times, refuse=lambda now: failure)

    def spoil(self, where: Matcher, form: str, *, times: int | None = 1) -> Fault:
        """Carry the request out and answer 200 with a "truncated", "html" or "empty" body."""
        spoilt = chosen(SPOILT, form)
        return self._add("spoil", where, times, change=lambda asked, body, now: spoilt(body))

    def delay_request(self, where: Matcher, ms: float, *, times: int | None = 1) -> Fault:
        """The request arrives so much later, even if its client does not wait."""
        return self._add("delay_request", where, times, late=ns_of(ms))

    def delay_reply(self, where: Matcher, ms: float, *, times: int | None = 1) -> Fault:
        """The request is carried out when it arrives, and answered so much later."""
        return self._add("delay_reply", where, times, reply_late=ns_of(ms))

    def lag(self, where: Matcher, ms: float, *, times: int | None = None) -> Fault:
        """Answer with what the lists were so long ago, but not before this was switched on."""
        span = ns_of(ms, LAG_MS_MAX)
        now = self._clock()
        histories = {one: History(span) for one in self._lists if where("GET", one.path)}
        if not histories:
            raise ValueError("none of the lists that can lag matches")
        for listed, history in histories.items():
            history.take(now, self._lists[listed])

        def change(asked: Asked, body: bytes, now: int) -> Failure:
            history = histories.get(Listed(asked.key, asked.path))
            return Failure(200, body if history is None else history.at(now - span))

        return self._add("lag", where, times, change=change, only_ok=True, histories=histories)

    def forget_newest(self, *, times: int | None = None) -> Fault:
        """Leave the newest order out of the list of open orders."""
        return self._add(
            "forget_newest",
            OPEN_ORDERS,
            times,
            change=lambda asked, body, now: Failure(200, without_newest(body)),
            only_ok=True,
        )

    def answer_empty(self, where: Matcher = OPEN_ORDERS, *, times: int | None = None) -> Fault:
        """Answer with an empty list though there is something in it."""
        empty = Failure(200, b"[]")
        return self._add("answer_empty", where, times, change=lambda *_: empty, only_ok=True)

    def maintenance(self) -> Fault:
        """Refuse every signed request; streams go on."""
        return self._add(
            "maintenance", anything, None, refuse=lambda now: MAINTENANCE, signed_only=True
        )

    def halt(self) -> Fault:
        """The symbol does not trade, and its listing says so: only cancels are carried out."""
        for root, answer in CLOSED:
            for where in (PLACEMENTS, AMENDS):
                self._add(
                    "halt", below(root, where), None, refuse=lambda now, closed=answer: closed
                )
        return self._add(
            "halt",
            LISTING,
            None,
            change=lambda asked, body, now: Failure(200, halted(body)),
            only_ok=True,
        )

    def throttle(self, seconds: int, where: Matcher = anything, *, times: int | None = 1) -> Fault:
        """Answer 429 with Retry-After."""
        failure = throttled(ns_of(seconds * 1_000) // NS_PER_S)
        return self._add("throttle", where, times, refuse=lambda now: failure)

    def ban(self, seconds: int) -> Fault:
        """Answer every request with 418 and the rest of the time; ends when it is over."""
        until = self._clock() + ns_of(seconds * 1_000)
        return self._add(
            "ban",
            anything,
            None,
            refuse=lambda now: banned(until // NS_PER_MS, now // NS_PER_MS),
            until=until,
        )

    def clock_storm(self, *, times: int | None = None) -> Fault:
        """Refuse every signed request with -1021."""
        return self._add(
            "clock_storm", anything, times, refuse=lambda now: OUTSIDE_WINDOW, signed_only=True
        )

    def partition(self, *, both: bool = False) -> Fault:
        """No request and no new web socket arrives; if `both`, nothing is heard either."""
        if both:
            self._muted = True
            self._wires.mute(PARTITION_S_MAX)
        return self._add("partition", anything, None, lost="hang", unseen=True)

    def heal(self, what: Fault | str | None = None) -> None:
        """End one fault, those of a name, or all, then also those of `events`.

        What is already late stays late, what is lost stays lost.
        """
        if isinstance(what, str) and what not in NAMES:
            raise ValueError(f"{what} is none of {', '.join(NAMES)}")
        now = self._clock()
        self._faults = [
            fault
            for fault in self._faults
            if not fault.over(now) and what is not None and what not in (fault, fault.name)
        ]
        if self._muted and not any(fault.name == "partition" for fault in self._faults):
            self._muted = False
            self._wires.unmute()
        if what is None:
            self.events.heal()

    def met(self, name: str) -> int:
        """How many requests faults of a name befell since the start."""
        return self._met[name]

    def active(self) -> dict[str, int | None]:
        """Names of what is on, with how many requests are left (None: until healed)."""
        now = self._clock()
        return {fault.name: fault.left for fault in self._faults if not fault.over(now)}

    def _add(self, name: str, where: Matcher, times: int | None, **effects: Any) -> Fault:
        assert name in NAMES
        if times is not None and times < 1:
            raise ValueError("times must be at least 1")
        now = self._clock()
        self._faults = [fault for fault in self._faults if not fault.over(now)]
        if len(self._faults) >= FAULTS_MAX:
            raise ValueError(f"more than {FAULTS_MAX} faults at once")
        fault = Fault(name=name, where=where, left=times, **effects)
        self._faults.append(fault)
        return fault

    def __repr__(self) -> str:
        return f"<Misbehaviour {self.active()} waiting={len(self._room)} {self.events!r}>"


def chosen(table: Mapping[str, Choice], name: str) -> Choice:
    """An entry of a table; ValueError names those that there are."""
    if name not in table:
        raise ValueError(f"{name} is none of {', '.join(table)}")
    return table[name]


def answer_of(failure: Failure, before: Mapping[str, str] | None = None) -> web.Response:
    """A failure as a response; keeps the venue's own headers of the answer `before`."""
    headers = {name: value for name, value in (before or {}).items() if name.startswith("X-MBX-")}
    if failure.retry_after is not None:
        headers["Retry-After"] = str(failure.retry_after)
    return web.Response(
        status=failure.status, body=failure.body, content_type=failure.kind, headers=headers
    )


def departed(request: web.Request) -> bool:
    """Whether the client has left."""
    transport = request.transport
    return transport is None or transport.is_closing()


def dropped(request: web.Request) -> web.Response:
    """Drop the connection; nobody will read the response."""
    if (transport := request.transport) is not None:
        transport.abort()
    return web.Response()
