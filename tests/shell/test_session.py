"""What a session is believed to be, judged on a clock of the test's own."""

import asyncio
from types import SimpleNamespace

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.protocol import State

from bot.shell.feedlimits import FeedLimits
from bot.shell.session import CLOSED, CUT, FROZEN, GARBLED, HALF_OPEN, OVERSIZE, SILENT, Session
from bot.venues.binance.endpoints import endpoints

MS = 1_000_000
START = 1_000_000 * MS
LIMITS = FeedLimits()


class Socket:
    """As much of a socket as a session looks at."""

    def __init__(self) -> None:
        self.protocol = SimpleNamespace(state=State.OPEN, close_rcvd=None, close_sent=None)
        self.pings: list[asyncio.Future[float]] = []
        self.closed = False
        self.stuck = False

    async def ping(self) -> asyncio.Future[float]:
        if self.closed:
            raise ConnectionClosedError(None, None)
        if self.stuck:
            await asyncio.Event().wait()
        self.pings.append(asyncio.get_running_loop().create_future())
        return self.pings[-1]


def session(trades: str = "trade", which: int = 0, limits: FeedLimits = LIMITS) -> Session:
    connection = endpoints("binance-usdm", "BTCUSDT", trades=trades).connections[which]
    return Session(Socket(), connection, limits, START, 3_600_000 * MS)


def take(one: Session, ms: int, kind: str) -> None:
    one.take(START + ms * MS, b'{"stream":"btcusdt@%b","data":{}}' % kind.encode())


def fault(one: Session, ms: int) -> str:
    return one.fault(START + ms * MS)


def test_silence_counts_from_the_opening_and_from_the_last_message():
    one = session()
    assert [fault(one, 2_999), fault(one, 3_000)] == ["", SILENT]
    take(one, 2_999, "trade")
    assert [fault(one, 3_500), fault(one, 5_999)] == ["", SILENT]


def test_trades_alone_may_be_silent():
    assert fault(session("aggTrade", which=1), 3_600_000) == ""


def test_depth_that_does_not_follow_is_frozen():
    one = session()
    take(one, 0, "depth@100ms")
    take(one, 300, "bookTicker")
    assert [fault(one, 300), fault(one, 1_299), fault(one, 1_300)] == ["", "", FROZEN]


def test_depth_that_never_came_is_frozen():
    one = session()
    take(one, 251, "bookTicker")
    assert [fault(one, 260), fault(one, 1_251)] == ["", FROZEN]


def test_depth_that_follows_is_not():
    one = session()
    for ms in range(0, 20_000, 900):
        take(one, ms, "bookTicker")
        assert fault(one, ms) == ""
        take(one, ms + 100, "depth@100ms")
        assert fault(one, ms + 899) == ""


def test_a_late_trade_in_a_quiet_market_proves_nothing():
    """Every fifth trade comes after the depth message that contains it already."""
    one = session()
    take(one, 0, "depth@100ms")
    take(one, 200, "trade")
    assert fault(one, 2_500) == ""


def test_later_movement_does_not_reset_the_proof():
    one = session()
    take(one, 0, "depth@100ms")
    for ms in range(300, 1_300, 50):
        take(one, ms, "bookTicker")
        assert fault(one, ms) == ""
    assert fault(one, 1_300) == FROZEN


@pytest.mark.parametrize(
    ("names", "proven", "complete"),
    [
        ([], False, False),
        (["trade"], False, False),
        (["depth@100ms", "trade"], False, False),
        (["depth@100ms", "bookTicker"], True, False),
        (["depth@100ms", "bookTicker", "trade"], True, True),
        (["kline_1m", "depth@100ms"], False, False),
    ],
)
def test_proven_and_complete(names, proven, complete):
    one = session()
    for name in names:
        take(one, 1, name)
    assert (one.proven, one.complete) == (proven, complete)
    assert one.frames == len(names)


def test_an_announced_shutdown_expires_the_session_now():
    one = session()
    assert one.expires_at == START + 3_600_000 * MS
    take(one, 1, "trade")
    one.take(START + 5, b'{"e":"serverShutdown","E":1770123456789}')
    assert one.expires_at == START + 5


async def test_pings_are_spaced_and_one_at_a_time():
    one = session()
    for ms in range(0, 3_000, 50):
        await one.ping(START + ms * MS)
    assert len(one.ws.pings) == 1  # no second one before its pong
    one.ws.pings[0].set_result(0.01)
    for ms in range(3_000, 6_000, 50):
        take(one, ms, "depth@100ms")
        await one.ping(START + ms * MS)
        one.ws.pings[-1].done() or one.ws.pings[-1].set_result(0.01)
    assert len(one.ws.pings) == 4


async def test_a_late_pong_of_a_quiet_connection():
    one = session()
    take(one, 900, "depth@100ms")
    await one.ping(START + 1_000 * MS)
    assert [fault(one, 1_999), fault(one, 2_000)] == ["", HALF_OPEN]
    one.ws.pings[0].set_result(1.0)
    assert fault(one, 2_000) == ""


async def test_a_pong_behind_a_burst_has_more_time():
    one = session()
    await one.ping(START + 1_000 * MS)
    for ms in range(1_000, 6_000, 100):
        for name in ("depth@100ms", "bookTicker"):
            take(one, ms, name)
        assert fault(one, ms) == ""
    assert fault(one, 6_000) == HALF_OPEN


async def test_a_closed_socket_is_pinged_without_harm():
    one = session()
    one.ws.closed = True
    await one.ping(START + 1_000 * MS)
    assert fault(one, 2_000) == HALF_OPEN


async def test_a_ping_that_cannot_be_written_counts_as_unanswered():
    one = session(limits=FeedLimits(pong_ms=50))
    one.ws.stuck = True
    await asyncio.wait_for(one.ping(START + 1_000 * MS), 2)
    assert fault(one, 1_050) == HALF_OPEN


@pytest.mark.parametrize(
    ("state", "received", "sent", "cause"),
    [
        (State.OPEN, None, None, ""),
        (State.CLOSED, None, None, CUT),
        (State.CLOSING, 1001, 1001, CLOSED),
        (State.CLOSING, None, 1009, OVERSIZE),
        (State.CLOSING, None, 1002, GARBLED),
        (State.CLOSED, None, 1007, GARBLED),
    ],
)
def test_ending(state, received, sent, cause):
    one = session()
    protocol = one.ws.protocol
    protocol.state = state
    protocol.close_rcvd = received and Close(received, "")
    protocol.close_sent = sent and Close(sent, "")
    assert one.ending() == cause
    assert repr(one) == f"<Session frames=0 {cause or 'open'}>"
