"""What an error of Binance proves about the request that got it: one table. Pure.

Sources: "Error codes" and "HTTP Return Codes" of the spot REST documents; "Error Codes" and
"General Info" of the USD-M documents. Only what they prove to have done nothing is REJECTED;
what is not listed is UNKNOWN, as are these, with the reason:

* HTTP 5xx: "execution status is UNKNOWN and could have been a success" (spot), also where
  USD-M calls a bare "Service Unavailable." a failure: any server on the way may say so.
* -1000, -1001: internal errors, without a word about the order. -1006, -1007: "execution
  status unknown". -1016: a server that is going away. -2012, -4083: of a batch, any part may
  have been done.
* -1008 on spot: overload under HTTP 503, with no promise. On USD-M it is "100 % failure".
* "Duplicate order sent." and -4116: this request did nothing, but an order with our id lives.
  Ids are never used twice, so it is the same order, delivered twice.
* -5022 on an amend: a good-till-crossing order that would take is cancelled by its amend
  ("Modify Order"), so that the order may be gone.

Every other refusal of an amend leaves the order as it was ("Modify Order"; "Order Amend Keep
Priority FAQ").
"""

import re
from typing import Final

import msgspec

from bot.domain.events import ABSENT
from bot.venues.orderentry import Priority, Refusal, Verdict

# Silence where the venue does not say how long: weights are counted by the minute, the shortest
# ban is two minutes ("IP Limits"), the shortest limit of orders ten seconds.
MINUTE_S: Final = 60.0
BAN_S: Final = 120.0
ORDERS_S: Final = 10.0
OVERLOAD_S: Final = 1.0  # "retry with backoff"

UNLISTED: Final = Refusal(Verdict.UNKNOWN, "unlisted")


def _rejected(
    reason: str,
    *codes: int,
    limited_s: float = 0.0,
    auth: bool = False,
    clock: bool = False,
    post_only: bool = False,
) -> dict[int, Refusal]:
    answer = Refusal(
        Verdict.REJECTED, reason, limited_s, auth=auth, clock=clock, post_only=post_only
    )
    return dict.fromkeys(codes, answer)


def _unknown(reason: str, *codes: int) -> dict[int, Refusal]:
    return dict.fromkeys(codes, Refusal(Verdict.UNKNOWN, reason))


_BOTH: Final = {
    **_unknown("internal", -1000, -1001, -1016),
    **_unknown("no_answer", -1006, -1007),
    # -2008, "Invalid Api-Key ID.", is in no document, but is what the spot testnet says.
    **_rejected("unauthorised", -1002, -1022, -1099, -2008, -2014, -2015, auth=True),
    # The clock is compared before the order is forwarded to the matching engine.
    **_rejected("clock", -1021, clock=True),
    **_rejected("too_many_requests", -1003, limited_s=MINUTE_S),
    **_rejected("too_many_orders", -1015, limited_s=ORDERS_S),
    # "The request didn't reach the Matching Engine."
    **_rejected("filter", -1013, -1111),
    # 11xx, "Request issues": the request itself was not understood.
    **_rejected("malformed", -1014, -1020, -1100, -1101, -1102, -1103, -1104, -1105, -1106),
    **_rejected("malformed", -1108, -1112, -1114, -1115, -1116, -1117, -1118, -1119, -1120),
    **_rejected("malformed", -1121, -1122, -1125, -1127, -1128, -1130),
    **_rejected("rejected", -2010, -2016),
    -2013: Refusal(Verdict.ABSENT, ABSENT),
}

_SPOT: Final = {
    **_BOTH,
    **_unknown("overload", -1008),
    **_rejected("malformed", -1134, -1135, -1139, -1145, -1151, -1152, -1153, -1161, -1194),
    **_rejected("malformed", -1210, -1211, -1220),
    **_rejected("amend", -2038),
    # "Canceled or expired … over 90 days ago and has been archived".
    -2026: Refusal(Verdict.ABSENT, "archived"),
}

_USDM: Final = {
    **_BOTH,
    **_rejected("overload", -1008, limited_s=OVERLOAD_S),
    **_rejected("unauthorised", -1011, -1109, -2017, -4056, -4057, -4109, auth=True),
    **_rejected("malformed", -1023, -1110, -1113, -1126, -1136),
    **_rejected("balance", -2018, -2019, -2024, -2027, -2028, -4050, -4051),
    **_rejected("rejected", -2020, -2021, -2022, -2023, -2026, -5021, -5041),
    **_rejected("too_many_open", -2025, -4045),
    **_rejected("filter", -4001, -4002, -4003, -4004, -4005, -4006, -4007, -4013, -4014, -4016),
    **_rejected("filter", -4023, -4024, -4029, -4030, -4131, -4164, -4183, -4184, -4210, -4211),
    **_rejected("filter", -5029),
    **_rejected("malformed", -4000, -4015, -4019, -4020, -4021, -4031, -4032, -4060, -4061),
    **_rejected("malformed", -4062, -4082, -4084, -4104, -4120, -4135, -4137, -4138, -4139),
    **_rejected("malformed", -4142, -4144, -4165, -5025, -5037, -5038, -5039, -5040),
    **_rejected("closed", -4022, -4140, -4141, -5024),
    **_rejected("forbidden", -4087, -4088, -4402, auth=True),
    # Rules of conduct, of size and of cooling-off: for a while only reducing is allowed.
    **_rejected("restricted", -4118, -4192, -4400, -4401),
    **_unknown("batch", -2012, -4083),
    **_unknown("duplicate", -4116),
    **_rejected("post_only", -5022, post_only=True),
    **_rejected("clock", -5028, clock=True),
    **_rejected("amend", -5026, -5027),
}

TABLE: Final = {"binance-spot": _SPOT, "binance-usdm": _USDM}

# Codes that say only who refused; the message says why ("Messages for -1010 ERROR_MSG_RECEIVED,
# -2010 NEW_ORDER_REJECTED, -2011 CANCEL_REJECTED, and -2038 ORDER_AMEND_REJECTED").
BY_MESSAGE: Final = (-1010, -2010, -2011, -2038)

MESSAGES: Final = (
    ("unknown order sent", Refusal(Verdict.ABSENT, ABSENT)),
    ("duplicate order sent", Refusal(Verdict.UNKNOWN, "duplicate")),
    ("would immediately match and take", Refusal(Verdict.REJECTED, "post_only", post_only=True)),
    ("insufficient balance", Refusal(Verdict.REJECTED, "balance")),
    ("market is closed", Refusal(Verdict.REJECTED, "closed")),
    ("filter failure", Refusal(Verdict.REJECTED, "filter")),
    ("price * qty is zero", Refusal(Verdict.REJECTED, "filter")),
    ("disabled on this account", Refusal(Verdict.REJECTED, "forbidden", auth=True)),
    ("may not place or cancel orders", Refusal(Verdict.REJECTED, "forbidden", auth=True)),
    ("not permitted for this account", Refusal(Verdict.REJECTED, "forbidden", auth=True)),
    ("restricted for this account", Refusal(Verdict.REJECTED, "forbidden", auth=True)),
    ("trading is not enabled", Refusal(Verdict.REJECTED, "forbidden", auth=True)),
    ("order amend", Refusal(Verdict.REJECTED, "amend")),
    ("would change no state", Refusal(Verdict.REJECTED, "amend")),
    ("not supported for this symbol", Refusal(Verdict.REJECTED, "malformed")),
    ("unsupported order combination", Refusal(Verdict.REJECTED, "malformed")),
    ("check origclordid and orderid", Refusal(Verdict.REJECTED, "malformed")),
)

# A status without a code of the venue. 403 is its firewall's, which may also mean too much.
STATUSES: Final = {
    401: Refusal(Verdict.REJECTED, "unauthorised", auth=True),
    403: Refusal(Verdict.REJECTED, "firewall", limited_s=MINUTE_S),
    429: Refusal(Verdict.REJECTED, "too_many_requests", limited_s=MINUTE_S),
}

_UNKNOWN_KEY: Final = (
    "the API key is not known here: keys of production, testnet and demo differ, and unused ones "
    "are deleted"
)
KEY_FAULTS: Final = {
    -1022: "the signature is wrong: this is not the secret that belongs to the API key",
    -2008: _UNKNOWN_KEY,
    -2014: "what was given as API key does not have the form of one",
    -2015: "the API key is not known here, may not be used from {address}, or may not do this: "
    "compare its world, its list of IP addresses and its permissions at the venue",
}
# "Invalid API-key, IP, or permissions for action, request ip: 1.2.3.4": USD-M names the address.
_ADDRESS: Final = re.compile(r"request ip: ?([0-9a-fA-F.:]{3,45})")

_CODE: Final = re.compile(r'"code"\s*:\s*(-[0-9]{1,6})\b')
_WINDOW: Final = re.compile(r"orders per ([0-9]{1,4}) ?(SECOND|MINUTE|HOUR|DAY)", re.IGNORECASE)
_SECONDS: Final = {"SECOND": 1, "MINUTE": 60, "HOUR": 3_600, "DAY": 86_400}


def refusal(
    venue: str,
    status: int,
    code: int | None,
    text: str,
    priority: Priority | None = None,
    retry_after_s: float = 0.0,
) -> Refusal:
    """What an error says; `text` is the venue's message or the raw body.

    `priority` tells what was asked, where that is known. `retry_after_s` is the Retry-After
    header, which comes with every 429 and 418 (spot "IP Limits"); 0 where there was none.
    """
    if code is None and (found := _CODE.search(text)):
        code = int(found[1])
    if status == 418 or "IP banned until" in text:
        wait = retry_after_s or BAN_S
        return Refusal(Verdict.REJECTED, "banned", limited_s=wait, banned=True)
    if code is None:
        answer = STATUSES.get(status, UNLISTED)
    else:
        answer = _by_code(venue, code, text)
        if status == 429 and not answer.limited_s:
            answer = STATUSES[429]
    if code == -5022 and priority is Priority.AMEND:
        answer = msgspec.structs.replace(answer, verdict=Verdict.UNKNOWN)
    if answer.limited_s:
        wait = retry_after_s or _window(text) or answer.limited_s
        answer = msgspec.structs.replace(answer, limited_s=wait)
    return answer


def key_fault(code: int | None, text: str) -> str:
    """What is wrong with the key, for its owner: one sentence by the venue's code."""
    found = _ADDRESS.search(text)
    address = f"the address {found[1]}" if found else "this machine's address"
    words = KEY_FAULTS.get(code or 0, "the venue does not let this API key in")
    return words.format(address=address)


def _by_code(venue: str, code: int, text: str) -> Refusal:
    if code in BY_MESSAGE:
        message = text.lower()
        for words, answer in MESSAGES:
            if words in message:
                return answer
    return TABLE[venue].get(code, UNLISTED)


def _window(text: str) -> float:
    """The length of the limit that a message names ("50 orders per 10 SECOND"), else 0."""
    found = _WINDOW.search(text)
    return float(int(found[1]) * _SECONDS[found[2].upper()]) if found else 0.0
