"""What order entry asks of a config, beyond what paper does: limits, a world, an acknowledgement.

Limits are the keys of `risk` that bound money or sizes: how much may be lost and in which time,
how much may be held, how large an order, how many of them, how far away. In testnet and live the
user states each. The other keys of `risk` tell when a market is abnormal, relative to itself or
to these limits, and keep their defaults.
"""

from collections.abc import Container
from decimal import Decimal
from typing import Final

from bot.modes.instruments import is_linear
from bot.modes.relations import Impossible, plain
from bot.modes.sections import RiskSection, Settings
from bot.venues.binance.endpoints import account_worlds, is_loopback

LIMITS: Final = (
    "loss_budget",
    "max_position_qty",
    "max_order_qty",
    "max_open_orders_per_side",
    "loss_1m_fraction",
    "loss_5m_fraction",
    "loss_1h_fraction",
    "loss_day_fraction",
    "collar_bps",
)
LIVE: Final = "live"


def worlds(mode: str, venue: str) -> tuple[str, ...]:
    """The venue's worlds that a mode may send orders to, the usual one first; paper has none."""
    if mode == "paper" or not is_linear(venue):
        return ()
    return tuple(name for name in account_worlds(venue) if (name == LIVE) is (mode == LIVE))


def acknowledgement(settings: Settings) -> str:
    """The sentence that `live` needs: the loss at which everything halts, and whose it is."""
    loss = plain(Decimal(str(settings.risk.loss_budget)))
    quote = settings.instrument.quote
    words = f"I accept losing up to {loss} {quote} on account {settings.account.name}"
    return " ".join(words.split())


def unfit(settings: Settings, stated: Container[str]) -> Impossible | None:
    """Find the first thing that forbids real orders; `stated` are the keys that the user wrote.

    A paper config is always fit.
    """
    if settings.mode == "paper":
        return None
    return (
        _venue(settings)
        or _place(settings, stated)
        or _limits(settings, stated)
        or _account(settings, stated)
        or (_acknowledged(settings, stated) if settings.mode == LIVE else None)
    )


def _nearest(key: str, stated: Container[str]) -> tuple[str]:
    """Where to point for a key: itself, its section, or the mode that asks for it."""
    return (next((at for at in (key, key.partition(".")[0]) if at in stated), "mode"),)


def _venue(settings: Settings) -> Impossible | None:
    if worlds(settings.mode, settings.venue):
        return None
    return Impossible(
        ("venue", "mode"),
        f"mode {settings.mode} trades spot and linear contracts, and {settings.venue} is "
        "neither, so venue should be binance-spot or binance-usdm",
    )


def _place(settings: Settings, stated: Container[str]) -> Impossible | None:
    mode, feed = settings.mode, settings.feed
    if feed.base_url and mode == LIVE:
        return Impossible(
            ("feed.base_url",),
            f"feed.base_url is {feed.base_url!r}, but mode live talks to the venue's own hosts "
            "only, so leave it out",
        )
    if feed.base_url and not is_loopback(feed.base_url):
        return Impossible(
            ("feed.base_url",),
            f"feed.base_url is {feed.base_url!r}, but orders of mode testnet may only be sent to "
            "this machine instead of the venue, as in http://127.0.0.1:9000",
        )
    right = worlds(mode, settings.venue)
    if feed.world in right:
        return None
    return Impossible(
        _nearest("feed.world", stated),
        f"feed.world is {feed.world}, but mode {mode} sends orders where it listens, so on "
        f"{settings.venue} it should be {' or '.join(right)}",
    )


def _limits(settings: Settings, stated: Container[str]) -> Impossible | None:
    for name in LIMITS:
        if f"risk.{name}" not in stated:
            meaning = str(RiskSection.model_fields[name].description).rstrip(".")
            return Impossible(
                _nearest(f"risk.{name}", stated),
                f"risk.{name} is missing, and mode {settings.mode} takes no limit from a "
                f"default ({meaning})",
            )
    return None


def _account(settings: Settings, stated: Container[str]) -> Impossible | None:
    account = settings.account
    if (account.api_key_file is None) is not (account.secret_file is None):
        there, absent = ("api_key_file", "secret_file")
        if account.api_key_file is None:
            there, absent = absent, there
        return Impossible(
            _nearest(f"account.{there}", stated),
            f"account.{there} stands alone, account.{absent} must name the file that belongs to it",
        )
    if account.neutral_qty is not None and settings.venue != "binance-spot":
        return Impossible(
            ("account.neutral_qty",),
            "account.neutral_qty is for spot balances; contracts have a position of their own, "
            "so leave it out",
        )
    return None


def _acknowledged(settings: Settings, stated: Container[str]) -> Impossible | None:
    account = settings.account
    if account.name is None:
        return Impossible(
            _nearest("account.name", stated),
            "account.name is missing, mode live needs a label for the account whose money it is",
        )
    right = acknowledgement(settings)
    if account.acknowledge == right:
        return None
    said = repr(account.acknowledge) if account.acknowledge else "empty"
    return Impossible(
        _nearest("account.acknowledge", stated),
        f'account.acknowledge is {said}, but mode live needs it to be exactly "{right}"',
    )
