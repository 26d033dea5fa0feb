"""The ccxt object that order entry speaks through: which one, where it points, what it may reach.

ccxt knows hundreds of addresses; only those that this bot uses stay in the object, and each of
them, like every address at the moment it is used, must be on the list of the world that was
asked for: sandbox and production can never mix.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from bot.shell.ccxtload import library
from bot.venues.binance.endpoints import both_hosts, foreign_hosts
from bot.venues.binance.orders import UNKNOWN_TO_CCXT

# venue -> ccxt's class, the kinds of REST address that are used, and the user stream's type.
PRODUCTS: Final = {
    "binance-spot": ("binance", ("public", "private", "sapi"), "spot"),
    "binance-usdm": (
        "binanceusdm",
        ("fapiPublic", "fapiPrivate", "fapiPrivateV2", "fapiPrivateV3", "sapi"),
        "linear",
    ),
}
# ccxt's method that extends the private stream's key, where it has one.
EXTEND: Final = {"binance-usdm": "fapiPrivatePutListenKey"}
PING_MS: Final = 5_000  # between pings on the private stream; two missed ones end it


class ForeignHost(RuntimeError):
    """An address outside the world that was asked for: our own fault, nothing was sent."""


class Credentials(msgspec.Struct, frozen=True):
    """An API key and its secret; never shown."""

    api_key: str
    secret: str

    def __repr__(self) -> str:
        return "<Credentials>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show rich nothing: msgspec's own would put the fields into its tracebacks."""
        return []


class Access(msgspec.Struct, frozen=True):
    """Which account of which world, and the hosts (`host[:port]`) that it may reach.

    `base` (`http://host:port`) replaces every address, for a simulated exchange.
    """

    venue: str
    world: str
    hosts: tuple[str, ...]
    credentials: Credentials
    base: str = ""


def new_peer(access: Access, timeout_ms: int, hooks: dict[str, Callable[..., Any]]) -> Any:
    """A ccxt.pro object of the venue, its own throttle off; `hooks` replace its methods.

    A hook gets the overridden method as its first argument. Raises ForeignHost when an
    address is left that the world does not allow.
    """
    name, kinds, stream = PRODUCTS[access.venue]
    found = library(name)

    def method(hook: Callable[..., Any], replaced: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **named: Any) -> Any:
            return hook(getattr(super(hooked, self), replaced), *args, **named)

        return call

    members: dict[str, Any] = {replaced: method(hook, replaced) for replaced, hook in hooks.items()}
    for missing, (path, api, verb) in UNKNOWN_TO_CCXT.items():
        members[missing] = found.entry(path, [api], verb, {"cost": 1})
    hooked: Any = type(name, (found.venue,), members)
    peer = hooked(
        {
            "apiKey": access.credentials.api_key,
            "secret": access.credentials.secret,
            "enableRateLimit": False,  # one queue without priorities: ours has them
            "timeout": timeout_ms,
            "options": {"ws": {"compress": 0}},
            "streaming": {"keepAlive": PING_MS},
        }
    )
    urls = peer.urls["api"] if access.base else _of_world(peer, access.world)
    peer.urls = {"api": _kept(urls, kinds, stream)}
    if access.base:
        _move(peer.urls["api"], access.base)
    for url in _flat(peer.urls["api"]):
        check_host(url, access.hosts)
    # No market is loaded: calls name the venue's own symbols, and streams are read as they come.
    peer.markets = {}
    return peer


def check_host(url: str, hosts: Sequence[str]) -> None:
    """Raise ForeignHost unless the address is one of `hosts`."""
    for place in foreign_hosts((url,), hosts):
        raise ForeignHost(f"{place} is not one of {', '.join(hosts)}")


def _of_world(peer: Any, world: str) -> dict[str, Any]:
    if world == "testnet":
        peer.set_sandbox_mode(True)
    elif world == "demo":
        peer.enable_demo_trading(True)
    else:
        assert world == "live", f"no order entry in {world}"
    urls: dict[str, Any] = peer.urls["api"]
    return urls


def _kept(urls: dict[str, Any], kinds: Collection[str], stream: str) -> dict[str, Any]:
    """The addresses that are used: those kinds of REST, and the user stream's."""
    ws = urls["ws"]
    kept = {kind: urls[kind] for kind in kinds if kind in urls}
    return kept | {"ws": {stream: ws[stream], "ws-api": {stream: ws["ws-api"][stream]}}}


def _move(urls: dict[str, Any], base: str) -> None:
    """Point every address at `base`, keeping its path."""
    rest, sockets = both_hosts(base)
    for name, url in urls.items():
        if isinstance(url, dict):
            _move(url, base)
        else:
            parts = urlsplit(url)
            urls[name] = (sockets if parts.scheme.startswith("ws") else rest) + parts.path


def _flat(urls: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for url in urls.values():
        found += _flat(url) if isinstance(url, dict) else [url]
    return found
