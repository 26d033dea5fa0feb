from bot.domain.units import Side
from bot.venues.binance.tally import CANDLES_MAX, MINUTE_MS, TRADES_MAX, Candle, Tally, Trade


def trade(at: int, trade_id: int, tick: int = 100, lots: int = 1, side: Side = Side.BUY) -> Trade:
    return Trade(at, trade_id, tick, lots, side)


def test_one_takers_trades_at_one_price_are_one_aggregate() -> None:
    tally = Tally(0)
    assert tally.add(trade(1, 1, 100, 2), 50) is None
    assert tally.add(trade(1, 2, 100, 3), 50) is None
    ended = tally.add(trade(1, 3, 101, 4), 50)  # the same taker, a worse price
    assert ended is not None
    assert (ended.aggregate_id, ended.first_id, ended.last_id, ended.lots) == (1, 1, 2, 5)
    ended = tally.add(trade(2, 4, 101, 1), 51)  # another taker at the same price
    assert ended is not None
    assert (ended.tick, ended.lots) == (101, 4)
    last = tally.end_aggregate()
    assert last is not None
    assert last.taker_order == 51
    assert tally.end_aggregate() is None
    assert [a.aggregate_id for a in tally.aggregates] == [1, 2, 3]


def test_candles_of_minutes_and_of_longer_spans() -> None:
    tally = Tally(0)
    for i, (minute, tick) in enumerate([(0, 10), (0, 12), (1, 8), (4, 11), (5, 20)]):
        side = Side.BUY if i % 2 else Side.SELL
        tally.add(trade(minute * MINUTE_MS + i, i, tick, i + 1, side), i)
    minutes = tally.candles("1m")
    assert [(c.opened // MINUTE_MS, c.open, c.high, c.low, c.close) for _, c in minutes] == [
        (0, 10, 12, 10, 12),
        (1, 8, 8, 8, 8),
        (4, 11, 11, 11, 11),
        (5, 20, 20, 20, 20),
    ]
    (ends, first), (_, second) = tally.candles("5m")
    assert (ends, first.opened, second.opened) == (5 * MINUTE_MS, 0, 5 * MINUTE_MS)
    assert (first.open, first.high, first.low, first.close) == (10, 12, 8, 11)
    assert (first.count, first.lots, first.bought_lots) == (4, 10, 6)
    assert first.value == 10 + 24 + 24 + 44
    assert (first.first_id, first.last_id) == (0, 3)
    assert tally.last_candle("5m") == tally.candles("5m")[-1]
    assert tally.day.high == 20


def test_nothing_is_kept_for_ever() -> None:
    tally = Tally(0)
    for i in range(max(CANDLES_MAX, TRADES_MAX) + 10):
        tally.add(trade(i * MINUTE_MS, i), i)
    assert len(tally.candles("1m")) == CANDLES_MAX
    assert len(tally.trades) == len(tally.aggregates) == TRADES_MAX
    assert tally.day.count == max(CANDLES_MAX, TRADES_MAX) + 10


def test_empty() -> None:
    tally = Tally(5)
    assert tally.last_candle("1m") is None
    candle = Candle(1)
    candle.add(Candle(2))
    assert candle == Candle(1)


def test_a_late_trade_joins_the_newest_minute() -> None:
    tally = Tally(0)
    tally.add(trade(MINUTE_MS, 1), 1)
    tally.add(trade(MINUTE_MS - 1, 2), 2)
    assert [c.count for _, c in tally.candles("1m")] == [2]
