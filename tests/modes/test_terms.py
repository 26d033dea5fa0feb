"""A configuration by the venue's word: its filters, its fees, how it amends."""

from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from bot.domain.instrument import Fees
from bot.modes.settings import ConfigError, Loaded, load
from bot.modes.terms import with_amends, with_instrument

DEMO = Path(__file__).resolve().parents[2] / "config" / "demo.yaml"


def demo(*sets: str) -> Loaded:
    return load(DEMO, env={}, sets=sets)


@pytest.mark.parametrize(
    ("sets", "amend"),
    [
        ((), "requeue"),  # USD-M moves an amended order to the end of its queue
        (("venue=binance-spot",), "reduce"),  # spot can only shrink one, in its place
        (("execution.amend=never",), "none"),
        (("execution.amend=never", "venue=binance-spot"), "none"),
    ],
)
def test_an_engine_amends_as_its_venue_can_unless_it_never_may(
    sets: tuple[str, ...], amend: str
) -> None:
    loaded = demo(*sets)
    assert loaded.params.engine.amend == "none"  # a config alone knows no venue
    terms = with_amends(loaded)
    assert terms.params.engine.amend == amend
    assert replace(terms, params=loaded.params) == loaded  # and nothing else has changed


def test_sizes_stay_and_are_counted_in_the_new_lots() -> None:
    loaded = demo()
    old = loaded.instrument
    new = replace(
        old,
        tick=2 * old.tick,
        lot=old.lot / 10,
        min_qty_lots=3,
        min_notional=Decimal(50),
    )
    terms = with_instrument(loaded, new)
    assert terms.instrument == new
    filters = terms.settings.instrument
    assert (filters.tick, filters.lot) == (new.tick, new.lot)
    assert (filters.min_qty, filters.min_notional) == (3 * new.lot, Decimal(50))
    for before, after in (
        (loaded.params.quote.unit_lots, terms.params.quote.unit_lots),
        (loaded.params.risk.max_position_lots, terms.params.risk.max_position_lots),
        (loaded.params.risk.max_order_lots, terms.params.risk.max_order_lots),
    ):
        assert after == 10 * before
    assert (terms.fees, terms.settings.fees) == (loaded.fees, loaded.settings.fees)


def test_the_same_filters_change_no_parameter() -> None:
    loaded = demo()
    terms = with_instrument(loaded, loaded.instrument)
    assert terms.params == loaded.params
    assert terms.instrument == loaded.instrument


def test_the_venues_fees_count_and_are_shown() -> None:
    loaded = demo()
    fees = Fees(Decimal("-0.00005"), Decimal("0.00032"))
    terms = with_instrument(loaded, loaded.instrument, fees)
    assert terms.fees == fees
    assert terms.settings.fees.maker_bp == Decimal("-0.5")
    assert terms.settings.fees.taker_bp == Decimal("3.2")


def test_a_size_that_is_no_whole_number_of_the_new_lots_is_refused() -> None:
    loaded = demo()
    coarse = replace(loaded.instrument, lot=Decimal("0.03"))
    with pytest.raises(ConfigError, match=r"unit_qty"):
        with_instrument(loaded, coarse)
