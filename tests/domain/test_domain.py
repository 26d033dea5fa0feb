"""The vocabulary: frozen, comparable by value, and the same after a trip through bytes."""

import importlib
import pkgutil
from decimal import Decimal
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bot.domain
from bot.domain import decisions, events, tape
from bot.domain.account import AccountOrder, InForce, Kind, NewOrder, Status
from bot.domain.decisions import Decision
from bot.domain.events import Event, FeedEvent
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S, Side

Facts = Event | FeedEvent

int64 = st.integers(-(2**63), 2**63 - 1)
st.register_type_strategy(int, int64)  # MessagePack integers; every count and time fits
st.register_type_strategy(float, st.floats(allow_nan=False))
st.register_type_strategy(Decimal, st.decimals(allow_nan=False))


def structs() -> list[type[msgspec.Struct]]:
    """Every Struct that a file of the domain defines."""
    found = []
    for info in pkgutil.iter_modules(bot.domain.__path__):
        module = importlib.import_module(f"bot.domain.{info.name}")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, msgspec.Struct)
            and value.__module__ == module.__name__
        ]
    return found


def members(union: object) -> set[type]:
    return set(get_args(union))


@pytest.mark.parametrize("struct", structs(), ids=lambda struct: struct.__name__)
def test_every_struct_is_frozen(struct):
    assert struct.__struct_config__.frozen


# Evidence is measured and finite: JSON has no other numbers.
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


@given(st.data(), st.sampled_from(sorted(members(Facts) | members(Decision), key=str)))
def test_a_fact_survives_bytes_and_cannot_change(data, struct):
    union = Facts if struct in members(Facts) else Decision
    fact = data.draw(st.builds(struct))
    for codec in (msgspec.msgpack, msgspec.json):
        again = codec.decode(codec.encode(fact), type=union)
        assert type(again) is struct
        assert again == fact
    with pytest.raises(AttributeError):
        setattr(fact, struct.__struct_fields__[0], None)


@pytest.mark.parametrize(("module", "union"), [(events, Facts), (decisions, Decision)])
def test_unions_name_every_member(module, union):
    assert {s for s in structs() if s.__module__ == module.__name__} == members(union)


def test_tags_are_unique_over_events_and_decisions():
    tags = [struct.__struct_config__.tag for struct in members(Facts) | members(Decision)]
    assert len(tags) == len(set(tags))


def test_side_is_a_sign():
    assert [Side.BUY, Side.SELL] == [1, -1]
    assert -Side.BUY == Side.SELL


def test_units_of_time():
    assert NS_PER_S == 1_000 * NS_PER_MS == 10**9


def test_prices_and_quantities_are_exact():
    instrument = Instrument("v", "S", "B", "Q", tick=Decimal("0.1"), lot=Decimal("0.001"))
    assert str(instrument.price(618_002)) == "61800.2"
    assert str(instrument.quantity(2_507)) == "2.507"


def test_rows_of_a_tape_are_eight_bytes_a_field():
    assert tape.ROW.itemsize == 8 * len(tape.ROW.names)
    assert {tape.ROW[name] for name in tape.ROW.names} == {np.dtype("i8"), np.dtype("f8")}


def test_constants_of_a_tape_are_distinct():
    kinds = [tape.NOTHING, tape.BOOK_RESET, tape.BOOK_CHANGED, tape.TOUCH_CHANGED]
    kinds += [tape.TRADED, tape.BOOK_LOST]
    causes = [value for name, value in vars(tape).items() if name.startswith("LOST_")]
    causes = [value for value in causes if isinstance(value, int)]
    assert len(kinds) == len(set(kinds))
    assert sorted(causes) == sorted(tape.LOST_NAMES)


def test_an_accounts_order_says_what_it_is() -> None:
    wanted = [
        NewOrder(Side.BUY, 1, 1, "a", kind, in_force)
        for kind, in_force in [
            (Kind.LIMIT, InForce.GTC), (Kind.LIMIT, InForce.GTX), (Kind.LIMIT_MAKER, InForce.GTC),
        ]
    ]  # fmt: skip
    assert [one.post_only for one in wanted] == [False, True, True]
    orders = [AccountOrder(1, "a", wanted[0], 1, 1, status, 0, 0, 0, 0) for status in Status]
    assert [one.status for one in orders if one.is_open] == [Status.NEW, Status.PARTIALLY_FILLED]
