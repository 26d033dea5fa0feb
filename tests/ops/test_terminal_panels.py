"""The panels: what each says, and in which colour."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from bot.domain.instrument import Instrument
from bot.ops.terminal_panels import (
    banner,
    events,
    level_style,
    money_digits,
    position,
    profit,
    risk,
    state,
    vitals,
)
from bot.ops.terminal_screen import Notable
from bot.ops.terminal_text import BAD, GOOD, WARY, Line
from tests.ops.screens import NOW, SHIB, halted, quoting, waiting


def plain(lines: list[Line]) -> str:
    return "\n".join("".join(s.text for s in line).rstrip() for line in lines)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"simulated": True}, "SIMULATED MARKET — no real orders, no real money"),
        (
            {"simulated": False, "venue": "binance spot"},
            "PAPER on binance spot — real market data, simulated orders",
        ),
        (
            {"simulated": False, "venue": "x", "orders": "testnet"},
            "TESTNET on x — real orders, no real money",
        ),
        (
            {"simulated": False, "venue": "x", "orders": "live"},
            "LIVE on x — REAL ORDERS, REAL MONEY",
        ),
    ],
)
def test_the_banner_says_whose_money_it_is(changes: dict[str, Any], expected: str) -> None:
    shown = plain([banner(replace(quoting().vitals, **changes), 100)])
    assert shown.strip() == expected


@pytest.mark.parametrize(
    ("level", "style"),
    [
        ("ACTIVE", GOOD),
        ("WIDEN", WARY),
        ("ONE_SIDED", WARY),
        ("REDUCE_ONLY", WARY),
        ("PAUSED", BAD),
        ("HALTED", BAD),
        ("LOCKED", BAD),
        ("SOMETHING_NEW", BAD),
    ],
)
def test_levels_have_colours(level: str, style: object) -> None:
    assert level_style(quoting(level=level, causes=("x",)).view) == style


def test_a_run_without_a_book_waits_and_is_not_in_danger() -> None:
    assert level_style(waiting().view) == WARY
    assert "waiting for the first book" in plain([state(waiting(), 120)])


def test_a_run_that_waits_for_its_orders_says_for_what() -> None:
    screen = waiting()
    view = replace(screen.view, obstacles=("reconcile", "dead_man"))
    shown = plain([state(replace(screen, view=view), 120)])
    assert shown.startswith(" PAUSED  waiting for reconcile, dead_man ")


def test_the_second_line() -> None:
    shown = plain([state(halted(), 120)])
    assert shown.startswith(" HALTED  loss_1h, gamma_withdraw ")
    assert shown.endswith("BTCUSDT · calm · 00:12:34 · 21:13:00.123 UTC")
    assert plain([state(halted(), 50)]) == " HALTED  loss_1h, gamma_withdraw"


@pytest.mark.parametrize(
    ("lots", "limit", "first", "second"),
    [
        (200, 400, "+0.200 BTC       50.0 % of 0.400", "░░░░░░░░░░░░░░░│████████░░░░░░░"),
        (-400, 400, "-0.400 BTC      100.0 % of 0.400", "███████████████│░░░░░░░░░░░░░░░"),
        (-900, 400, "-0.900 BTC      225.0 % of 0.400", "███████████████│░░░░░░░░░░░░░░░"),
        (0, 400, "0.000 BTC         0.0 % of 0.400", "░░░░░░░░░░░░░░░│░░░░░░░░░░░░░░░"),
        (1, 400, "+0.001 BTC        0.2 % of 0.400", "░░░░░░░░░░░░░░░│█░░░░░░░░░░░░░░"),
        (1, 0, "+0.001 BTC              no limit", "░░░░░░░░░░░░░░░│░░░░░░░░░░░░░░░"),
    ],
)
def test_the_position_and_its_bar(lots: int, limit: int, first: str, second: str) -> None:
    screen = replace(quoting(position_lots=lots), max_position_lots=limit)
    assert plain(position(screen, 32)).split("\n")[1:] == [first, second]


def test_what_profit_shows_adds_up() -> None:
    pnl = halted().view.pnl
    shown = plain(profit(halted(), 54))
    parts = [Decimal(w.replace(",", "")) for w in shown.split() if w[-1].isdigit()]
    total, *rest = parts
    assert len(rest) == 6
    assert sum(rest) == total == pnl.total
    assert "-0.4000" in shown  # fees are paid


def test_money_has_the_digits_of_its_currency() -> None:
    assert money_digits(quoting()) == 4
    assert money_digits(replace(quoting(), instrument=SHIB)) == 4
    eth = Instrument("v", "ETHBTC", "ETH", "BTC", Decimal("0.00001"), Decimal("0.0001"))
    assert money_digits(replace(quoting(), instrument=eth)) == 8


def test_risk_shows_gamma_and_its_parts() -> None:
    shown = plain(risk(quoting(), 54))
    assert "1.38e-05 = 1.23e-05 × 1.12" in shown  # noqa: RUF001
    assert "fast 1.312 slow 1.198 used 1.312" in shown
    assert "half-spread bp       0.246" in shown
    assert "ACTIVE" in shown
    assert "trusted" in shown
    short = plain(risk(quoting(), 35))
    assert "ACTIVE" not in short  # the screen's second line says it
    assert "1.38e-05 = 1.23e-05 × 1.12" in short  # noqa: RUF001


def test_after_a_halt_no_spread_of_old_is_shown() -> None:
    assert "half-spread bp           –  skew bp                  –" in plain(risk(halted(), 54))  # noqa: RUF001


def test_vitals_not_measured_yet_are_dashes() -> None:
    shown = plain(vitals(waiting(), 54))
    assert "feed lag                 –" in shown  # noqa: RUF001
    assert "loop p99                 –" in shown  # noqa: RUF001
    measured = plain(vitals(quoting(), 54))
    for words in ("12.4 ms", "46 µs", "183 µs", "842 /s", "1,204", "98.2 %"):
        assert words in measured


def test_the_newest_events_stand_at_the_bottom() -> None:
    many = tuple(Notable(NOW + i * 1_000_000, "fill", f"event {i}") for i in range(20))
    screen = replace(quoting(), events=many)
    shown = plain(events(screen, 60, 4)).split("\n")
    assert shown[1:] == [
        "21:13:00.140  fill      event 17",
        "21:13:00.141  fill      event 18",
        "21:13:00.142  fill      event 19",
    ]
    assert events(screen, 60, 1) == []
    assert len(events(replace(screen, events=()), 60, 9)) == 9


def test_a_repeated_event_shows_its_count() -> None:
    one = Notable(NOW, "rejected", "a reason " * 20, "bad", 1_204)
    shown = plain(events(replace(quoting(), events=(one,)), 60, 2)).split("\n")[1]
    assert shown.endswith(" ×1,204")  # noqa: RUF001
    assert len(shown) == 60
