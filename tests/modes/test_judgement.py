"""What the venue's answers mean, judged without asking anybody."""

from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

from bot.domain.instrument import Fees, Instrument
from bot.domain.units import Side
from bot.modes import judgement
from bot.modes.preflight import Finding, Level
from bot.modes.settings import Loaded, load
from bot.venues.orderentry import Holdings, OrderReport, Permissions, Status

CONFIG = Path(__file__).resolve().parents[2] / "config"
PRICE = Decimal(60_000)
ZERO = Decimal(0)


@cache
def loaded(venue: str = "usdm", *sets: str) -> Loaded:
    return load(CONFIG / f"testnet-binance-{venue}.yaml", env={}, sets=sets)


def listed(**changed: Decimal | int) -> Instrument:
    whole = loaded().instrument
    fields = {name: getattr(whole, name) for name in Instrument.__struct_fields__}
    return Instrument(**(fields | changed))


@pytest.mark.parametrize(
    ("ms", "level"),
    [(0, "ok"), (-150, "ok"), (151, "warn"), (-1_000, "warn"), (1_001, "fail"), (-9_999, "fail")],
)
def test_the_clock(ms: int, level: str) -> None:
    found = judgement.offset(ms)
    assert found.level.value == level
    assert ("behind" if ms < 0 else "ahead") in found.text
    assert "requests are signed in its time" in found.text


@pytest.mark.parametrize(
    ("key", "live", "level", "words"),
    [
        (Permissions(True, False, False, True), True, "ok", "may trade"),
        (Permissions(True, True, False, True), False, "fail", "may withdraw"),
        (Permissions(True, False, True, True), False, "fail", "may transfer funds"),
        (Permissions(False, False, False, True), False, "fail", "may not trade"),
        (Permissions(True, False, False, False), False, "warn", "from every address"),
        (Permissions(True, False, False, False), True, "fail", "from every address"),
    ],
)
def test_permissions(key: Permissions, live: bool, level: str, words: str) -> None:
    found = judgement.permissions(key, live=live)
    assert found.level.value == level
    assert words in found.text


def test_a_stated_step_is_held_against_the_venues_and_the_tables_is_not() -> None:
    other = listed(lot=Decimal("0.005"), tick=Decimal("0.5"))
    assert judgement.filters(loaded(), other).level is Level.OK
    for key in ("lot", "tick"):
        stated = loaded("usdm", f"instrument.{key}={getattr(listed(), key)}")
        assert judgement.filters(stated, other).text.startswith(f"instrument.{key} is 0.")
    # The venue's own least order is held against the ladder's smallest.
    found = judgement.filters(loaded(), listed(min_qty_lots=11))
    assert "the smallest order of BTCUSDT is 0.011" in found.text


def test_orders_must_be_whole_lots() -> None:
    settings = loaded("usdm", "quote.unit_qty=0.011").settings
    found = judgement.orders(settings, listed(), PRICE)
    assert found.text == (
        "level 2 of ladder.sizes_units is 0.0165 BTC, no whole number of lots of 0.001: "
        "the smallest right quote.unit_qty is 0.002"
    )


def test_the_smallest_right_unit_is_right_and_the_next_smaller_is_not() -> None:
    for sizes in ("[1.0]", "[1.0, 1.5]", "[0.25, 1.0, 2.0]", "[3.0]"):
        for price in ("60000", "99.99", "100"):
            at = Decimal(price)
            settings = loaded("usdm", f"ladder.sizes_units={sizes}").settings
            unit = judgement.smallest_unit(settings, listed(), at)
            assert unit is not None

            def right(qty: Decimal, sizes: str = sizes, at: Decimal = at) -> bool:
                orders = [Decimal(size) * qty for size in sizes.strip("[]").split(",")]
                return all(
                    one % listed().lot == 0 and one * at >= listed().min_notional and one > 0
                    for one in orders
                )

            assert right(unit)
            smaller = unit - listed().lot
            while smaller > max(unit - 50 * listed().lot, ZERO):
                assert not right(smaller), (sizes, price, smaller)
                smaller -= listed().lot


def test_a_ladder_without_whole_lots_has_no_hint() -> None:
    settings = loaded("usdm", "ladder.sizes_units=[1.0, 1.000001]").settings
    found = judgement.orders(settings, listed(), PRICE)
    assert found.level is Level.FAIL
    assert "smallest" not in found.text


def test_an_order_of_exactly_the_least_value_is_right() -> None:
    settings = loaded("usdm", "quote.unit_qty=0.002", "ladder.sizes_units=[1.0]").settings
    assert judgement.orders(settings, listed(), Decimal(50_000)).level is Level.OK
    assert judgement.orders(settings, listed(), Decimal("49999.9")).level is Level.FAIL


def test_fees() -> None:
    rates = Fees(Decimal("0.0001"), Decimal("0.0004"))
    found = judgement.fees(loaded(), listed(), rates)
    assert (found.level, found.text) == (
        Level.WARN,
        "maker 1 bp, taker 4 bp, which is used; the config says maker 2 bp, taker 5 bp",
    )
    assert judgement.fees(loaded(), listed(), loaded().fees).level is Level.OK
    high = judgement.fees(loaded(), listed(), Fees(Decimal("0.01"), Decimal("0.01")))
    assert high.level is Level.FAIL
    assert "risk.collar_bps (100.0) must be greater" in high.text


@pytest.mark.parametrize(
    ("quote", "held", "level"),
    # 0.2 BTC at 60,000 and leverage 20 are 600; half of it is held already.
    [("600", "0", "ok"), ("599.99", "0", "fail"), ("300", "-0.1", "ok"), ("0", "0.3", "ok")],
)
def test_margin_for_the_rest_of_the_way_to_the_largest_position(
    quote: str, held: str, level: str
) -> None:
    holdings = Holdings(Decimal(held), Decimal(quote))
    found = judgement.funds(loaded().settings, listed(), holdings, PRICE, 20)
    assert found.level.value == level


@pytest.mark.parametrize(
    ("quote", "base", "level"),
    [("150", "0.0025", "ok"), ("149.99", "0.0025", "fail"), ("150", "0.00249", "fail")],
)
def test_spot_covers_the_ladder_on_both_sides(quote: str, base: str, level: str) -> None:
    config = loaded("spot")
    holdings = Holdings(Decimal(base), Decimal(quote), Decimal(base))
    found = judgement.funds(config.settings, config.instrument, holdings, PRICE, None)
    assert found.level.value == level


@pytest.mark.parametrize(
    ("held", "neutral", "level", "words"),
    [
        ("1.2", None, "ok", "1.2 BTC held; the balance at the first start is neutral"),
        ("1.2", "1.2", "ok", "flat"),
        ("1.19", "1.2", "warn", "a position of -0.01 BTC is held"),
        ("1", "1.2", "fail", "-0.2 BTC is held, beyond risk.max_position_qty (0.02)"),
    ],
)
def test_a_spot_position_is_counted_from_its_neutral_balance(
    held: str, neutral: str | None, level: str, words: str
) -> None:
    config, holdings = loaded("spot"), Holdings(Decimal(held), ZERO)
    from_ = None if neutral is None else Decimal(neutral)
    found = judgement.position(config.settings, config.instrument, holdings, from_)
    assert found.level.value == level
    assert words in found.text


def report(order_id: str) -> OrderReport:
    return OrderReport(order_id, "1", Status.OPEN, Side.BUY, 600_000, 10, 0)


def test_open_orders_are_told_by_whose_they_are() -> None:
    assert judgement.open_orders([]) == Finding("open orders", Level.OK, "none")
    found = judgement.open_orders([report("web_1"), report("web_2")])
    assert found.text == "there are 2 of others, which are left alone"


def test_orders_of_an_earlier_run_excuse_a_lack_of_funds() -> None:
    lack = Finding("funds", Level.FAIL, "too little")
    assert judgement.bound(lack, [report("web_1")]) == lack
    assert judgement.bound(lack, [report("mm0a1b2c-1")]).level is Level.WARN
    enough = Finding("funds", Level.OK, "enough")
    assert judgement.bound(enough, [report("mm0a1b2c-1")]) == enough
