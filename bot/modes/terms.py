"""What a configuration becomes by the venue's word: its filters, its fees, how it amends."""

from msgspec.structs import replace

from bot.domain.instrument import Fees, Instrument
from bot.modes.preflight import Examination, refuse_if_failed
from bot.modes.relations import impossible
from bot.modes.sections import Settings
from bot.modes.settings import ConfigError, Loaded, params_of
from bot.venues.binance.orders import capabilities


def with_amends(loaded: Loaded) -> Loaded:
    """The configuration with what its venue does to an amended order, unless it never amends."""
    if loaded.settings.execution.amend == "never":
        return loaded
    amend = capabilities(loaded.settings.venue).amend
    engine = replace(loaded.params.engine, amend=amend)
    return replace(loaded, params=replace(loaded.params, engine=engine))


def adjusted(settings: Settings, instrument: Instrument, fees: Fees) -> Settings:
    """The settings as if the user had written these filters and rates; nothing is checked."""
    filters = {
        "base": instrument.base,
        "quote": instrument.quote,
        "tick": instrument.tick,
        "lot": instrument.lot,
        "min_qty": instrument.quantity(instrument.min_qty_lots),
        "min_notional": instrument.min_notional,
    }
    rates = {"maker_bp": fees.maker.scaleb(4), "taker_bp": fees.taker.scaleb(4)}
    return settings.model_copy(
        update={
            "instrument": settings.instrument.model_copy(update=filters),
            "fees": settings.fees.model_copy(update=rates),
        }
    )


def with_instrument(loaded: Loaded, instrument: Instrument, fees: Fees | None = None) -> Loaded:
    """The configuration on the venue's own filters, and its fees where given.

    Sizes in base currency stay; lots are counted anew. Raises ConfigError where a size is no
    whole number of the venue's lots, or a relation between keys no longer holds.
    """
    rates = loaded.fees if fees is None else fees
    settings = adjusted(loaded.settings, instrument, rates)
    found = impossible(settings)
    if found is not None:
        raise ConfigError(f"by the venue's terms {found.reason}")
    params = params_of(settings)
    return replace(loaded, settings=settings, instrument=instrument, fees=rates, params=params)


def with_terms(loaded: Loaded, examination: Examination) -> Loaded:
    """The configuration under the terms that an examination found.

    Raises PreflightRefused or VenueUnreachable for an examination that failed.
    """
    refuse_if_failed(examination)
    assert examination.instrument is not None, "an examination without failure knows the filters"
    return with_instrument(loaded, examination.instrument, examination.fees)
