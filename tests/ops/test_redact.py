"""Secrets never leave."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.units import Side
from bot.ops.redact import DEPTH_MAX, ITEMS_MAX, REDACTED, TEXT_CHARS_MAX, Redaction

# As Binance makes them: 64 letters and digits; a signature is 64 hex digits.
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class Account(msgspec.Struct):
    name: str
    api_secret: str


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        "api_secret",
        "token",
        "password",
        "passwd",
        "apikey",
        "apiKey",
        "api_key",
        "API-KEY",
        "X-MBX-APIKEY",
        "signature",
        "Authorization",
        "listenKey",
        "listen_key",
        "LISTENKEY",
        "passphrase",
        "set-cookie",
    ],
)
@pytest.mark.parametrize("value", ["abc", 17, None, ["abc"], {"a": "abc"}, Decimal(3)])
def test_by_name(key: str, value: object) -> None:
    assert Redaction().fields({key: value, "x": 1}) == {key: REDACTED, "x": 1}
    assert Redaction().fields({"deep": [{key: value}]}) == {"deep": [{key: REDACTED}]}


@pytest.mark.parametrize(
    "text",
    [
        f"POST https://x/order?symbol=A&signature={SIGNATURE}&recvWindow=5",
        f"/order?a=1&signature={SIGNATURE}",
        f"X-MBX-APIKEY: {SIGNATURE}",
        f"{{'X-MBX-APIKEY': '{SIGNATURE}', 'b': 1}}",
        f'{{"apiKey": "{SIGNATURE}"}}',
        f'{{\\"signature\\":\\"{SIGNATURE}\\"}}',
        f"<CIMultiDict('X-MBX-APIKEY': '{SIGNATURE}')>",
        f"((b'X-MBX-APIKEY', b'{SIGNATURE}'), (b'a', b'b'))",
        f"[('Authorization', 'Bearer {SIGNATURE}')]",
        f"Authorization: Bearer {SIGNATURE}",
        f"listenKey={SIGNATURE}",
        f"listenKey%3D{SIGNATURE}",
        f"secret = {SIGNATURE}",
        f"Struct(api_secret='{SIGNATURE}')",
        f'password: "two words {SIGNATURE}"',
        f'password: "never closed {SIGNATURE}',
        f"https://user:{SIGNATURE}@proxy.example/x",
        f"-----BEGIN PRIVATE KEY-----\n{SIGNATURE}\n-----END PRIVATE KEY-----",
        f"-----BEGIN EC PRIVATE KEY-----\n{SIGNATURE}",
    ],
)
def test_in_text(text: str) -> None:
    for given_text in (text, f"before {text} after", repr(text), json.dumps(text)):
        shown = Redaction().text(given_text)
        assert SIGNATURE not in shown
        assert REDACTED in shown


def test_what_stands_beside_a_secret_stays() -> None:
    shown = Redaction().text(f"GET /order?symbol=BTCUSDT&signature={SIGNATURE}&recvWindow=5000 401")
    assert shown == f"GET /order?symbol=BTCUSDT&signature={REDACTED}&recvWindow=5000 401"
    pem = f"-----BEGIN PRIVATE KEY-----\n{SIGNATURE}\n-----END PRIVATE KEY-----"
    assert Redaction().text(f"a {pem} b") == f"a {REDACTED} b"
    assert Redaction().text("wss://u:p@x.example/ws") == f"wss://{REDACTED}@x.example/ws"


def test_a_listen_key_in_a_path() -> None:
    assert Redaction().text(f"wss://x.example/ws/{KEY}") == f"wss://x.example/ws/{REDACTED}"


@pytest.mark.parametrize(
    "text",
    [
        f"config {DIGEST}",
        "mmbot-7f3a9c01-1234",
        "wss://stream.binance.com:9443/ws/btcusdt@depth@100ms",
        "FeedLost: no frame for 3.2 s",
        "a@b.example",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    assert Redaction().text(text) == text


def test_values_become_plain() -> None:
    value = {
        "decimal": Decimal("61800.20"),
        "side": Side.BUY,
        "nan": float("nan"),
        "float": np.float64(0.5),
        "int": np.int64(3),
        "flag": True,
        "bytes": b"a\xffb",
        "error": ValueError("signature=abc"),
        "items": ({2, 1}, (None,)),
        "struct": Account("main", KEY),
        3: object,
    }
    shown = Redaction().fields(value)
    assert shown == {
        "decimal": "61800.20",
        "side": "BUY",
        "nan": "nan",
        "float": 0.5,
        "int": 3,
        "flag": True,
        "bytes": "a\\xffb",
        "error": f"ValueError: signature={REDACTED}",
        "items": [[1, 2], [None]],
        "struct": {"name": "main", "api_secret": REDACTED},
        "3": "<class 'object'>",
    }
    assert {type(shown["float"]), type(shown["int"])} == {float, int}


def test_sizes_are_bounded() -> None:
    shown = Redaction().fields({str(n): n for n in range(1_000)})
    assert len(shown) == ITEMS_MAX + 1
    assert shown["…"] == "1000 items"
    items = Redaction().plain(list(range(1_000)))
    assert isinstance(items, list)
    assert items[ITEMS_MAX:] == ["… 1000 items"]
    assert Redaction().text("a " * 9_000) == "a " * (TEXT_CHARS_MAX // 2) + "… (18000 characters)"


def test_a_circle_ends() -> None:
    circle: list[object] = []
    circle.append(circle)
    shown = json.dumps(Redaction().plain(circle))
    assert shown.count("[") == DEPTH_MAX + 2  # and the repr of the rest, which is "[[...]]"


def test_a_cut_shows_no_part_of_a_secret() -> None:
    redaction = Redaction()
    redaction.hide(SIGNATURE)
    shown = redaction.text("a " * (TEXT_CHARS_MAX // 2 - 10) + SIGNATURE)
    assert SIGNATURE[:8] not in shown


def test_by_value() -> None:
    redaction = Redaction()
    redaction.hide('pa ss/w"örd')
    redaction.hide('pa ss/w"örd and more')
    forms = ['pa ss/w"örd', "pa%20ss%2Fw%22%C3%B6rd", "pa%20ss/w%22%C3%B6rd", 'pa ss/w\\"\\u00f6rd']
    for form in forms:
        assert redaction.text(f"x{form}y") == f"x{REDACTED}y"
    assert redaction.text('pa ss/w"örd and more') == REDACTED
    assert redaction.fields({'pa ss/w"örd': 1}) == {REDACTED: 1}
    assert "pa ss" not in repr(redaction)


def test_a_secret_must_be_recognisable() -> None:
    with pytest.raises(ValueError, match="at least 8 characters"):
        Redaction().hide("abc")


def test_hostile_text_takes_no_time() -> None:
    # Each of these is quadratic for a careless pattern: minutes, where this takes milliseconds.
    redaction = Redaction()
    for text in ("secret" * 50_000, "token='" * 50_000, "a" * 300_000, "://a" * 80_000):
        assert redaction.text(text)
    redaction.text("-----BEGIN PRIVATE KEY-----" * 10_000)


SECRETS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=12)
NAMES = st.sampled_from(["apiKey", "secret", "signature", "X-MBX-APIKEY", "listenKey", "x_token"])
# Without letters and digits, so that it never is the secret by chance.
FILLER = st.text(st.characters(exclude_categories=("L", "N", "Cs")), max_size=20)


def wrapped(secret: str) -> st.SearchStrategy[Any]:
    """Anything that tells `secret` together with its name."""
    leaf = st.one_of(
        st.builds(lambda n, a, b: f"{a} {n}={secret}&{b}", NAMES, FILLER, FILLER),
        st.builds(lambda n: f"{n}: {secret}", NAMES),
        st.builds(lambda n: repr({n: secret}), NAMES),
        st.builds(lambda n: repr([(n, secret)]), NAMES),
        st.builds(lambda n: json.dumps(json.dumps({n: secret})), NAMES),
        st.builds(lambda n: {n: secret}, NAMES),
        st.builds(lambda n: ValueError(f"{n}={secret}"), NAMES),
        st.just(Account("a", secret)),
        st.builds(lambda n: f"{n}={secret}".encode(), NAMES),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, FILLER),
            st.dictionaries(FILLER, inner, max_size=3),
        ),
        max_leaves=5,
    )


@given(SECRETS.flatmap(lambda s: st.tuples(st.just(s), wrapped(s))))
def test_no_named_secret_survives(case: tuple[str, object]) -> None:
    secret, value = case
    assert secret not in json.dumps(Redaction().plain(value))


@given(SECRETS, st.recursive(FILLER, lambda v: st.lists(v) | st.dictionaries(FILLER, v)), FILLER)
def test_no_known_secret_survives(secret: str, value: object, filler: str) -> None:
    redaction = Redaction()
    redaction.hide(secret)
    shown = redaction.fields({"a": value, f"b{secret}": [filler + secret + filler, {"c": secret}]})
    assert secret not in json.dumps(shown)
