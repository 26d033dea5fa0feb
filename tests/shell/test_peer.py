"""Which addresses are left in the ccxt object, world by world."""

from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from bot.shell.peer import PRODUCTS, Access, Credentials, ForeignHost, _flat, new_peer
from bot.venues.binance.endpoints import ACCOUNT_HOSTS, account_hosts

KEYS = Credentials("a" * 64, "b" * 64)


def hosts_of(venue: str, world: str, base: str = "") -> list[str]:
    allowed = (urlsplit(base).netloc,) if base else tuple(account_hosts(venue, world))
    peer = new_peer(Access(venue, world, allowed, KEYS, base), 1_000, {})
    return [str(urlsplit(url).hostname) for url in _flat(peer.urls["api"])]


@pytest.mark.parametrize(("venue", "world"), sorted(ACCOUNT_HOSTS))
def test_every_address_belongs_to_its_world(venue: str, world: str) -> None:
    allowed = account_hosts(venue, world)
    found = hosts_of(venue, world)
    assert found
    assert all(host in allowed for host in found)


@pytest.mark.parametrize("venue", sorted(PRODUCTS))
def test_no_address_of_one_world_is_one_of_another(venue: str) -> None:
    worlds = [
        [host for host in hosts_of(at, world)] for at, world in sorted(ACCOUNT_HOSTS) if at == venue
    ]
    for one, other in pairwise(worlds):
        assert not [host for host in one if host in other]


@pytest.mark.parametrize("venue", sorted(PRODUCTS))
def test_a_base_replaces_every_address(venue: str) -> None:
    world = "testnet" if venue == "binance-spot" else "demo"
    assert {*hosts_of(venue, world, "http://127.0.0.1:9000")} == {"127.0.0.1"}


def test_an_address_of_another_world_is_refused() -> None:
    allowed = tuple(account_hosts("binance-usdm", "demo"))
    with pytest.raises(ForeignHost, match=r"fapi\.binance\.com"):
        new_peer(Access("binance-usdm", "live", allowed, KEYS), 1_000, {})


def test_hooks_wrap_methods() -> None:
    allowed = tuple(account_hosts("binance-usdm", "demo"))
    access = Access("binance-usdm", "demo", allowed, KEYS)
    peer = new_peer(access, 1_000, {"nonce": lambda base: base() + 1_000_000_000_000})
    assert peer.nonce() > 2_000_000_000_000


def test_credentials_are_not_shown() -> None:
    assert "a" * 8 not in repr(KEYS)
