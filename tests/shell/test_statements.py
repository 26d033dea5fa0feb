from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from bot.domain.events import Filled, FillRecovered
from bot.domain.units import NS_PER_S, Side
from bot.shell.statements import ReadFailed, Statements, fill_key, told
from bot.venues.binance.ids import is_own
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Call, Execution, Refusal, Status, Verdict
from tests.shell.account import BAD_KEY, LOST, T0, USDM, Time, Venue, statements


@pytest.fixture
def world() -> SimpleNamespace:
    time = Time()
    venue = Venue(time)
    return SimpleNamespace(time=time, venue=venue, ask=statements(venue))


async def trade(world: SimpleNamespace, n: int, spacing_s: float = 0.0) -> None:
    world.venue.rest("mm-1", lots=10_000)
    for _ in range(n):
        world.venue.fill("mm-1", 1)
        await world.time.sleep(spacing_s)


async def test_open_orders_and_holdings(world: SimpleNamespace) -> None:
    world.venue.rest("mm-1")
    world.venue.rest("web_1")
    assert [one.order_id for one in await world.ask.open_orders()] == ["mm-1", "web_1"]
    assert (await world.ask.holdings()).position == 0


async def test_a_failure_is_no_answer(world: SimpleNamespace) -> None:
    world.venue.faults = {"open": [LOST], "holdings": [BAD_KEY]}
    with pytest.raises(ReadFailed, match="open: timeout"):
        await world.ask.open_orders()
    with pytest.raises(ReadFailed) as failure:
        await world.ask.holdings()
    assert failure.value.refusal == Refusal(Verdict.REJECTED, "bad_key", auth=True)


async def test_what_cannot_be_read_is_no_answer(world: SimpleNamespace) -> None:
    world.venue.faults = {"open": ["garbage"]}
    with pytest.raises(ReadFailed, match="open cannot be read: no JSON"):
        await world.ask.open_orders()


async def test_one_order(world: SimpleNamespace) -> None:
    world.venue.rest("mm-1")
    world.venue.end("mm-1")
    report = await world.ask.order("mm-1")
    assert report is not None
    assert report.status is Status.CANCELLED
    assert await world.ask.order("mm-2") is None
    world.venue.faults = {"order": [LOST]}
    with pytest.raises(ReadFailed, match="timeout"):
        await world.ask.order("mm-1")


@pytest.mark.parametrize("page", [1, 2, 3, 5, 7, 1_000])
async def test_executions_of_every_page_once(world: SimpleNamespace, page: int) -> None:
    await trade(world, 20, spacing_s=0.001)
    world.venue.cut(page)
    fills = await world.ask.executions(T0 - NS_PER_S)
    assert [fill.trade_id for fill in fills] == [f"t{n + 1}" for n in range(20)]
    assert len({fill_key(fill) for fill in fills}) == 20
    assert all(fill.order_id == "mm-1" for fill in fills)


@pytest.mark.parametrize(("known", "kind"), [(True, Filled), (False, FillRecovered)])
def test_an_execution_as_the_engine_learns_it(known: bool, kind: type[Any]) -> None:
    fee = Decimal("0.01")
    fill = Execution(T0, "", "v1", "t1", Side.SELL, 100, 5, True, fee, "USDT")
    event = told(fill, "mm-1", T0 + 7, known=known)
    assert type(event) is kind
    assert (event.at, event.order_id, event.trade_id) == (T0 + 7, "mm-1", "t1")
    assert (event.side, event.tick, event.lots, event.maker) == (Side.SELL, 100, 5, True)
    assert (event.fee, event.fee_currency) == (fee, "USDT")


async def test_a_failed_page_fails_all(world: SimpleNamespace) -> None:
    await trade(world, 9, spacing_s=0.001)
    world.venue.cut(3)
    world.venue.faults = {"fills": [None, None, LOST]}
    with pytest.raises(ReadFailed, match="fills: timeout"):
        await world.ask.executions(T0)


async def test_the_names_of_orders_come_in_pages_too(world: SimpleNamespace) -> None:
    for n in range(7):
        world.venue.rest(f"mm-{n}")
    world.venue.fill("mm-6", 1)
    world.venue.cut(3)
    assert [fill.order_id for fill in await world.ask.executions(T0)] == ["mm-6"]
    assert world.venue.asked == ["fills", "history", "history", "history"]


async def test_a_history_without_an_end_is_no_answer(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.shell.statements.PAGES_MAX", 3)
    await trade(world, 6)
    world.venue.cut(2)
    with pytest.raises(ReadFailed, match="does not end after 3 pages"):
        await world.ask.executions(T0)


async def test_executions_of_others_are_counted_and_left_out(world: SimpleNamespace) -> None:
    world.venue.rest("web_1")
    world.venue.fill("web_1", 2)
    await trade(world, 1)
    assert [fill.order_id for fill in await world.ask.executions(T0)] == ["mm-1"]
    assert world.ask.foreign_executions == 1


async def test_the_history_of_orders_is_only_read_for_a_name(world: SimpleNamespace) -> None:
    await trade(world, 1)
    await world.ask.open_orders()
    await world.ask.executions(T0)
    assert "history" not in world.venue.asked
    world.venue.rest("mm-2")
    world.venue.fill("mm-2", 5, Decimal("0.1"), "BNB")
    fills = await world.ask.executions(T0)
    assert [(fill.order_id, fill.fee) for fill in fills] == [
        ("mm-1", None),
        ("mm-2", Decimal("0.1")),
    ]
    assert world.venue.asked.count("history") == 1


async def test_names_in_executions_are_taken(world: SimpleNamespace) -> None:
    await trade(world, 2)
    world.venue.unnamed = False
    assert len(await world.ask.executions(T0)) == 2
    assert "history" not in world.venue.asked


async def test_binance_s_own_answers() -> None:
    """A full page of trades, the rest behind its last one, and the orders that name them."""
    instrument = replace(USDM, tick=Decimal("0.10"))
    codec = order_codec(instrument, "mm1a2b3c")
    trade = {"symbol": "BTCUSDT", "price": "61800.10", "qty": "0.002", "commission": "0.01",
             "commissionAsset": "USDT", "time": 1_700_000_000_123, "side": "SELL",
             "maker": True}  # fmt: skip
    order = {"symbol": "BTCUSDT", "status": "FILLED", "price": "61800.10", "origQty": "3.000",
             "executedQty": "3.000", "side": "SELL", "updateTime": 1_700_000_000_999}  # fmt: skip
    trades = [trade | {"id": n, "orderId": 7 if n % 2 else 8} for n in range(1, 1_501)]
    orders = [
        order | {"orderId": 7, "clientOrderId": "mm0f0f0f-3"},
        order | {"orderId": 8, "clientOrderId": "web_1"},
    ]
    asked: list[dict[str, Any]] = []

    async def ask(call: Call) -> Any:
        asked.append(call.params)
        if call.method == "fapiPrivateGetAllOrders":
            return orders
        assert call.method == "fapiPrivateGetUserTrades"
        return [one for one in trades if one["id"] >= call.params.get("fromId", 0)][:1_000]

    fills = await Statements(ask, codec, is_own).executions(T0)
    assert len(fills) == 750
    assert (fills[-1].trade_id, fills[-1].order_id) == ("1499", "mm0f0f0f-3")
    assert [call.get("fromId") for call in asked] == [None, 1_001, None]
    assert asked[0]["startTime"] == T0 // 1_000_000
