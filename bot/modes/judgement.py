"""What the venue's answers mean for a config: one finding each. Nothing is asked here."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Final

from bot.domain.instrument import Fees, Instrument
from bot.modes.preflight import Finding, Level
from bot.modes.relations import impossible, plain, whole_lots
from bot.modes.sections import Settings
from bot.modes.settings import DEFAULT, Loaded
from bot.modes.terms import adjusted
from bot.venues.binance.ids import is_own
from bot.venues.orderentry import Holdings, OrderReport, Permissions

OFFSET_MS_WARN: Final = 150
OFFSET_MS_MAX: Final = 1_000
UNITS_TRIED: Final = 10_000
COMPARED: Final = ("base", "quote", "tick", "lot")  # of an instrument, where the user wrote it


def offset(ms: int) -> Finding:
    """Our clock against the venue's."""
    side = "behind" if ms < 0 else "ahead of"
    text = f"our clock is {abs(ms)} ms {side} the venue's, and requests are signed in its time"
    if abs(ms) > OFFSET_MS_MAX:
        return Finding("clock", Level.FAIL, f"{text}; set this machine's clock (NTP)")
    level = Level.WARN if abs(ms) > OFFSET_MS_WARN else Level.OK
    return Finding("clock", level, text)


def stated(loaded: Loaded, key: str) -> bool:
    """Whether the user wrote a key."""
    return not loaded.sources[key].startswith(DEFAULT)


def filters(loaded: Loaded, listed: Instrument) -> Finding:
    """The venue's filters win, but not silently over what the user wrote, and sizes must fit."""
    for name in COMPARED:
        ours, theirs = getattr(loaded.instrument, name), getattr(listed, name)
        if ours != theirs and stated(loaded, f"instrument.{name}"):
            text = f"instrument.{name} is {_text(ours)}, but the venue's is {_text(theirs)}"
            return Finding("filters", Level.FAIL, f"{text}: leave it out, or correct it")
    found = impossible(adjusted(loaded.settings, listed, loaded.fees))
    if found is not None:
        return Finding("filters", Level.FAIL, f"by the venue's filters {found.reason}")
    return Finding(
        "filters",
        Level.OK,
        f"{listed.symbol} trades, tick {plain(listed.tick)}, lot {plain(listed.lot)}, "
        f"orders from {plain(listed.quantity(listed.min_qty_lots))} {listed.base} "
        f"and {plain(listed.min_notional)} {listed.quote} on",
    )


def fees(loaded: Loaded, instrument: Instrument, rates: Fees) -> Finding:
    """The account's own rates win; quotes must be possible with them."""
    found = impossible(adjusted(loaded.settings, instrument, rates))
    if found is not None:
        return Finding("fees", Level.FAIL, f"by the account's fees {found.reason}")
    text = f"maker {_bp(rates.maker)} bp, taker {_bp(rates.taker)} bp"
    wrote = any(stated(loaded, f"fees.{name}") for name in ("maker_bp", "taker_bp"))
    if wrote and rates != loaded.fees:
        ours = f"maker {_bp(loaded.fees.maker)} bp, taker {_bp(loaded.fees.taker)} bp"
        return Finding("fees", Level.WARN, f"{text}, which is used; the config says {ours}")
    return Finding("fees", Level.OK, text)


def permissions(key: Permissions, *, live: bool) -> Finding:
    """What the key may do beyond what the bot needs, or less than that."""
    if key.can_withdraw or key.can_transfer:
        what = "withdraw" if key.can_withdraw else "transfer funds"
        text = f"the API key may {what}, which this bot never needs: take that permission away"
        return Finding("permissions", Level.FAIL, text)
    if not key.can_trade:
        text = "the API key may not trade: give it that permission at the venue"
        return Finding("permissions", Level.FAIL, text)
    if not key.ip_restricted:
        text = "the API key may be used from every address: restrict it to this machine's"
        return Finding("permissions", Level.FAIL if live else Level.WARN, text)
    text = "the API key may trade, from listed addresses only, and neither withdraw nor transfer"
    return Finding("permissions", Level.OK, text)


def orders(settings: Settings, listed: Instrument, price: Decimal) -> Finding:
    """Whether each order of the ladder is whole lots and worth enough at `price`.

    The core rounds down to lots and leaves out what is too small: the user would see less
    than what he wrote.
    """
    unit, base, quote = settings.quote.unit_qty, listed.base, listed.quote
    right = smallest_unit(settings, listed, price)
    hint = "" if right is None else f": the smallest right quote.unit_qty is {plain(right)}"
    for level, size in enumerate(sizes(settings), 1):
        if whole_lots(size, listed.lot) is None:
            text = (
                f"level {level} of ladder.sizes_units is {plain(size)} {base}, no whole number "
                f"of lots of {plain(listed.lot)}"
            )
            return Finding("orders", Level.FAIL, text + hint)
        if size * price < listed.min_notional:
            text = (
                f"an order of {plain(size)} {base} is worth {_money(size * price)} {quote} at "
                f"{plain(price)}, less than the venue's {plain(listed.min_notional)}"
            )
            return Finding("orders", Level.FAIL, text + hint)
    side = sum(sizes(settings), Decimal(0))
    return Finding(
        "orders",
        Level.OK,
        f"{len(sizes(settings))} a side, {plain(side)} {base} of units of {plain(unit)}, "
        f"{_money(side * price)} {quote} at {plain(price)}",
    )


def sizes(settings: Settings) -> list[Decimal]:
    """The ladder's orders of one side, in base currency."""
    return [Decimal(str(size)) * settings.quote.unit_qty for size in settings.ladder.sizes_units]


def smallest_unit(settings: Settings, listed: Instrument, price: Decimal) -> Decimal | None:
    """The least `quote.unit_qty` with which every order of the ladder is right at `price`.

    None where only units of more than 10,000 lots beyond the least would make whole lots.
    """
    units = [Decimal(str(size)) for size in settings.ladder.sizes_units]
    lots = max(listed.min_notional / (price * listed.lot), Decimal(listed.min_qty_lots))
    least = max(1, int((lots / min(units)).to_integral_value(ROUND_CEILING)))
    for unit in range(least, least + UNITS_TRIED):
        if all(size * unit % 1 == 0 for size in units):
            return listed.quantity(unit)
    return None


def funds(
    settings: Settings, listed: Instrument, holdings: Holdings, price: Decimal, leverage: int | None
) -> Finding:
    """Whether what is free suffices.

    On spot the ladder must be covered on both sides, in quote for the bids and in base for the
    asks. On margin the rest of the way to the largest position must be, at `leverage`.
    """
    if leverage is not None:
        left = max(settings.risk.max_position_qty - abs(holdings.position), Decimal(0))
        pairs = [(holdings.quote, left * price / leverage, listed.quote)]
        why = f"risk.max_position_qty at {plain(price)} and leverage {leverage}"
    else:
        side = sum(sizes(settings), Decimal(0))
        pairs = [
            (holdings.quote, side * price, listed.quote),
            (holdings.base_free, side, listed.base),
        ]
        why = f"the ladder's orders at {plain(price)}"
    for free, needed, currency in pairs:
        if free < needed:
            text = (
                f"{_amount(free)} {currency} is free, but {why} needs {_amount(needed)}: "
                "add funds, or lower the sizes"
            )
            return Finding("funds", Level.FAIL, text)
    text = " and ".join(f"{_amount(free)} {currency}" for free, _, currency in pairs)
    return Finding("funds", Level.OK, f"{text} free, enough for {why}")


def position(
    settings: Settings, listed: Instrument, holdings: Holdings, neutral: Decimal | None
) -> Finding:
    """What is held already; on spot beyond `neutral`, which is None before the first start."""
    held, most = holdings.position, settings.risk.max_position_qty
    if settings.venue == "binance-spot":
        if neutral is None:
            text = f"{plain(held)} {listed.base} held; the balance at the first start is neutral"
            return Finding("position", Level.OK, text)
        held -= neutral
    text = f"a position of {plain(held)} {listed.base} is held"
    if abs(held) > most:
        text += f", beyond risk.max_position_qty ({plain(most)}): reduce it first"
        return Finding("position", Level.FAIL, text)
    if held:
        return Finding("position", Level.WARN, text)
    return Finding("position", Level.OK, "flat")


def open_orders(reports: Sequence[OrderReport]) -> Finding:
    """Orders of an earlier run, which will be cancelled, and of others, which are left alone."""
    own = sum(is_own(report.order_id) for report in reports)
    foreign = len(reports) - own
    parts = []
    if own:
        parts.append(f"{own} of an earlier run, which will be cancelled")
    if foreign:
        parts.append(f"{foreign} of others, which are left alone")
    if not parts:
        return Finding("open orders", Level.OK, "none")
    return Finding("open orders", Level.WARN, "there are " + " and ".join(parts))


def bound(funded: Finding, reports: Sequence[OrderReport]) -> Finding:
    """A lack of funds is none while orders of an earlier run, which will go, bind some."""
    if funded.level is Level.FAIL and any(is_own(report.order_id) for report in reports):
        text = f"{funded.text}; orders of an earlier run bind some until they are cancelled"
        return Finding(funded.name, Level.WARN, text)
    return funded


def _bp(rate: Decimal) -> str:
    return plain(rate.scaleb(4))


def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"


def _amount(amount: Decimal) -> str:
    return plain(amount.quantize(Decimal("1e-8")))


def _text(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
