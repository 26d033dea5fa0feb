import json
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, Side
from bot.venues.binance.board import Board
from bot.venues.binance.publictext import PublicText, Shown
from bot.venues.binance.streams import stream_of
from bot.venues.binance.tally import Tally, Trade

SPOT = Instrument("binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))


class Change(NamedTuple):
    side: Side
    tick: int
    lots: int


class Stage:
    """A board, and a book of one level a side."""

    def __init__(self, instrument: Instrument, *names: str) -> None:
        self.instrument = instrument
        self.board = Board(PublicText(instrument))
        self.book = Shown(100, [(50, 1_000)], [(51, 2_000)])
        self.tally = Tally(0)
        self.plan(*names)

    def plan(self, *names: str, now: int = 0) -> None:
        streams = [stream_of(self.instrument, f"btcusdt@{name}") for name in names]
        self.board.plan([s for s in streams if s is not None], now * NS_PER_MS)

    def due(self, now: int) -> list[tuple[str, Any]]:
        found = self.board.due(now * NS_PER_MS, now, self.tally, lambda limit: self.book)
        return [(stream.name.partition("@")[2], json.loads(raw)) for stream, raw in found]

    def change(self, update_id: int, tick: int = 50, lots: int = 1) -> None:
        self.board.change(update_id, Change(Side.BUY if tick <= 50 else Side.SELL, tick, lots))


def test_depth_gathers_what_happened_between_its_times() -> None:
    stage = Stage(USDM, "depth@100ms")
    for update_id, tick, lots in [(101, 50, 3), (102, 52, 7), (103, 50, 0), (104, 49, 2)]:
        stage.change(update_id, tick, lots)
    assert stage.due(99) == []
    ((_, message),) = stage.due(100)
    assert (message["U"], message["u"], message["pu"]) == (101, 104, 100)
    assert message["b"] == [["5.00", "0.000"], ["4.90", "0.002"]]
    assert message["a"] == [["5.20", "0.007"]]
    assert stage.due(200) == []  # nothing happened, nothing is said
    stage.change(105)
    ((_, message),) = stage.due(345)  # late
    assert (message["U"], message["u"], message["pu"]) == (105, 105, 104)
    stage.change(106)
    assert stage.due(399) == []
    assert len(stage.due(400)) == 1  # the beat is kept


def test_every_speed_is_a_chain_of_its_own() -> None:
    stage = Stage(SPOT, "depth@100ms", "depth@0ms", "depth")
    chains: dict[str, list[tuple[int, int]]] = {}
    for i in range(1, 101):
        stage.change(100 + i)
        for name, message in stage.due(i * 20):
            chains.setdefault(name, []).append((message["U"], message["u"]))
    assert {name: len(chain) for name, chain in chains.items()} == {
        "depth@0ms": 100,
        "depth@100ms": 20,
        "depth": 2,
    }
    for chain in chains.values():
        assert chain[0][0] == 101
        assert chain[-1][1] == 200
        assert all(first == last + 1 for (_, last), (first, _) in pairwise(chain))


def test_a_later_stream_begins_where_it_was_asked_for_and_others_go_on() -> None:
    stage = Stage(USDM, "depth@100ms")
    stage.change(101)
    stage.plan("depth@100ms", "depth@0ms", now=50)
    stage.change(102)
    ((name, message),) = stage.due(60)
    assert (name, message["U"], message["pu"]) == ("depth@0ms", 102, 101)
    ((name, message),) = stage.due(100)
    assert (name, message["U"], message["u"]) == ("depth@100ms", 101, 102)
    stage.plan()
    stage.change(103)
    assert stage.due(10_000) == []


def test_best_prices_are_told_when_they_change_and_before_depth() -> None:
    stage = Stage(SPOT, "depth@0ms", "bookTicker")
    stage.change(100)
    assert [name for name, _ in stage.due(0)] == ["bookTicker", "depth@0ms"]
    stage.change(101)
    assert [name for name, _ in stage.due(1)] == ["depth@0ms"]
    stage.book = Shown(102, [(50, 999)], [(51, 2_000)])
    ((_, message),) = stage.due(2)
    assert (message["u"], message["B"]) == (102, "0.00000999")


def test_partial_books_are_told_when_something_changed() -> None:
    stage = Stage(USDM, "depth5@100ms")
    assert [m["u"] for _, m in stage.due(100)] == [100]
    assert stage.due(200) == []
    stage.book = Shown(103, [(50, 1)], [])
    ((_, message),) = stage.due(300)
    assert (message["U"], message["u"], message["pu"]) == (101, 103, 100)


def test_statistics_have_their_time() -> None:
    stage = Stage(SPOT, "ticker", "miniTicker", "kline_1m", "trade", "aggTrade")
    assert [name for name, _ in stage.due(1_000)] == ["ticker", "miniTicker"]
    stage.tally.add(Trade(5, 1, 50, 1, Side.BUY), 1)
    assert [name for name, _ in stage.due(2_000)] == ["ticker", "miniTicker", "kline_1m"]
    assert [s.name for s in stage.board.of_kind("trade")] == ["btcusdt@trade"]
    assert stage.board.of_kind("depth") == ()


@pytest.mark.parametrize("instrument", [SPOT, USDM])
def test_repr_names_the_streams(instrument: Instrument) -> None:
    assert "btcusdt@trade" in repr(Stage(instrument, "trade").board)
