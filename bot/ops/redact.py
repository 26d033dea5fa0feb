"""Takes secrets out of what is about to be written down: the last step before a log line.

By name (a key or the text before an = or a :), by shape (a private key, a long key of letters
and digits, a password in an address) and by value, for the secrets that the bot itself holds.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from numbers import Integral
from typing import Any, Final
from urllib.parse import quote

import msgspec

REDACTED: Final = "[redacted]"
SECRET_CHARS_MIN: Final = 8  # a shorter value is also part of ordinary words
TEXT_CHARS_MAX: Final = 8_192
ITEMS_MAX: Final = 256
DEPTH_MAX: Final = 8

NAMES: Final = (
    r"(?:secret|token|passw(?:or)?d|passphrase|api[-_ ]?key|signature|authorization"
    r"|listen[-_ ]?key|private[-_ ]?key|credential|cookie)"
)
SECRET_NAME: Final = re.compile(NAMES, re.IGNORECASE)

# `signature=…&`, `"apiKey": "…"`, `X-MBX-APIKEY: …`, `('Authorization', 'Bearer …')`, and the
# same inside of text that is itself quoted. An open quote hides everything behind it.
PAIR: Final = re.compile(
    rf"({NAMES}[\w-]{{0,32}}"
    r"""(?:\\*["']?\s{0,4}(?:[=:]|%3d)\s{0,4}|\\*["']\s{0,4},\s{0,4}(?=b?\\*["'])))"""
    r"""(?:b?\\*"[^"]*"?|b?\\*'[^']*'?|(?:(?:bearer|basic|token)\s+)?[^\s&"'\\,;)}\]]+)""",
    re.IGNORECASE,
)
PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)", re.DOTALL
)
USER_INFO: Final = re.compile(r"://[^/\s@]+@")
# Keys and listen keys of venues are 64 letters and digits; a digest in hex has no capitals.
OPAQUE: Final = re.compile(
    r"(?<![A-Za-z0-9])(?=[A-Za-z0-9]*[a-z])(?=[A-Za-z0-9]*[A-Z])[A-Za-z0-9]{60,}"
)

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


class Redaction:
    """Turns any value into plain data without secrets.

    Plain data is what JSON knows; Decimals become text, structs become objects, everything
    else is shown by its repr. Nothing is left whose own text could bring a secret back.
    """

    __slots__ = ("_hidden",)

    def __init__(self) -> None:
        self._hidden: tuple[str, ...] = ()

    def hide(self, secret: str) -> None:
        """Never show this value, nor as a URL or JSON writes it.

        Raises ValueError when it is too short to be told from ordinary text.
        """
        if len(secret) < SECRET_CHARS_MIN:
            raise ValueError(f"a secret must have at least {SECRET_CHARS_MIN} characters")
        forms = {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1]}
        # The longest first: it may hold another one.
        self._hidden = tuple(sorted(forms.union(self._hidden), key=lambda s: (-len(s), s)))

    def text(self, text: str) -> str:
        """`text` without secrets, cut at `TEXT_CHARS_MAX`."""
        for secret in self._hidden:
            text = text.replace(secret, REDACTED)
        text = PRIVATE_KEY.sub(REDACTED, text)
        text = PAIR.sub(rf"\1{REDACTED}", text)
        text = USER_INFO.sub(f"://{REDACTED}@", text)
        text = OPAQUE.sub(REDACTED, text)
        if len(text) > TEXT_CHARS_MAX:  # last: a cut secret would not be recognised
            text = f"{text[:TEXT_CHARS_MAX]}… ({len(text)} characters)"
        return text

    def fields(self, fields: Mapping[Any, object], depth: int = 0) -> dict[str, Plain]:
        """A mapping's first `ITEMS_MAX` items as plain data, by name and by value."""
        plain: dict[str, Plain] = {}
        for key, value in fields.items():
            if len(plain) == ITEMS_MAX:
                plain["…"] = f"{len(fields)} items"
                break
            name = key if isinstance(key, str) else str(key)
            hidden = SECRET_NAME.search(name) is not None
            plain[self.text(name)] = REDACTED if hidden else self.plain(value, depth + 1)
        return plain

    def plain(self, value: object, depth: int = 0) -> Plain:
        """One value as plain data."""
        match value:
            case None | bool():
                return value
            case Enum():
                return self.text(value.name)
            case str():
                return self.text(value)
            case Integral():
                return int(value)
            case float():
                return float(value) if math.isfinite(value) else str(float(value))
            case Decimal():
                return str(value)
            case bytes() | bytearray():
                return self.text(value.decode("utf-8", "backslashreplace"))
            case BaseException():
                return self.text(f"{type(value).__name__}: {value}")
            case _:
                pass
        return self.text(repr(value)) if depth >= DEPTH_MAX else self._inside(value, depth)

    def _inside(self, value: object, depth: int) -> Plain:
        match value:
            case Mapping():
                return self.fields(value, depth)
            case list() | tuple():
                return self._items(value, depth)
            case set() | frozenset():
                return self._items(sorted(value, key=repr), depth)
            case msgspec.Struct():
                return self.fields(msgspec.structs.asdict(value), depth)
            case _:
                return self.text(repr(value))

    def _items(self, items: Sequence[object], depth: int) -> list[Plain]:
        plain = [self.plain(item, depth + 1) for item in items[:ITEMS_MAX]]
        if len(items) > ITEMS_MAX:
            plain.append(f"… {len(items)} items")
        return plain

    def __repr__(self) -> str:
        return f"<Redaction hiding {len(self._hidden)} texts>"
