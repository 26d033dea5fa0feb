import pytest

from bot.venues.binance.reply import Refused, Request
from bot.venues.binance.signing import (
    check_signature,
    check_time,
    parameters,
    signature_of,
)

# The example of the spot documents, "SIGNED endpoint examples for POST /api/v3/order".
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"  # noqa: S105 - public
ORDER = (
    "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1"
    "&recvWindow=5000&timestamp=1499827319559"
)
SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
MIXED = "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77"
NOW = 1_499_827_319_559


def test_the_documents_example() -> None:
    assert signature_of(SECRET, ORDER) == SIGNATURE
    for query, body in [
        (f"{ORDER}&signature={SIGNATURE}", ""),
        ("", f"{ORDER}&signature={SIGNATURE}"),
    ]:
        check_signature(Request("POST", "/api/v3/order", query, body), SECRET)
    # "Mixed query string and request body": no & between the two.
    query, _, body = ORDER.partition("&quantity")
    body = f"quantity{body}"
    check_signature(
        Request("POST", "/x", query, f"{body}&signature={signature_of(SECRET, query + body)}"),
        SECRET,
    )
    assert signature_of(SECRET, query + body) == MIXED


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (ORDER, -1102),
        (f"{ORDER}&signature=", -1022),
        (f"{ORDER}&signature={SIGNATURE[:-1]}0", -1022),
        (f"{ORDER}&signature=\u00e9", -1022),
        (f"{ORDER.replace('BUY', 'SELL')}&signature={SIGNATURE}", -1022),
    ],
)
def test_any_other_signature_is_refused(query: str, code: int) -> None:
    with pytest.raises(Refused) as refused:
        check_signature(Request("GET", "/x", query), SECRET)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("late", "window", "code"),
    [
        (0, None, None),
        (5_000, None, None),
        (5_001, None, -1021),
        (1_000, "999", -1021),
        (999, "999", None),
        (-999, None, None),
        (-1_000, None, -1021),
        (0, "60001", -1131),
        (0, "x", -1100),
    ],
)
def test_a_request_is_good_for_a_while(late: int, window: str | None, code: int | None) -> None:
    params = {"timestamp": str(NOW)} | ({} if window is None else {"recvWindow": window})
    if code is None:
        check_time(params, NOW + late)
        return
    with pytest.raises(Refused) as refused:
        check_time(params, NOW + late)
    assert refused.value.code == code


def test_a_request_without_a_time_is_refused() -> None:
    with pytest.raises(Refused, match="timestamp"):
        check_time({}, NOW)


def test_parameters_come_from_both_and_the_query_wins() -> None:
    request = Request("POST", "/x", "a=1&b=%5B2%5D", "a=3&c=")
    assert parameters(request) == {"a": "1", "b": "[2]", "c": ""}
