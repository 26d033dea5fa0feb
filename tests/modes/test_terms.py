"""A config under the venue's terms: sizes stay, lots are counted anew."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from bot.domain.instrument import Fees
from bot.modes.preflight import (
    Examination,
    Finding,
    Level,
    PreflightRefused,
    VenueUnreachable,
)
from bot.modes.settings import ConfigError, load
from bot.modes.terms import with_amends, with_instrument, with_terms

CONFIG = Path(__file__).resolve().parents[2] / "config"
LOADED = load(CONFIG / "testnet-binance-usdm.yaml", env={})
OTHER = msgspec.structs.replace(
    LOADED.instrument, tick=Decimal("0.5"), lot=Decimal("0.005"), min_qty_lots=2
)
FEES = Fees(Decimal("-0.0001"), Decimal("0.0004"))


def test_lots_are_counted_anew_and_fees_replaced() -> None:
    found = with_instrument(LOADED, OTHER, FEES)
    assert (found.instrument, found.fees) == (OTHER, FEES)
    assert LOADED.params.quote.unit_lots == 10
    assert found.params.quote.unit_lots == 2
    assert found.params.risk.max_position_lots == 40
    assert found.settings.quote == LOADED.settings.quote
    assert found.settings.instrument.tick == Decimal("0.5")
    assert found.settings.instrument.min_qty == Decimal("0.010")
    assert found.settings.fees.maker_bp == -1
    assert found.digest == LOADED.digest
    assert with_instrument(LOADED, OTHER).fees == LOADED.fees


def test_a_size_between_two_lots_is_refused() -> None:
    other = msgspec.structs.replace(OTHER, lot=Decimal("0.003"))
    with pytest.raises(ConfigError, match=r"quote\.unit_qty is 0\.01, which is not a whole number"):
        with_instrument(LOADED, other)


def test_an_examination_gives_its_terms_or_says_why_not() -> None:
    fine = Examination((Finding("key", Level.WARN, "well"),), False, OTHER, FEES)
    assert with_terms(LOADED, fine) == with_instrument(LOADED, OTHER, FEES)
    failed = Finding("key", Level.FAIL, "it does not fit")
    with pytest.raises(PreflightRefused, match="it does not fit"):
        with_terms(LOADED, Examination((failed,)))
    with pytest.raises(VenueUnreachable, match="nobody"):
        with_terms(LOADED, Examination((failed, Finding("venue", Level.FAIL, "nobody")), True))


def test_how_the_venue_amends_unless_it_never_may() -> None:
    assert with_amends(LOADED).params.engine.amend == "requeue"
    never = load(CONFIG / "testnet-binance-usdm.yaml", env={}, sets=["execution.amend=never"])
    assert with_amends(never) is never
