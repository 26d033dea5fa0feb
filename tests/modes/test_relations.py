from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.modes.relations import ORDERED, impossible, plain, value_of, whole_lots
from bot.modes.sections import Settings
from bot.modes.settings import LEAVES


def settings(**changes: object) -> Settings:
    values = {
        "venue": "binance-usdm",
        "symbol": "BTCUSDT",
        "instrument": {"base": "BTC", "quote": "USDT", "tick": "0.10", "lot": "0.001"},
        "fees": {"maker_bp": 2, "taker_bp": 5},
        "quote": {"unit_qty": "0.01"},
        "risk": {"loss_budget": 500, "max_position_qty": "0.2", "max_order_qty": "0.05"},
    }
    layers = [values]
    for key, value in changes.items():
        section, name = key.split("__")
        layers.append({section: {name: value}})
    return Settings(layers=layers)


def test_sound_settings_have_no_fault():
    assert impossible(settings()) is None


# One case on the wrong side of each relation, and the nearest one on the right side.
CASES = [
    ("quote.g0_min", {"quote__g0_min": 1.0}, {"quote__g0_min": 0.999}),
    ("quote.g0_min", {"quote__g0": 9e-6}, {"quote__g0": 1e-5}),
    ("quote.g0", {"quote__g0": 1.01}, {"quote__g0": 1.0}),
    (
        "volatility.half_life_fast_s",
        {"volatility__half_life_fast_s": 60},
        {"volatility__half_life_fast_s": 59},
    ),
    (
        "volatility.half_life_mid_s",
        {"volatility__half_life_mid_s": 600},
        {"volatility__half_life_mid_s": 599},
    ),
    ("volatility.floor_x", {"volatility__cap_x": 0.2}, {"volatility__cap_x": 0.21}),
    ("quote.unit_qty", {"quote__unit_qty": "0.051"}, {"quote__unit_qty": "0.05"}),
    ("risk.max_order_qty", {"risk__max_order_qty": "0.201"}, {"risk__max_order_qty": "0.2"}),
    ("risk.loss_1m_fraction", {"risk__loss_1m_fraction": 0.26}, {"risk__loss_1m_fraction": 0.25}),
    ("risk.loss_5m_fraction", {"risk__loss_5m_fraction": 0.51}, {"risk__loss_5m_fraction": 0.5}),
    ("risk.loss_1h_fraction", {"risk__loss_1h_fraction": 1.01}, {"risk__loss_1h_fraction": 1}),
    (
        "risk.fill_speed_fraction_1s",
        {"risk__fill_speed_fraction_5s": 0.34},
        {"risk__fill_speed_fraction_5s": 0.35},
    ),
    ("risk.inventory_rearm", {"risk__inventory_rearm": 0.8}, {"risk__inventory_rearm": 0.79}),
    ("risk.depth_one", {"risk__depth_one": 0.3}, {"risk__depth_one": 0.29}),
    ("risk.depth_half_life_s", {"risk__depth_half_life_s": 900}, {"risk__depth_half_life_s": 899}),
    ("risk.silence_ms", {"risk__silence_ms": 3001}, {"risk__silence_ms": 3000}),
    (
        "paper.entry_latency_ms_min",
        {"paper__entry_latency_ms_min": 3001},
        {"paper__entry_latency_ms_min": 3000},
    ),
    (
        "execution.recv_window_ms",
        {"execution__request_timeout_ms": 999},
        {"execution__request_timeout_ms": 1_000},
    ),
    (
        "execution.in_flight_ms",
        {"execution__in_flight_ms": 5_001},
        {"execution__in_flight_ms": 5_000},
    ),
    (
        "execution.open_orders_ms",
        {"execution__position_ms": 4_999},
        {"execution__position_ms": 5_000},
    ),
    (
        "execution.dead_man_s",
        {"execution__dead_man_s": 10, "execution__request_timeout_ms": 3_334},
        {"execution__dead_man_s": 10, "execution__request_timeout_ms": 3_333},
    ),
    ("ladder.sizes_units", {"ladder__sizes_units": [5.1]}, {"ladder__sizes_units": [5]}),
    (
        "ladder.sizes_units",
        {"ladder__sizes_units": [5, 5, 1], "risk__max_position_qty": "0.1"},
        {"ladder__sizes_units": [5, 5], "risk__max_position_qty": "0.1"},
    ),
    ("ladder.sizes_units", {"ladder__sizes_units": [0.09]}, {"ladder__sizes_units": [0.1]}),
    (
        "ladder.sizes_units",
        {"ladder__sizes_units": [1, 1], "risk__max_open_orders_per_side": 1},
        {"ladder__sizes_units": [1], "risk__max_open_orders_per_side": 1},
    ),
    ("quote.q_soft_units", {"quote__q_soft_units": 20.1}, {"quote__q_soft_units": 20}),
    ("risk.collar_bps", {"risk__collar_bps": 2.1}, {"risk__collar_bps": 2.2}),
    (
        "risk.collar_bps",
        {"risk__collar_bps": 12, "quote__adverse_bp": 9.9},
        {"risk__collar_bps": 12, "quote__adverse_bp": 9.8},
    ),
    ("instrument.min_qty", {"instrument__min_qty": "0.0015"}, {"instrument__min_qty": "0.002"}),
]


@pytest.mark.parametrize(("key", "wrong", "right"), CASES, ids=[str(case[1]) for case in CASES])
def test_each_impossible_relation_is_found_at_its_edge(key, wrong, right):
    found = impossible(settings(**wrong))
    assert found is not None
    assert found.keys[0] == key
    assert found.reason.startswith(key)
    assert set(found.keys) <= set(LEAVES)
    assert impossible(settings(**right)) is None


def test_the_table_names_keys_that_exist_and_holds_for_the_defaults():
    for lesser, _, greater in ORDERED:
        low, high = value_of(settings(), lesser), value_of(settings(), greater)
        assert low is None or high is None or low <= high
    # Ranges of the sections, not the table, put these two on their sides of 1.
    assert ("risk.inventory_one_sided", False, "risk.inventory_halt") in ORDERED
    tested = {case[0] for case in CASES}
    assert {lesser for lesser, _, _ in ORDERED} - tested == {"risk.inventory_one_sided"}


@pytest.mark.parametrize(
    ("quantity", "nearest"),
    [("0.0105", "0.01"), ("0.0116", "0.012"), ("0.0001", "0.001"), ("0.0149999", "0.015")],
)
def test_a_size_off_the_lot_names_the_nearest_right_one(quantity, nearest):
    found = impossible(settings(quote__unit_qty=quantity))
    assert found is not None
    assert found.keys == ("quote.unit_qty", "instrument.lot")
    assert found.reason.endswith(f"lots of 0.001, the nearest right value is {nearest}")
    assert found.reason.startswith(f"quote.unit_qty is {quantity},")


@given(
    lots=st.integers(min_value=1, max_value=10**18),
    places=st.integers(min_value=0, max_value=18),
    step=st.integers(min_value=1, max_value=999),
)
def test_whole_lots_are_exact(lots, places, step):
    lot = Decimal(step).scaleb(-places)
    quantity = Decimal(lots * step).scaleb(-places)
    assert whole_lots(quantity, lot) == lots
    assert whole_lots(Decimal(lots * step * 10 + 1).scaleb(-places - 1), lot) is None


@pytest.mark.parametrize("quantity", ["0", "-0.01", "0.0005"])
def test_less_than_a_lot_is_no_lots(quantity):
    assert whole_lots(Decimal(quantity), Decimal("0.001")) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [("1E+3", "1000"), ("0.10", "0.1"), ("100", "100"), ("1E-8", "0.00000001"), ("5.00", "5")],
)
def test_decimals_are_written_plainly(number, text):
    assert plain(Decimal(number)) == text
