"""A venue without sockets: an exchange, two accounts on it, and requests signed as ccxt does."""

import json
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from bot.domain.instrument import Fees, Instrument
from bot.domain.units import Side
from bot.sim.account import Account
from bot.sim.exchange import FLOW, Exchange
from bot.venues.binance.desk import Desk
from bot.venues.binance.publicapi import PublicApi
from bot.venues.binance.publictext import PublicText, Shown
from bot.venues.binance.reply import Reply, Request
from bot.venues.binance.seat import Seat
from bot.venues.binance.signing import signature_of
from bot.venues.binance.tally import Tally
from tests.shell.fakemarket import MIDDLE, SPOT, USDM

NOW = 1_700_000_000_000
AT = NOW * 1_000_000
FEES = Fees(Decimal("0.0002"), Decimal("0.0005"))
KEY, SECRET = "a-key", "a-secret"
DEPOSITS = {"USDT": Decimal(10_000), "BTC": Decimal("0.2")}
ROOTS = {SPOT.venue: "/api/v3/", USDM.venue: "/fapi/v1/"}
ORDER = {
    SPOT: {"symbol": "BTCUSDT", "type": "LIMIT_MAKER", "quantity": "0.01"},
    USDM: {"symbol": "BTCUSDT", "type": "LIMIT", "timeInForce": "GTX", "quantity": "0.010"},
}


class Stage:
    """Books of 0.1 BTC at five ticks a side around the middle; the clock moves when told."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.now = NOW
        self.exchange = Exchange()
        self.size = int(Decimal("0.1") / instrument.lot)
        for i in range(1, 6):
            self.exchange.place(0, FLOW, Side.BUY, MIDDLE - i, self.size)
            self.exchange.place(0, FLOW, Side.SELL, MIDDLE + i, self.size)
        accounts = [
            Account(self.exchange, instrument, FEES, owner=owner, deposits=DEPOSITS, now=AT)
            for owner in (1, 2)
        ]
        self.account = accounts[0]
        public = PublicApi(PublicText(instrument), Tally(0), lambda limit: Shown(1, [], []))
        keys = [(KEY, SECRET), ("other-key", "other-secret")]
        self.seats = [
            Seat(instrument.venue, *key, account)
            for key, account in zip(keys, accounts, strict=True)
        ]
        self.desk = Desk(public, self.seats, lambda: self.now)
        self.limit_order = ORDER[instrument] | {"side": "BUY", "price": self.price(MIDDLE - 1)}

    def price(self, tick: int) -> str:
        return f"{self.instrument.price(tick):f}"

    def send(self, request: Request) -> Reply:
        return self.desk.answer(request, self.now, self.now * 1_000_000)

    def request(
        self, method: str, name: str, key: str = KEY, secret: str = SECRET, **params: Any
    ) -> Request:
        """Signed in the body of a POST or PUT, else in the query."""
        path = name if name.startswith("/") else ROOTS[self.instrument.venue] + name
        payload = urlencode({"timestamp": self.now} | params)
        payload += "&signature=" + signature_of(secret, payload)
        if method in ("POST", "PUT"):
            return Request(method, path, "", payload, key)
        return Request(method, path, payload, "", key)

    def ask(self, method: str, name: str, **params: Any) -> Any:
        """What a request is answered, which must succeed."""
        reply = self.send(self.request(method, name, **params))
        assert reply.status == 200, reply
        return json.loads(reply.body)

    def refused(self, method: str, name: str, **params: Any) -> tuple[int, int, str]:
        """Status, code and words of a refusal."""
        reply = self.send(self.request(method, name, **params))
        assert reply.status >= 400, reply
        body = json.loads(reply.body)
        return reply.status, body["code"], body["msg"]

    def place(self, tick: int = MIDDLE - 1, **more: Any) -> Any:
        """A limit order of ours."""
        return self.ask("POST", "order", **(self.limit_order | {"price": self.price(tick)} | more))

    def flow(self, side: Side, tick: int, lots: int) -> None:
        """Somebody takes."""
        self.exchange.place(self.now * 1_000_000, FLOW, side, tick, lots, ioc=True)

    def events(self) -> list[Any]:
        """What clients hear."""
        return [json.loads(raw) for _, raw in self.desk.events(self.now)]
