"""Client ids: ours, of this run, the venue's own."""

import pytest

from bot.venues.binance.ids import checked_prefix, is_forced, is_of_run, is_own, new_prefix


@pytest.mark.parametrize(
    ("order_id", "own", "of_run"),
    [
        ("mm1a2b3c-1", True, True),
        ("mm1a2b3c-1234567890", True, True),
        ("mm000000-7", True, False),
        ("mm1a2b3c", False, False),
        ("mm1a2b3c-", False, False),
        ("mm1a2b3c-1x", False, False),
        ("mm1a2b3c-1\n", False, False),
        ("MM1A2B3C-1", False, False),
        ("xmm1a2b3c-1", False, False),
        ("web_mm1a2b3c-1", False, False),
        ("", False, False),
    ],
)
def test_whose_order_it_is(order_id: str, own: bool, of_run: bool) -> None:
    assert is_own(order_id) is own
    assert is_of_run(order_id, "mm1a2b3c") is of_run


def test_a_longest_id_is_one_that_the_venue_takes() -> None:
    assert len("mm1a2b3c-" + str(2**63)) <= 36


def test_orders_that_close_our_position_by_force() -> None:
    forced = ("autoclose-1568", "adl_autoclose", "adl_autoclose_12345", "settlement_autoclose-9")
    assert all(is_forced(name) for name in forced)
    assert not any(is_forced(name) for name in ("mm1a2b3c-1", "autoclos", "my-autoclose-1", ""))


@pytest.mark.parametrize("prefix", ["", "mm1a2b3", "mm1a2b3c-", "mm1A2b3c", "mm1a2b3g", "xx1a2b3c"])
def test_a_prefix_whose_ids_would_be_strangers_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="six hex digits"):
        checked_prefix(prefix)


def test_a_prefix_is_kept() -> None:
    assert checked_prefix("mm1a2b3c") == "mm1a2b3c"


def test_a_run_takes_its_prefix_from_its_id() -> None:
    assert new_prefix("1a2b3c4d5e6f7081") == "mm1a2b3c"
    with pytest.raises(ValueError, match="no prefix"):
        new_prefix("run")
