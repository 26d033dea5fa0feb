"""What each documented error proves."""

import pytest

from bot.venues.binance.refusals import TABLE, key_fault, refusal
from bot.venues.orderentry import Priority, Refusal, Verdict

SPOT, USDM = "binance-spot", "binance-usdm"
NO, ABSENT, UNKNOWN = Verdict.REJECTED, Verdict.ABSENT, Verdict.UNKNOWN

# Every code that the documents list for order endpoints: (product, code, message) -> (verdict,
# reason). The messages are the documents'.
BOTH = [
    (-1000, "An unknown error occurred while processing the request.", UNKNOWN, "internal"),
    (-1001, "Internal error; unable to process your request.", UNKNOWN, "internal"),
    (-1002, "You are not authorized to execute this request.", NO, "unauthorised"),
    (-1003, "Too many requests queued.", NO, "too_many_requests"),
    (-1006, "An unexpected response was received from the message bus.", UNKNOWN, "no_answer"),
    (-1007, "Timeout waiting for response from backend server.", UNKNOWN, "no_answer"),
    (-1013, "Filter failure: PRICE_FILTER", NO, "filter"),
    (-1014, "Unsupported order combination.", NO, "malformed"),
    (-1015, "Too many new orders.", NO, "too_many_orders"),
    (-1016, "This service is no longer available.", UNKNOWN, "internal"),
    (-1020, "This operation is not supported.", NO, "malformed"),
    (-1021, "Timestamp for this request is outside of the recvWindow.", NO, "clock"),
    (-1022, "Signature for this request is not valid.", NO, "unauthorised"),
    (-1100, "Illegal characters found in a parameter.", NO, "malformed"),
    (-1101, "Too many parameters sent for this endpoint.", NO, "malformed"),
    (-1102, "A mandatory parameter was not sent.", NO, "malformed"),
    (-1103, "An unknown parameter was sent.", NO, "malformed"),
    (-1104, "Not all sent parameters were read.", NO, "malformed"),
    (-1105, "A parameter was empty.", NO, "malformed"),
    (-1106, "A parameter was sent when not required.", NO, "malformed"),
    (-1108, "Parameter 'price' overflowed.", NO, "malformed"),
    (-1111, "Precision is over the maximum defined for this asset.", NO, "filter"),
    (-1114, "TimeInForce parameter sent when not required.", NO, "malformed"),
    (-1115, "Invalid timeInForce.", NO, "malformed"),
    (-1116, "Invalid orderType.", NO, "malformed"),
    (-1117, "Invalid side.", NO, "malformed"),
    (-1118, "New client order ID was empty.", NO, "malformed"),
    (-1119, "Original client order ID was empty.", NO, "malformed"),
    (-1121, "Invalid symbol.", NO, "malformed"),
    (-1127, "Lookup interval is too big.", NO, "malformed"),
    (-1128, "Combination of optional parameters invalid.", NO, "malformed"),
    (-1130, "Invalid data sent for a parameter.", NO, "malformed"),
    (-2010, "NEW_ORDER_REJECTED", NO, "rejected"),
    (-2011, "Unknown order sent.", ABSENT, "absent"),
    (-2011, "CANCEL_REJECTED", UNKNOWN, "unlisted"),
    (-2013, "Order does not exist.", ABSENT, "absent"),
    (-2014, "API-key format invalid.", NO, "unauthorised"),
    (-2015, "Invalid API-key, IP, or permissions for action.", NO, "unauthorised"),
    (-9999, "Something new.", UNKNOWN, "unlisted"),
]

SPOT_ONLY = [
    (-1008, "Server is currently overloaded with other requests.", UNKNOWN, "overload"),
    (-1010, "Market is closed.", NO, "closed"),
    (-1010, "Something new.", UNKNOWN, "unlisted"),
    (-1145, "Invalid cancelRestrictions", NO, "malformed"),
    (-2010, "Order would immediately match and take.", NO, "post_only"),
    (-2010, "Account has insufficient balance for requested action.", NO, "balance"),
    (-2010, "Duplicate order sent.", UNKNOWN, "duplicate"),
    (-2010, "Market is closed.", NO, "closed"),
    (-2010, "This action is disabled on this account.", NO, "forbidden"),
    (-2010, "This account may not place or cancel orders.", NO, "forbidden"),
    (-2010, "This symbol is not permitted for this account.", NO, "forbidden"),
    (-2010, "This symbol is restricted for this account.", NO, "forbidden"),
    (-2010, "Rest API trading is not enabled.", NO, "forbidden"),
    (-2010, "Filter failure: MAX_NUM_ORDERS", NO, "filter"),
    (-2010, "Price * QTY is zero or less.", NO, "filter"),
    (-2010, "Something new.", NO, "rejected"),
    (-2011, "This account may not place or cancel orders.", NO, "forbidden"),
    (-2011, "Market is closed.", NO, "closed"),
    # -2021 and -2022 speak of a cancel-replace here, which may have done one half.
    (-2021, "Order cancel-replace partially failed.", UNKNOWN, "unlisted"),
    (-2022, "Order cancel-replace failed.", UNKNOWN, "unlisted"),
    (-2026, "Order was canceled or expired with no executed qty.", ABSENT, "archived"),
    (-2038, "Unknown order sent.", ABSENT, "absent"),
    (-2038, "Order amend (quantity increase) is not supported.", NO, "amend"),
    (-2038, "The requested action would change no state; rejecting.", NO, "amend"),
    (-2038, "Filter failure: MAX_NUM_ORDER_AMENDS", NO, "filter"),
    (-2038, "Something new.", NO, "amend"),
    (-5022, "", UNKNOWN, "unlisted"),
]

USDM_ONLY = [
    (-1008, "Request throttled by system-level protection.", NO, "overload"),
    (-1011, "This IP cannot access this route.", NO, "unauthorised"),
    (-2012, "Batch cancel failure.", UNKNOWN, "batch"),
    (-2017, "API Keys are locked on this account.", NO, "unauthorised"),
    (-2018, "Balance is insufficient.", NO, "balance"),
    (-2019, "Margin is insufficient.", NO, "balance"),
    (-2020, "Unable to fill.", NO, "rejected"),
    (-2021, "Order would immediately trigger.", NO, "rejected"),
    (-2022, "ReduceOnly Order is rejected.", NO, "rejected"),
    (-2023, "User in liquidation mode now.", NO, "rejected"),
    (-2024, "Position is not sufficient.", NO, "balance"),
    (-2025, "Reach max open order limit.", NO, "too_many_open"),
    (-2026, "This OrderType is not supported when reduceOnly.", NO, "rejected"),
    (-2027, "Exceeded the maximum allowable position at current leverage.", NO, "balance"),
    (-2028, "Leverage is smaller than permitted.", NO, "balance"),
    (-4000, "Invalid order status.", NO, "malformed"),
    (-4001, "Price less than 0.", NO, "filter"),
    (-4002, "Price greater than max price.", NO, "filter"),
    (-4003, "Quantity less than zero.", NO, "filter"),
    (-4004, "Quantity less than min quantity.", NO, "filter"),
    (-4005, "Quantity greater than max quantity.", NO, "filter"),
    (-4013, "Price less than min price.", NO, "filter"),
    (-4014, "Price not increased by tick size.", NO, "filter"),
    (-4015, "Client order id is not valid.", NO, "malformed"),
    (-4016, "Price is higher than mark price multiplier cap.", NO, "filter"),
    (-4023, "Qty not increased by step size.", NO, "filter"),
    (-4024, "Price is lower than mark price multiplier floor.", NO, "filter"),
    (-4061, "Order's position side does not match user's setting.", NO, "malformed"),
    (-4082, "Invalid number of batch place orders.", NO, "malformed"),
    (-4083, "Fail to place batch orders.", UNKNOWN, "batch"),
    (-4087, "User can only place reduce only order", NO, "forbidden"),
    (-4088, "User can not place order currently", NO, "forbidden"),
    (-4109, "This account is inactive.", NO, "unauthorised"),
    (-4116, "clientOrderId is duplicated", UNKNOWN, "duplicate"),
    (-4131, "The counterparty's best price does not meet PERCENT_PRICE.", NO, "filter"),
    (-4140, "Invalid symbol status for opening position", NO, "closed"),
    (-4141, "Symbol is closed", NO, "closed"),
    (-4164, "Order's notional must be no smaller than 5.0", NO, "filter"),
    (-4192, "Trade forbidden due to Cooling-off Period.", NO, "restricted"),
    (-4400, "Futures Trading Quantitative Rules violated.", NO, "restricted"),
    (-4401, "Futures Trading Risk Control Rules violated.", NO, "restricted"),
    (-5021, "The FOK order has been rejected.", NO, "rejected"),
    (-5022, "The Post Only order will be rejected.", NO, "post_only"),
    (-5024, "Order amendment is not permitted.", NO, "closed"),
    (-5025, "Only limit order is supported.", NO, "malformed"),
    (-5026, "Exceed maximum modify order limit.", NO, "amend"),
    (-5027, "No need to modify the order.", NO, "amend"),
    (-5028, "Timestamp for this request is outside of the ME recvWindow.", NO, "clock"),
    (-5029, "Order's notional must be no smaller than 5", NO, "filter"),
    (-5039, "Invalid self trade prevention mode", NO, "malformed"),
    # Of the spot documents only, so that nothing is proved here.
    (-2038, "", UNKNOWN, "unlisted"),
    (-1145, "", UNKNOWN, "unlisted"),
]

CASES = [
    *((venue, *case) for venue in (SPOT, USDM) for case in BOTH),
    *((SPOT, *case) for case in SPOT_ONLY),
    *((USDM, *case) for case in USDM_ONLY),
]


@pytest.mark.parametrize(("venue", "code", "text", "verdict", "reason"), CASES)
def test_what_a_code_proves(
    venue: str, code: int, text: str, verdict: Verdict, reason: str
) -> None:
    for status in (200, 400):
        answer = refusal(venue, status, code, text)
        assert (answer.verdict, answer.reason) == (verdict, reason)
        # The same from the body as it came.
        body = f'{{"code":{code},"msg":"{text}"}}'
        assert refusal(venue, status, None, body) == answer


@pytest.mark.parametrize(
    ("venue", "status", "text", "verdict", "reason"),
    [
        (SPOT, 500, "", UNKNOWN, "unlisted"),
        (SPOT, 502, "<html>Bad Gateway</html>", UNKNOWN, "unlisted"),
        (USDM, 503, '{"msg":"Service Unavailable."}', UNKNOWN, "unlisted"),
        (USDM, 503, '{"code":-1000,"msg":"Unknown error, please check"}', UNKNOWN, "internal"),
        (USDM, 504, "", UNKNOWN, "unlisted"),
        (SPOT, 409, "", UNKNOWN, "unlisted"),
        (SPOT, 404, "<html></html>", UNKNOWN, "unlisted"),
        (SPOT, 400, "", UNKNOWN, "unlisted"),
        (SPOT, 200, "", UNKNOWN, "unlisted"),
        (USDM, 401, "", NO, "unauthorised"),
        (USDM, 403, "<html>Request blocked</html>", NO, "firewall"),
        (USDM, 429, "", NO, "too_many_requests"),
        (USDM, 418, "", NO, "banned"),
    ],
)
def test_what_a_status_without_a_known_code_proves(
    venue: str, status: int, text: str, verdict: Verdict, reason: str
) -> None:
    answer = refusal(venue, status, None, text)
    assert (answer.verdict, answer.reason) == (verdict, reason)


def test_flags_say_whose_fault_it_is() -> None:
    for code in (-1002, -1022, -2014, -2015):
        assert refusal(SPOT, 401, code, "").auth
    assert refusal(USDM, 400, -1021, "").clock
    assert refusal(USDM, 400, -5028, "").clock
    assert refusal(USDM, 400, -5022, "").post_only
    assert refusal(SPOT, 400, -2010, "Order would immediately match and take.").post_only
    plain = refusal(USDM, 400, -4164, "")
    assert plain == Refusal(NO, "filter")


@pytest.mark.parametrize(
    ("status", "code", "text", "header", "seconds"),
    [
        (429, -1003, "Too many requests; current limit is 2400 requests per minute.", 0.0, 60.0),
        (429, -1003, "Too many requests queued.", 7.0, 7.0),
        (429, None, "", 12.0, 12.0),
        (429, -1015, "Too many new orders.", 0.0, 10.0),
        (400, -1015, "Too many new orders; current limit is 50 orders per 10 SECOND.", 0.0, 10.0),
        (400, -1015, "Too many new orders; current limit is 1200 orders per 1 MINUTE.", 0.0, 60.0),
        (400, -1015, "current limit is 160000 orders per 1 DAY.", 0.0, 86_400.0),
        (429, -2010, "Order would immediately match and take.", 3.0, 3.0),
        (403, None, "<html></html>", 0.0, 60.0),
        (418, -1003, "Way too many requests; IP banned until 1573813389123.", 0.0, 120.0),
        (418, None, "", 600.0, 600.0),
        (400, -4164, "", 30.0, 0.0),
    ],
)
def test_how_long_the_venue_wants_silence(
    status: int, code: int | None, text: str, header: float, seconds: float
) -> None:
    answer = refusal(SPOT, status, code, text, None, header)
    assert answer.verdict is NO or code == -4164
    assert answer.limited_s == seconds


def test_a_ban_is_told_by_status_or_words() -> None:
    words = "Way too much request weight used; IP banned until 1573813389123."
    for answer in (refusal(SPOT, 418, None, ""), refusal(SPOT, 429, -1003, words)):
        assert answer.banned
        assert answer.verdict is NO
        assert answer.limited_s >= 120
    assert not refusal(SPOT, 429, -1003, "Too many requests queued.").banned


def test_overload_asks_for_a_breath_where_it_did_nothing() -> None:
    assert refusal(USDM, 503, -1008, "Request throttled").limited_s == 1.0
    assert refusal(SPOT, 503, -1008, "Server is currently overloaded").verdict is UNKNOWN


def test_a_post_only_amend_that_would_take_proves_nothing_about_the_order() -> None:
    asked = refusal(USDM, 400, -5022, "", Priority.AMEND)
    assert asked == Refusal(UNKNOWN, "post_only", post_only=True)
    assert refusal(USDM, 400, -5022, "", Priority.PLACE).verdict is NO
    assert refusal(USDM, 400, -4014, "", Priority.AMEND).verdict is NO
    assert refusal(USDM, 400, -2013, "", Priority.AMEND).verdict is ABSENT


def test_every_code_of_the_table_is_a_negative_number_with_a_reason() -> None:
    for table in TABLE.values():
        for code, answer in table.items():
            assert code < -999
            assert answer.reason.isidentifier()


def test_what_is_wrong_with_a_key_is_said_to_its_owner() -> None:
    assert "not the secret" in key_fault(-1022, "")
    assert "keys of production, testnet and demo differ" in key_fault(-2008, "")
    assert "the form of one" in key_fault(-2014, "")
    text = "Invalid API-key, IP, or permissions for action, request ip: 203.0.113.7"
    assert "from the address 203.0.113.7, or may not do this" in key_fault(-2015, text)
    assert "from this machine's address" in key_fault(-2015, "Invalid API-key")
    assert key_fault(None, "") == "the venue does not let this API key in"
