from decimal import Decimal
from typing import Annotated

import msgspec
import pytest
from pydantic import TypeAdapter, ValidationError

from bot.domain import params
from bot.modes import sections
from bot.modes.sections import Settings
from bot.modes.settings import KEYS

# What a user writes otherwise than the core reads it, or the venue declares.
CONVERTED = {
    "quote": {"unit_lots", "q_soft_units"},
    "risk": {"max_position_lots", "max_order_lots", "loss_budget"},
    "engine": {"amend"},
}
WRITTEN = {
    "quote": {"unit_qty", "q_soft_units"},
    "risk": {"max_position_qty", "max_order_qty", "loss_budget"},
}


def defaults(struct: type[msgspec.Struct]) -> dict[str, object]:
    fields = msgspec.structs.fields(struct)
    return {field.name: field.default for field in fields}


@pytest.mark.parametrize("name", params.Params.__struct_fields__)
def test_a_section_mirrors_its_struct_in_names_order_and_defaults(name):
    struct = params.Params.__annotations__[name]
    model = Settings.model_fields[name].annotation
    core = {k: v for k, v in defaults(struct).items() if k not in CONVERTED.get(name, ())}
    user = {
        key: field.default
        for key, field in model.model_fields.items()
        if key not in WRITTEN.get(name, ())
    }
    assert list(user.items()) == list(core.items())


def test_the_limits_and_the_unit_have_no_default():
    required = {key for key, field in KEYS.items() if field.is_required() and "." in key}
    assert required - {key for key in required if key.startswith(("instrument.", "fees."))} == {
        "quote.unit_qty",
        "risk.loss_budget",
        "risk.max_position_qty",
        "risk.max_order_qty",
    }


def test_every_default_obeys_its_own_range():
    tried = 0
    for key, field in KEYS.items():
        if "." in key and not field.is_required():
            adapter = TypeAdapter(Annotated[field.annotation, field])
            assert adapter.validate_python(field.default) == field.default, key
            tried += 1
    assert tried > 60


def test_every_key_is_described():
    assert [key for key, field in KEYS.items() if not field.description] == []


def test_the_latency_of_paper_orders():
    paper = sections.PaperSection()
    assert (paper.queue, paper.queue_n) == ("risk_averse", 3.0)
    assert (paper.entry_latency_x, paper.response_latency_x) == (4.0, 3.0)
    assert (paper.entry_latency_ms_min, paper.entry_latency_ms_max) == (5.0, 3000.0)
    assert paper.feed_latency_ms_floor == 1.0


def test_how_orders_travel():
    execution = sections.ExecutionSection()
    assert (execution.recv_window_ms, execution.request_timeout_ms) == (1_000, 3_000)
    assert (execution.in_flight_ms, execution.open_orders_ms) == (2_000, 5_000)
    assert (execution.position_ms, execution.filters_s) == (15_000, 60)
    assert (execution.dead_man_s, execution.amend) == (15, "auto")


def test_layers_merge_the_later_one_winning():
    weak = {
        "venue": "binance-spot",
        "symbol": "X",
        "instrument": {"base": "X", "quote": "Y", "tick": "0.10", "lot": 1},
        "fees": {"maker_bp": -1, "taker_bp": "5.0"},
        "quote": {"unit_qty": 1, "eta": 2},
        "risk": {"loss_budget": 1, "max_position_qty": 5, "max_order_qty": 1},
    }
    settings = Settings(layers=[weak, {"quote": {"eta": 3}}, {"symbol": "Z"}])
    assert (settings.symbol, settings.quote.eta, settings.quote.unit_qty) == ("Z", 3.0, 1)
    assert type(settings.quote.eta) is float
    assert str(settings.instrument.tick) == "0.10"
    assert (settings.fees.maker_bp, settings.fees.taker_bp) == (Decimal(-1), Decimal(5))
    with pytest.raises(ValidationError):
        settings.symbol = "Q"


def test_the_process_environment_is_not_read(monkeypatch):
    monkeypatch.setenv("VENUE", "binance-spot")
    monkeypatch.setenv("SYMBOL", "X")
    with pytest.raises(ValidationError) as caught:
        Settings(layers=[{}])
    assert "venue" in {fault["loc"][0] for fault in caught.value.errors()}


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("feed.world", ["live", "testnet"], ["mainnet", 1, ""]),
        ("feed.base_url", ["", "http://127.0.0.1:9000"], [9000, None]),
        ("feed.patience_s", [0.1, 30], [0, -1, "30 s", float("inf"), float("nan")]),
        ("web.enabled", [True, False], [None, "sometimes"]),
        ("web.port", [0, 8787, 65_535], [-1, 65_536, 80.5, "http"]),
        ("web.host", ["127.0.0.1"], [127, None]),
        ("run.log_level", ["debug", "error"], ["loud", None]),
        ("run.market_days", [0, 7], [-1, 0.5, "a week"]),
        ("run.folder", ["runs"], [7, None]),
        ("account.name", ["main", "usdm-demo", "7.b", None], ["", "a b", "-x", "x" * 33, 7]),
        ("account.api_key_file", ["../a.key", "/run/secrets/k", None], ["", 7, "k" * 64]),
        ("account.secret_file", ["s.txt", "a" * 31], ["aZ9" * 20, "-----BEGIN PRIVATE KEY-----"]),
        ("account.acknowledge", ["I accept", None], [7, True]),
        ("account.neutral_qty", [Decimal("1.5"), 0, None], [-1, "much", float("nan")]),
        ("execution.recv_window_ms", [1, 2_000], [0, 2_001, 1.5, "1 s", None]),
        ("execution.dead_man_s", [10, 15], [9, 601, 15_000, 10.5]),
        ("execution.request_timeout_ms", [3_000], [0, -1, 3.5]),
        ("execution.filters_s", [60], [0, None]),
        ("execution.amend", ["auto", "never"], ["always", True, None]),
    ],
)
def test_keys_of_a_daemon(key: str, right: list[object], wrong: list[object]) -> None:
    section, name = key.split(".")
    model = Settings.model_fields[section].annotation
    for value in right:
        assert getattr(model.model_validate({name: value}), name) == value
    for value in wrong:
        with pytest.raises(ValidationError):
            model.model_validate({name: value})
    with pytest.raises(ValidationError):
        model.model_validate({f"{name}x": right[0]})
