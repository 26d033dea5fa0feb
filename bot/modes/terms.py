"""What a configuration becomes by the venue's word: its filters, its fees, how it amends."""

from decimal import Decimal

from msgspec.structs import replace

from bot.domain.instrument import Fees, Instrument
from bot.modes.settings import Loaded, params_of
from bot.venues.binance.orders import capabilities


def with_amends(loaded: Loaded) -> Loaded:
    """The configuration with what its venue does to an amended order, unless it never amends."""
    if loaded.settings.execution.amend == "never":
        return loaded
    amend = capabilities(loaded.settings.venue).amend
    engine = replace(loaded.params.engine, amend=amend)
    return replace(loaded, params=replace(loaded.params, engine=engine))


def with_instrument(loaded: Loaded, instrument: Instrument, fees: Fees | None = None) -> Loaded:
    """The configuration on the venue's own filters, and its fees where given.

    Sizes in base currency stay; lots are counted anew. Raises ConfigError where a size is no
    whole number of the venue's lots.
    """
    settings = loaded.settings
    filters = settings.instrument.model_copy(
        update={
            "tick": instrument.tick,
            "lot": instrument.lot,
            "min_qty": instrument.quantity(instrument.min_qty_lots),
            "min_notional": instrument.min_notional,
        }
    )
    rates = settings.fees
    if fees is not None:
        bp = Decimal(10_000)
        rates = rates.model_copy(update={"maker_bp": fees.maker * bp, "taker_bp": fees.taker * bp})
    settings = settings.model_copy(update={"instrument": filters, "fees": rates})
    return replace(
        loaded,
        settings=settings,
        instrument=instrument,
        fees=loaded.fees if fees is None else fees,
        params=params_of(settings),
    )
