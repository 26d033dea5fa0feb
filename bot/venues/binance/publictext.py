"""Binance's public market data as the venue writes it: integers in, JSON bytes out.

Spot states prices and quantities with eight decimals, USD-M with the decimals of its tick
and lot; only USD-M depth carries `T` and `pu`, only USD-M trades carry `X` (web socket
streams and market data endpoints of each product's documents; field order as received).

Prices are ticks. Quantities are *atoms*, units of the last displayed decimal: displayed
quantities need not be whole lots. Times are ms since the epoch.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.tally import Aggregate, Candle, Tally

SPOT: Final = "binance-spot"
USDM: Final = "binance-usdm"
SPOT_DECIMALS: Final = 8
CACHED_NUMBERS: Final = 1 << 16

Levels = Sequence[tuple[int, int]]  # (tick, atoms), best first


class Shown(NamedTuple):
    """A book as a client may see it: the id of its last update, and levels best first."""

    last_id: int
    bids: Levels
    asks: Levels

    def touch(self) -> tuple[int, int, int, int]:
        """Bid tick, bid atoms, ask tick, ask atoms; zeros for an empty side."""
        none = (0, 0)
        return (*(self.bids[0] if self.bids else none), *(self.asks[0] if self.asks else none))


class PublicText:
    """The messages of one symbol of `binance-spot` or `binance-usdm`.

    Raises ValueError for any other venue.
    """

    def __init__(self, instrument: Instrument) -> None:
        if instrument.venue not in (SPOT, USDM):
            raise ValueError(f"no public messages are known for {instrument.venue}")
        self.instrument = instrument
        self.futures = instrument.venue == USDM
        self.symbol = instrument.symbol
        self._symbol = instrument.symbol.encode()
        self.price_decimals = SPOT_DECIMALS if not self.futures else decimals(instrument.tick)
        self.qty_decimals = SPOT_DECIMALS if not self.futures else decimals(instrument.lot)
        tick_atoms = instrument.tick.scaleb(self.price_decimals)
        lot_atoms = instrument.lot.scaleb(self.qty_decimals)
        if tick_atoms != int(tick_atoms) or lot_atoms != int(lot_atoms):
            raise ValueError(f"{instrument.symbol}: a tick or lot finer than the venue can say")
        self.lot_atoms = int(lot_atoms)
        self.price = numbers(self.price_decimals, int(tick_atoms))
        self.quantity = numbers(self.qty_decimals, 1)
        self._value_of_one = instrument.tick * instrument.lot  # of one tick times one lot

    def lots(self, lots: int) -> bytes:
        """A quantity given in lots."""
        return self.quantity(lots * self.lot_atoms)

    def value(self, tick_lots: int) -> bytes:
        """Quote currency, from a sum of tick x lots."""
        return b"%.8f" % float(self._value_of_one * tick_lots)

    def levels(self, levels: Levels) -> bytes:
        """`[["price","quantity"],…]` in the given order."""
        price, quantity = self.price, self.quantity
        return (
            b"["
            + b",".join([b'["%b","%b"]' % (price(tick), quantity(q)) for tick, q in levels])
            + b"]"
        )

    def trade(
        self, now: int, at: int, trade_id: int, tick: int, lots: int, aggressor: Side
    ) -> bytes:
        """Stream `<symbol>@trade`; `m` says that the buyer was the maker."""
        maker = b"true" if aggressor == Side.SELL else b"false"
        price, quantity = self.price(tick), self.lots(lots)
        if self.futures:
            return (
                b'{"e":"trade","E":%d,"T":%d,"s":"%b","t":%d,"p":"%b","q":"%b","X":"MARKET","m":%b}'
            ) % (now, at, self._symbol, trade_id, price, quantity, maker)
        return b'{"e":"trade","E":%d,"s":"%b","t":%d,"p":"%b","q":"%b","T":%d,"m":%b,"M":true}' % (
            now,
            self._symbol,
            trade_id,
            price,
            quantity,
            at,
            maker,
        )

    def aggregate(self, now: int, trade: Aggregate) -> bytes:
        """Stream `<symbol>@aggTrade`: what one taker order traded at one price."""
        return b'{"e":"aggTrade","E":%d,"s":"%b",%b}' % (
            now,
            self._symbol,
            self.aggregate_fields(trade),
        )

    def aggregate_fields(self, trade: Aggregate) -> bytes:
        """The members that the stream and GET aggTrades share."""
        maker = b"true" if trade.aggressor == Side.SELL else b"false"
        ignored = b"" if self.futures else b',"M":true'
        return b'"a":%d,"p":"%b","q":"%b","f":%d,"l":%d,"T":%d,"m":%b%b' % (
            trade.aggregate_id,
            self.price(trade.tick),
            self.lots(trade.lots),
            trade.first_id,
            trade.last_id,
            trade.at,
            maker,
            ignored,
        )

    def book_ticker(self, now: int, at: int, book: Shown) -> bytes:
        """Stream `<symbol>@bookTicker`, from a book's first levels; spot states no time."""
        bid, bid_qty, ask, ask_qty = book.touch()
        touch = b'"u":%d,"s":"%b","b":"%b","B":"%b","a":"%b","A":"%b"' % (
            book.last_id,
            self._symbol,
            self.price(bid),
            self.quantity(bid_qty),
            self.price(ask),
            self.quantity(ask_qty),
        )
        if self.futures:
            return b'{"e":"bookTicker",%b,"T":%d,"E":%d}' % (touch, at, now)
        return b"{%b}" % touch

    def depth_update(self, now: int, at: int, first_id: int, prev_id: int, changed: Shown) -> bytes:
        """Stream `<symbol>@depth`: absolute quantities of changed levels, 0 removes.

        `prev_id` is the last id of this stream's event before.
        """
        sides = b'"b":%b,"a":%b' % (self.levels(changed.bids), self.levels(changed.asks))
        if self.futures:
            return b'{"e":"depthUpdate","E":%d,"T":%d,"s":"%b","U":%d,"u":%d,"pu":%d,%b}' % (
                now,
                at,
                self._symbol,
                first_id,
                changed.last_id,
                prev_id,
                sides,
            )
        return b'{"e":"depthUpdate","E":%d,"s":"%b","U":%d,"u":%d,%b}' % (
            now,
            self._symbol,
            first_id,
            changed.last_id,
            sides,
        )

    def partial(self, now: int, at: int, first_id: int, prev_id: int, book: Shown) -> bytes:
        """Stream `<symbol>@depth<levels>`: spot sends a snapshot, USD-M a depthUpdate."""
        if self.futures:
            return self.depth_update(now, at, first_id, prev_id, book)
        return self.snapshot(now, at, book)

    def snapshot(self, now: int, at: int, book: Shown) -> bytes:
        """GET depth."""
        times = b'"E":%d,"T":%d,' % (now, at) if self.futures else b""
        return b'{"lastUpdateId":%d,%b"bids":%b,"asks":%b}' % (
            book.last_id,
            times,
            self.levels(book.bids),
            self.levels(book.asks),
        )

    def day(self, now: int, tally: Tally, book: Shown) -> bytes:
        """Stream `<symbol>@ticker`; the best levels are told on spot only."""
        values = self.day_numbers(now, tally)
        spot = b""
        if not self.futures:
            bid, bid_qty, ask, ask_qty = book.touch()
            spot = b'"x":"%b","b":"%b","B":"%b","a":"%b","A":"%b",' % (
                self.price(tally.day.open),
                self.price(bid),
                self.quantity(bid_qty),
                self.price(ask),
                self.quantity(ask_qty),
            )
        members = b",".join([b'"%b":"%b"' % (key, values[name]) for key, name in _DAY])
        return b'{"e":"24hrTicker","E":%d,"s":"%b",%b%b,"O":%d,"C":%d,"F":%d,"L":%d,"n":%d}' % (
            now,
            self._symbol,
            spot,
            members,
            tally.since,
            now,
            tally.day.first_id,
            tally.day.last_id,
            tally.day.count,
        )

    def mini_day(self, now: int, tally: Tally) -> bytes:
        """Stream `<symbol>@miniTicker`."""
        values = self.day_numbers(now, tally)
        members = b",".join([b'"%b":"%b"' % (key, values[name]) for key, name in _MINI])
        return b'{"e":"24hrMiniTicker","E":%d,"s":"%b",%b}' % (now, self._symbol, members)

    def day_numbers(self, now: int, tally: Tally) -> dict[str, bytes]:
        """The statistics of a day by the names of GET ticker/24hr, as texts."""
        day = tally.day
        change = Decimal(day.close - day.open) * self.instrument.tick
        percent = 100 * (day.close - day.open) / day.open if day.open else 0.0
        average = self._value_of_one * day.value / (self.instrument.lot * day.lots or 1)
        return {
            "priceChange": b"%.*f" % (self.price_decimals, float(change)),
            "priceChangePercent": b"%.3f" % percent,
            "weightedAvgPrice": b"%.*f" % (self.price_decimals, float(average)),
            "lastPrice": self.price(day.close),
            "lastQty": self.lots(tally.last_lots),
            "openPrice": self.price(day.open),
            "highPrice": self.price(day.high),
            "lowPrice": self.price(day.low),
            "volume": self.lots(day.lots),
            "quoteVolume": self.value(day.value),
        }

    def candle(self, now: int, interval: str, ends: int, candle: Candle) -> bytes:
        """Stream `<symbol>@kline_<interval>`; `ends` is the first ms behind the candle."""
        return (
            b'{"e":"kline","E":%d,"s":"%b","k":{"t":%d,"T":%d,"s":"%b","i":"%b","f":%d,"L":%d,'
            b'"o":"%b","c":"%b","h":"%b","l":"%b","v":"%b","n":%d,"x":%b,"q":"%b","V":"%b",'
            b'"Q":"%b","B":"0"}}'
        ) % (
            now,
            self._symbol,
            candle.opened,
            ends - 1,
            self._symbol,
            interval.encode(),
            candle.first_id,
            candle.last_id,
            self.price(candle.open),
            self.price(candle.close),
            self.price(candle.high),
            self.price(candle.low),
            self.lots(candle.lots),
            candle.count,
            b"true" if now >= ends else b"false",
            self.value(candle.value),
            self.lots(candle.bought_lots),
            self.value(candle.bought_value),
        )

    def candle_row(self, ends: int, candle: Candle) -> bytes:
        """One row of GET klines."""
        return b'[%d,"%b","%b","%b","%b","%b",%d,"%b",%d,"%b","%b","0"]' % (
            candle.opened,
            self.price(candle.open),
            self.price(candle.high),
            self.price(candle.low),
            self.price(candle.close),
            self.lots(candle.lots),
            ends - 1,
            self.value(candle.value),
            candle.count,
            self.lots(candle.bought_lots),
            self.value(candle.bought_value),
        )

    def __repr__(self) -> str:
        return f"<PublicText {self.instrument.venue} {self.symbol}>"


def decimals(step: Decimal) -> int:
    """Decimal places that a step is written with; 0.10 has two, as the venue shows it."""
    exponent = step.as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def numbers(places: int, atoms: int) -> Callable[[int], bytes]:
    """A function from n to the text of n x atoms / 10^places, exact; prices recur, so cached."""
    one = 10**places
    form = b"%d.%0" + b"%d" % places + b"d"

    @lru_cache(CACHED_NUMBERS)
    def text(n: int) -> bytes:
        assert n >= 0
        if places == 0:
            return b"%d" % (n * atoms)
        found: bytes = form % divmod(n * atoms, one)
        return found

    return text


_DAY: Final = (
    (b"p", "priceChange"),
    (b"P", "priceChangePercent"),
    (b"w", "weightedAvgPrice"),
    (b"c", "lastPrice"),
    (b"Q", "lastQty"),
    (b"o", "openPrice"),
    (b"h", "highPrice"),
    (b"l", "lowPrice"),
    (b"v", "volume"),
    (b"q", "quoteVolume"),
)
_MINI: Final = (
    (b"c", "lastPrice"),
    (b"o", "openPrice"),
    (b"h", "highPrice"),
    (b"l", "lowPrice"),
    (b"v", "volume"),
    (b"q", "quoteVolume"),
)
