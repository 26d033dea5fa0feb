"""A start takes the venue's terms, or says in one sentence why it may not be."""

from decimal import Decimal
from pathlib import Path

import pytest

from bot.domain.instrument import Fees
from bot.modes.account import Account
from bot.modes.preflight import Finding, PreflightRefused, VenueUnreachable
from bot.modes.serve import API_KEY, API_SECRET
from bot.modes.settings import Loaded
from bot.modes.start import on_venue_terms
from bot.shell.clock import Clock
from bot.shell.peer import Credentials
from tests.modes.checkbench import Bench, benched

KEYS = Credentials(API_KEY, API_SECRET)


async def started(
    bench: Bench, *sets: str, keys: Credentials = KEYS
) -> tuple[Loaded, list[Finding]]:
    """The configuration under the venue's terms, and what was remarked."""
    loaded, remarks = bench.loaded(*sets), list[Finding]()
    with Account(loaded, keys, bench.env) as account:
        there = await on_venue_terms(loaded, account, Clock(), remarks.append)
    return there, remarks


async def test_the_venues_filters_and_fees_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with benched(tmp_path, "binance-usdm") as bench:
        monkeypatch.setenv("MMBOT_STATE", bench.env["MMBOT_STATE"])
        bench.seat.account.fees = Fees(Decimal("-0.00005"), Decimal("0.0004"))
        there, remarks = await started(bench)
        assert there.fees == bench.seat.account.fees
        assert there.instrument == bench.server.instrument
        assert there.settings.fees.maker_bp == Decimal("-0.5")
        assert [remark.name for remark in remarks] == ["fees"]  # the config states others
        assert {method for method, _ in bench.asked} == {"GET"}


async def test_what_one_should_know_is_remarked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with benched(tmp_path, "binance-usdm") as bench:
        monkeypatch.setenv("MMBOT_STATE", bench.env["MMBOT_STATE"])
        bench.seat.ip_restricted = False
        _, remarks = await started(bench)
        assert [remark.name for remark in remarks] == ["permissions"]


async def test_a_refused_key_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with benched(tmp_path, "binance-usdm") as bench:
        monkeypatch.setenv("MMBOT_STATE", bench.env["MMBOT_STATE"])
        with pytest.raises(PreflightRefused, match="API key") as refused:
            await started(bench, keys=Credentials("k" * 64, API_SECRET))
        assert "\n" not in str(refused.value)
        assert bench.seat.account.orders() == []


async def test_a_venue_that_is_not_there_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with benched(tmp_path, "binance-usdm") as bench:
        monkeypatch.setenv("MMBOT_STATE", bench.env["MMBOT_STATE"])
        nowhere = "feed.base_url=http://127.0.0.1:9"
        with pytest.raises(VenueUnreachable):
            await started(bench, nowhere)
