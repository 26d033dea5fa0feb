"""The preflight over real sockets: each mistake is one sentence, and nothing is changed."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.account import InForce, Kind, NewOrder
from bot.domain.units import Side
from bot.modes.examine import examine
from bot.modes.preflight import Level, PreflightRefused, VenueUnreachable, refuse_if_failed
from bot.modes.terms import with_terms
from bot.shell.clock import Clock
from bot.shell.heartbeat import State
from bot.shell.lease import Lease
from bot.shell.wire import CallFailed, NotSent
from bot.venues.binance.ordercodec import order_codec
from bot.venues.binance.refusals import refusal
from bot.venues.orderentry import Call, Refusal, Verdict
from tests.modes.checkbench import Bench, Off, benched, failed, levels, named

TOUCH = {"symbol": "BTCUSDT", "bidPrice": "60000", "askPrice": "60000.1"}
PRIVATE = ("/fapi/v3/account", "/fapi/v1/openOrders", "/fapi/v1/commissionRate")


async def test_usdm_is_asked_for_everything_and_its_terms_are_had(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        found = await bench.check()
        assert levels(found) == {}
        assert [one.name for one in found.findings] == [
            *("config", "disk", "lease", "venue", "clock", "filters", "orders", "key"),
            *("permissions", "fees", "position mode", "open orders", "position", "funds"),
            *("dead man", "feed"),
        ]
        assert found.code == 0
        assert found.instrument == bench.server.instrument
        assert found.holdings is not None
        assert found.holdings.quote == 100_000
        assert abs(found.offset_ms or 0) < 100
        refuse_if_failed(found)
        assert with_terms(bench.loaded(), found).fees == found.fees
        assert named(found, "dead man").text.startswith("the venue cancels everything after 15 s")


async def test_spot_wants_its_watchdog(tmp_path: Path) -> None:
    async with benched(tmp_path, "binance-spot") as bench:
        sentence = failed(await bench.check())
        assert "a watchdog must run beside the bot" in sentence
        assert sentence.endswith("no watchdog was seen: start `mmbot watchdog`")
        async with bench.watched():
            found = await bench.check()
        assert levels(found) == {}
        assert "neutral" in named(found, "position").text
        async with bench.watched(State.BLIND):
            assert "cannot reach the venue" in failed(await bench.check())


# --- the key ------------------------------------------------------------------------------------


async def test_a_key_that_nobody_has_ends_the_asking(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        bench.env["MMBOT_API_KEY"] = "k" * 64
        found = await bench.check()
        assert failed(found).startswith("the API key is not known here, may not be used from this")
        signed = [path for _, path in bench.asked if path in PRIVATE]
        assert signed == [PRIVATE[0]]
        with pytest.raises(PreflightRefused, match="the API key is not known here"):
            refuse_if_failed(found)


async def test_a_secret_of_another_key(tmp_path: Path) -> None:
    async with benched(tmp_path, "binance-spot") as bench:
        bench.env["MMBOT_SECRET"] = "s" * 64
        async with bench.watched():
            sentence = failed(await bench.check())
        assert sentence == (
            "the signature is wrong: this is not the secret that belongs to the API key"
        )


async def test_a_key_that_may_withdraw(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        bench.seat.may_withdraw = True
        assert failed(await bench.check()) == (
            "the API key may withdraw, which this bot never needs: take that permission away"
        )


async def test_a_key_that_may_not_trade_or_comes_from_anywhere(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        bench.seat.may_trade = False
        assert failed(await bench.check()).startswith("the API key may not trade")
        bench.seat.may_trade, bench.seat.ip_restricted = True, False
        found = await bench.check()
        assert (found.code, levels(found)) == (0, {"permissions": "warn"})


# --- the clock ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ms", "level", "words"),
    [(3_000, "fail", "ms ahead of the venue's"), (-400, "warn", "ms behind the venue's")],
)
async def test_a_clock_that_is_off_is_told_and_still_signs(
    tmp_path: Path, ms: int, level: str, words: str
) -> None:
    async with benched(tmp_path) as bench:
        bench.clock = Off(ms)
        found = await bench.check()
        assert levels(found) == {"clock": level}
        assert words in named(found, "clock").text
        assert abs((found.offset_ms or 0) - ms) < 100
        assert found.code == (3 if level == "fail" else 0)
        assert named(found, "key").level is Level.OK


# --- the symbol ---------------------------------------------------------------------------------


async def test_an_unknown_symbol(tmp_path: Path) -> None:
    for venue in ("binance-usdm", "binance-spot"):
        async with benched(tmp_path, venue) as bench:
            sets = ["symbol=NOCOINUSDT", "instrument.tick=0.1", "instrument.lot=0.001"]
            found = await bench.check(*sets)
            assert named(found, "filters").level is Level.FAIL
            assert named(found, "filters").text == f"{venue} does not list NOCOINUSDT"
            assert found.code == 3
            assert named(found, "key").level is Level.OK  # the rest is still told


async def test_a_symbol_that_does_not_trade(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        bench.server.desk.public.status = "BREAK"
        assert "BTCUSDT" in failed(await bench.check())
        assert "BREAK" in failed(await bench.check())


async def test_a_tick_that_the_user_stated_and_the_venue_does_not_have(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        assert failed(await bench.check("instrument.tick=0.5")) == (
            "instrument.tick is 0.5, but the venue's is 0.1: leave it out, or correct it"
        )


async def test_filters_of_the_table_give_way(tmp_path: Path) -> None:
    async with benched(tmp_path, lot=Decimal("0.002"), tick=Decimal("0.20")) as bench:
        found = await bench.check("quote.unit_qty=0.004")
        assert levels(found) == {}
        loaded = with_terms(bench.loaded("quote.unit_qty=0.004"), found)
        assert (loaded.instrument.tick, loaded.params.quote.unit_lots) == (Decimal("0.20"), 2)
        assert failed(await bench.check("quote.unit_qty=0.005")).startswith(
            "by the venue's filters quote.unit_qty is 0.005, which is not a whole number of lots "
            "of 0.002, the nearest right value is 0.004"
        )


async def test_orders_that_are_worth_too_little(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        sentence = failed(await bench.check("quote.unit_qty=0.001", "ladder.sizes_units=[1.0]"))
        assert sentence.startswith("an order of 0.001 BTC is worth 6")
        assert "less than the venue's 100" in sentence
        assert sentence.endswith("the smallest right quote.unit_qty is 0.002")


# --- the account --------------------------------------------------------------------------------


async def test_too_little_money(tmp_path: Path) -> None:
    async with benched(tmp_path, deposits={"USDT": Decimal(500)}) as bench:
        sentence = failed(await bench.check())
        assert sentence.startswith("500 USDT is free, but risk.max_position_qty at 6")
        assert "leverage 20 needs 6" in sentence
    deposits = {"USDT": Decimal(1_000), "BTC": Decimal("0.001")}
    async with (
        benched(tmp_path, "binance-spot", deposits=deposits) as bench,
        bench.watched(),
    ):
        sentence = failed(await bench.check())
        assert sentence.startswith("0.001 BTC is free, but the ladder's orders at 6")
        assert sentence.endswith("needs 0.0025: add funds, or lower the sizes")


async def test_what_the_venue_charges_is_used_and_told(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        found = await bench.check("fees.maker_bp=1.0")
        assert levels(found) == {"fees": "warn"}
        assert named(found, "fees").text == (
            "maker 2 bp, taker 5 bp, which is used; the config says maker 1 bp, taker 5 bp"
        )
        assert failed(await bench.check("fees.maker_bp=0.5", "risk.collar_bps=2.0")).startswith(
            "by the account's fees risk.collar_bps (2.0) must be greater than"
        )


def rest(bench: Bench, client_id: str, side: Side = Side.BUY, lots: int = 10) -> None:
    account = bench.seat.account
    tick = account.mark() - side * 2_000
    wanted = NewOrder(
        client_id=client_id, side=side, kind=Kind.LIMIT, in_force=InForce.GTC, tick=tick, lots=lots
    )
    account.place(bench.server.virtual(bench.clock.now()), wanted)


async def test_orders_that_rest_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with benched(tmp_path) as bench:
        rest(bench, "mm0a1b2c-7")
        rest(bench, "by-hand")
        before = bench.seat.account.open_orders()
        monkeypatch.setattr(bench.seat.account, "orders", list)  # the bench asks for none
        found = await bench.check()
        assert (found.code, levels(found)) == (0, {"open orders": "warn"})
        assert named(found, "open orders").text == (
            "there are 1 of an earlier run, which will be cancelled and 1 of others, "
            "which are left alone"
        )
        assert bench.seat.account.open_orders() == before


async def test_a_position_is_told_and_one_beyond_the_limit_refused(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        bench.seat.account.wallet.book(Side.BUY, 10 * bench.seat.account.mark(), 10, maker=True)
        found = await bench.check()
        assert (found.code, levels(found)) == (0, {"position": "warn"})
        assert named(found, "position").text == "a position of 0.01 BTC is held"
        bench.seat.account.wallet.book(Side.BUY, 400 * bench.seat.account.mark(), 400, maker=True)
        assert failed(await bench.check()) == (
            "a position of 0.41 BTC is held, beyond risk.max_position_qty (0.2): reduce it first"
        )


# --- this machine -------------------------------------------------------------------------------


async def test_another_bot_has_the_account(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        with Lease(Path(bench.env["MMBOT_STATE"]), bench.name):
            sentence = failed(await bench.check())
        assert "already is the bot for this venue, symbol and API key" in sentence
        assert levels(await bench.check()) == {}


# --- the venue's silence ------------------------------------------------------------------------


async def test_a_venue_that_is_not_there(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        await bench.server.close()
        found = await bench.check()
        assert found.unreachable
        assert failed(found).startswith(f"http://127.0.0.1:{bench.server.port} cannot be reached")
        with pytest.raises(VenueUnreachable, match="cannot be reached"):
            refuse_if_failed(found)


class Told:
    """A line on which everything is answered as told, and what is not by the time."""

    def __init__(self, bench: Bench, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self._now = bench.clock.now

    def set_offset(self, ms: int) -> None:
        self.offset = ms

    async def call(self, call: Call) -> Any:
        self.calls.append(call.method)
        answer = self.answers.get(call.method, {"serverTime": self._now() // 1_000_000})
        if isinstance(answer, Exception):
            raise answer
        return answer


def venue_says(status: int, code: int | None, text: str, wait_s: float = 0.0) -> CallFailed:
    return CallFailed(refusal("binance-usdm", status, code, text, None, wait_s), code, text)


@pytest.mark.parametrize(
    ("failure", "tries", "words"),
    [
        (venue_says(418, None, "", 77.0), 1, r"wants no request for 77 s \(banned\)"),
        (venue_says(503, None, "Service Unavailable"), 2, r"cannot be reached \(unlisted\)"),
        (venue_says(503, -1001, "Internal error"), 2, r"cannot be reached \(internal\)"),
        (CallFailed(Refusal(Verdict.UNKNOWN, "timeout")), 2, r"cannot be reached \(timeout\)"),
        (NotSent(Refusal(Verdict.REJECTED, "no_name")), 2, r"cannot be reached \(no_name\)"),
    ],
)
async def test_silence_is_told_apart_from_refusal(
    tmp_path: Path, failure: CallFailed, tries: int, words: str
) -> None:
    async with benched(tmp_path) as bench:
        line = Told(bench, {"fapiPublicGetTime": failure})
        found = await told(bench, line)
        assert line.calls == ["fapiPublicGetTime"] * tries
        with pytest.raises(VenueUnreachable, match=words):
            refuse_if_failed(found)


async def test_what_answers_may_be_something_else(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        found = await told(bench, Told(bench, {"fapiPublicGetTime": {"hello": "world"}}))
        with pytest.raises(VenueUnreachable, match="what answers is not"):
            refuse_if_failed(found)


async def test_a_refusal_is_a_finding_and_not_asked_again(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        line = Told(bench, {"fapiPublicGetExchangeInfo": venue_says(400, -1102, "What?")})
        line.answers["fapiPrivateV3GetAccount"] = venue_says(401, -2014, "API-key format invalid.")
        found = await told(bench, line)
        assert named(found, "filters").text == "the venue refuses to answer: What? (-1102)"
        assert named(found, "key").text == "what was given as API key does not have the form of one"
        assert line.calls.count("fapiPublicGetExchangeInfo") == 1


async def test_hedge_mode_and_times_that_the_venue_refuses(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        line = Told(
            bench,
            {
                "fapiPublicGetExchangeInfo": _listing(bench),
                "fapiPublicGetTickerBookTicker": TOUCH,
                "fapiPrivateV3GetAccount": {"assets": [], "positions": []},
                "sapiGetAccountApiRestrictions": {},
                "fapiPrivateGetCommissionRate": venue_says(400, -1021, "Timestamp"),
                "fapiPrivateGetPositionSideDual": {"dualSidePosition": True},
            },
        )
        found = await told(bench, line)
        assert named(found, "position mode").text.startswith("the account is in hedge mode")
        assert "set this machine's clock" in named(found, "fees").text
        assert named(found, "permissions").level is Level.FAIL  # an answer that says nothing
        assert "fapiPrivateGetOpenOrders" not in line.calls


def _listing(bench: Bench) -> Any:
    api = bench.server.desk.public
    return msgspec.json.decode(api.answer("/fapi/v1/exchangeInfo", {}, 1).body)


async def told(bench: Bench, line: Told) -> Any:
    return await examine(
        bench.loaded(),
        line,
        lambda instrument: order_codec(instrument, "mm0a1b2c"),
        Clock(),
        state=bench.folder / "state",
        name="x",
        holding_lease=True,
    )
