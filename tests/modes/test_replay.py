"""The real captures through the live engine: the book, the fills and the money."""

from decimal import Decimal
from pathlib import Path

import pytest

from bot.domain.instrument import Instrument
from bot.journal.capture import chunks
from bot.modes.enginerun import EngineRun, new_engine
from bot.modes.replay import exact, first_and_rest
from bot.modes.settings import ConfigError, load

ROOT = Path(__file__).parents[2]


def run(market: str, capture: Path, *sets: str) -> EngineRun:
    loaded = load(ROOT / "config" / f"paper-binance-{market}.yaml", env={}, sets=sets)
    replay = EngineRun(loaded)
    replay.feed_all(chunks([capture]))
    return replay


@pytest.fixture(scope="module")
def usdm(usdm_capture):
    return run("usdm", usdm_capture).result()


def test_the_usdm_capture_is_quoted_on_both_sides_and_filled(usdm):
    assert usdm["fills"] >= 10
    assert usdm["uptime"] > 0.9
    assert usdm["gaps"] == 0
    assert usdm["untrusted_ns"] == 0
    assert usdm["halts"] == []


def test_total_equals_its_parts(usdm):
    pnl = {name: Decimal(value) for name, value in usdm["pnl"].items()}
    parts = (
        pnl["spread"] + pnl["inventory"] - pnl["maker_fees"] - pnl["taker_fees"]
        + pnl["rebates"] + pnl["funding"]
    )  # fmt: skip
    assert pnl["total"] != 0
    assert abs(pnl["total"] - parts) <= Decimal("1e-9") * Decimal(usdm["turnover"])
    assert pnl["maker_fees"] == Decimal(usdm["turnover"]) * Decimal("0.0002")


def test_power3_fills_at_least_as_often_as_risk_averse(usdm, usdm_capture):
    power3 = run("usdm", usdm_capture, "paper.queue=power3").result()
    assert power3["fills"] >= usdm["fills"]


def test_the_same_capture_twice_makes_the_same_decisions(usdm, usdm_capture):
    again = run("usdm", usdm_capture).result()
    assert again["decisions_sha256"] == usdm["decisions_sha256"]


def test_frame_by_frame_makes_the_same_decisions(usdm, usdm_capture):
    loaded = load(ROOT / "config" / "paper-binance-usdm.yaml", env={})
    replay = EngineRun(loaded, rows_max=1)
    replay.feed_all(chunks([usdm_capture]))
    assert replay.result()["decisions_sha256"] == usdm["decisions_sha256"]


def test_the_spot_capture_trips_nothing(spot_capture):
    result = run("spot", spot_capture).result()
    assert (result["gaps"], result["halts"], result["untrusted_ns"]) == (0, [], 0)
    assert result["orders_placed"] > 0
    assert result["uptime"] > 0.9


def test_both_models_quote(usdm, usdm_capture):
    same = run("usdm", usdm_capture, "quote.model=avellaneda_stoikov").result()
    assert same["decisions_sha256"] == usdm["decisions_sha256"]
    fixed = run(
        "usdm", usdm_capture, "quote.model=avellaneda_stoikov", "quote.horizon_mode=fixed",
        "quote.horizon_s=10",
    ).result()  # fmt: skip
    assert fixed["orders_placed"] > 0
    assert fixed["decisions_sha256"] != usdm["decisions_sha256"]


def test_an_inverse_contract_is_refused_with_a_sentence():
    loaded = load(None, env={}, sets=["venue=binance-coinm", "symbol=BTCUSD_PERP"])
    with pytest.raises(ConfigError, match="--emit bbo"):
        new_engine(loaded)


def test_quantities_keep_digits_finer_than_the_lot():
    lot = Instrument("v", "S", "B", "Q", Decimal("0.01"), Decimal("0.001")).lot
    assert exact(2.51, lot) == "2.510"
    assert exact(25.42618900, lot) == "25.426189"
    assert exact(0.001, lot) == "0.001"


def test_first_and_rest_gives_everything_back():
    first, again = first_and_rest(iter([b"1", b"2"]))
    assert (first, list(again)) == (b"1", [b"1", b"2"])
    assert list(first_and_rest(iter([]))[1]) == []
