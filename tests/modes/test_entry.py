"""What testnet and live ask of a config: each rule at its edge, and where it points."""

import pytest

from bot.modes.entry import LIMITS, acknowledgement, unfit, worlds
from bot.modes.reload import LOWER_IS_TIGHTER
from bot.modes.sections import RiskSection, Settings
from bot.modes.settings import KEYS

RIGHT = "I accept losing up to 500 USDT on account main"
ALL = frozenset(KEYS)


def settings(mode: str = "testnet", venue: str = "binance-usdm", **changes: object) -> Settings:
    world = (worlds(mode, venue) or ("live",))[0]
    values = {
        "mode": mode,
        "venue": venue,
        "symbol": "BTCUSDT",
        "instrument": {"base": "BTC", "quote": "USDT", "tick": "0.10", "lot": "0.001"},
        "fees": {"maker_bp": 2, "taker_bp": 5},
        "quote": {"unit_qty": "0.01"},
        "risk": {"loss_budget": 500.0, "max_position_qty": "0.2", "max_order_qty": "0.05"},
        "account": {"name": "main", "acknowledge": RIGHT},
        "feed": {"world": world},
    }
    layers: list[dict[str, object]] = [values]
    for key, value in changes.items():
        section, name = key.split("__")
        layers.append({section: {name: value}})
    return Settings(layers=layers)


def test_the_worlds_of_a_mode_with_the_usual_one_first():
    assert worlds("testnet", "binance-spot") == ("testnet", "demo")
    assert worlds("testnet", "binance-usdm") == ("demo",)
    assert worlds("live", "binance-spot") == worlds("live", "binance-usdm") == ("live",)
    assert worlds("paper", "binance-spot") == worlds("live", "binance-coinm") == ()
    assert worlds("testnet", "kraken") == ()


@pytest.mark.parametrize("mode", ["testnet", "live"])
@pytest.mark.parametrize("venue", ["binance-spot", "binance-usdm"])
def test_what_is_fit(mode, venue):
    assert unfit(settings(mode, venue), ALL) is None


def test_paper_is_always_fit():
    assert unfit(settings("paper", "binance-coinm", feed__base_url="http://10.0.0.1:9"), ()) is None


def test_every_bound_on_money_or_size_is_a_limit():
    """Whatever else a running bot may tighten is a breaker: silence, age, speed, inventory."""
    bounds = {name for name in LOWER_IS_TIGHTER if name.startswith(("loss", "max", "collar"))}
    assert set(LIMITS) == bounds
    assert set(LIMITS) <= set(RiskSection.model_fields)


@pytest.mark.parametrize("mode", ["testnet", "live"])
def test_the_first_limit_that_is_not_stated_is_named(mode):
    for i, name in enumerate(LIMITS):
        absent = {f"risk.{later}" for later in LIMITS[i:]}
        found = unfit(settings(mode), ALL - absent)
        assert found is not None
        assert found.keys == ("risk",)
        assert found.reason.startswith(f"risk.{name} is missing, and mode {mode} takes no limit")
    found = unfit(settings(mode), {"mode"})
    assert found is not None
    assert found.keys == ("mode",)


@pytest.mark.parametrize("mode", ["testnet", "live"])
def test_an_inverse_contract_is_for_paper_only(mode):
    found = unfit(settings(mode, "binance-coinm"), ALL)
    assert found is not None
    assert found.keys == ("venue", "mode")
    assert "venue should be binance-spot or binance-usdm" in found.reason


@pytest.mark.parametrize(
    ("mode", "venue", "world", "right"),
    [
        ("testnet", "binance-usdm", "live", "demo"),
        ("testnet", "binance-usdm", "testnet", "demo"),
        ("testnet", "binance-spot", "live", "testnet or demo"),
        ("testnet", "binance-spot", "data", "testnet or demo"),
        ("live", "binance-spot", "data", "live"),
        ("live", "binance-spot", "testnet", "live"),
        ("live", "binance-usdm", "demo", "live"),
    ],
)
def test_orders_go_where_the_bot_listens(mode, venue, world, right):
    found = unfit(settings(mode, venue, feed__world=world), ALL)
    assert found is not None
    assert found.keys == ("feed.world",)
    assert found.reason.startswith(f"feed.world is {world}, but mode {mode} sends orders")
    assert found.reason.endswith(f"on {venue} it should be {right}")


def test_spot_may_use_either_test_world():
    assert unfit(settings("testnet", "binance-spot", feed__world="demo"), ALL) is None


@pytest.mark.parametrize("base", ["http://127.0.0.1:9000", "http://localhost:1", "http://[::1]:80"])
def test_a_simulated_exchange_is_on_this_machine_and_not_live(base):
    assert unfit(settings("testnet", feed__base_url=base), ALL) is None
    found = unfit(settings("live", feed__base_url=base), ALL)
    assert found is not None
    assert found.keys == ("feed.base_url",)
    assert found.reason.endswith("own hosts only, so leave it out")


@pytest.mark.parametrize("base", ["http://10.0.0.1:9000", "https://fapi.binance.com", "nonsense"])
def test_a_testnet_is_not_pointed_elsewhere(base):
    found = unfit(settings("testnet", feed__base_url=base), ALL)
    assert found is not None
    assert found.keys == ("feed.base_url",)
    assert f"feed.base_url is {base!r}, but orders of mode testnet" in found.reason


@pytest.mark.parametrize(
    ("there", "absent"), [("api_key_file", "secret_file"), ("secret_file", "api_key_file")]
)
def test_a_key_and_its_secret_come_together(there, absent):
    found = unfit(settings(**{f"account__{there}": "x.txt"}), ALL)
    assert found is not None
    assert found.keys == (f"account.{there}",)
    assert f"account.{there} stands alone, account.{absent} must name" in found.reason
    both = {"account__api_key_file": "a.key", "account__secret_file": "a.secret"}
    assert unfit(settings(**both), ALL) is None


def test_only_spot_has_a_neutral_balance():
    assert unfit(settings("testnet", "binance-spot", account__neutral_qty="1.5"), ALL) is None
    found = unfit(settings(account__neutral_qty="1.5"), ALL)
    assert found is not None
    assert found.keys == ("account.neutral_qty",)


@pytest.mark.parametrize(
    ("loss", "name", "sentence"),
    [
        (500.0, "main", RIGHT),
        (0.5, "a-1", "I accept losing up to 0.5 USDT on account a-1"),
        (1_000_000.0, "main", "I accept losing up to 1000000 USDT on account main"),
        (1e-5, "main", "I accept losing up to 0.00001 USDT on account main"),
    ],
)
def test_the_sentence_names_the_loss_and_the_account(loss, name, sentence):
    written = settings("live", risk__loss_budget=loss, account__name=name)
    assert acknowledgement(written) == sentence
    right = settings(
        "live", risk__loss_budget=loss, account__name=name, account__acknowledge=sentence
    )
    assert unfit(right, ALL) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (None, "empty"),
        ("", "empty"),
        ("yes", "'yes'"),
        (RIGHT.lower(), repr(RIGHT.lower())),
        (RIGHT + ".", repr(RIGHT + ".")),
        (RIGHT.replace("500", "50"), repr(RIGHT.replace("500", "50"))),
        (RIGHT.replace("main", "other"), repr(RIGHT.replace("main", "other"))),
    ],
)
def test_a_wrong_acknowledgement_is_answered_with_the_right_one(wrong, said):
    found = unfit(settings("live", account__acknowledge=wrong), ALL)
    assert found is not None
    assert found.keys == ("account.acknowledge",)
    assert found.reason == (
        f'account.acknowledge is {said}, but mode live needs it to be exactly "{RIGHT}"'
    )
    # Play money needs none.
    assert unfit(settings("testnet", account__acknowledge=wrong), ALL) is None


def test_live_needs_a_label():
    found = unfit(settings("live", account__name=None), ALL - {"account.name"})
    assert found is not None
    assert found.keys == ("account",)
    assert found.reason.startswith("account.name is missing")
    assert unfit(settings("testnet", account__name=None), ALL) is None
