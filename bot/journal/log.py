"""The append-only log of own events and decisions; kept for ever.

A record is a little-endian u32 length, the u32 CRC-32 of this payload and all before it, and
the payload in MessagePack: a record that was changed, taken out or put in is noticed at the
next one. The first record is a `Header`, the last one of a clean stop a `Closed`.
"""

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

import msgspec

from bot.domain.decisions import Decision
from bot.domain.events import Event, FeedEvent
from bot.domain.instrument import Fees, Instrument
from bot.domain.params import Params
from bot.journal.capture import JournalError

LOG_VERSION: Final = 4
VERSIONS_READ: Final = (3, LOG_VERSION)  # what version 3 says, version 4 says in the same way
RECORD_BYTES_MAX: Final = 2**20
BUFFER_BYTES: Final = 2**20

_PREFIX: Final = struct.Struct("<II")


class Header(msgspec.Struct, frozen=True, gc=False, tag=True, kw_only=True):
    """What a run was: enough to build the same engine again.

    `version` is the log's, `bot_version` the program's; `started_at` is in ns. Venue and
    symbol are the instrument's; `prefix` starts the client ids of the run's orders.
    """

    version: int = LOG_VERSION
    bot_version: str
    mode: str
    started_at: int
    seed: int
    config_digest: str
    instrument: Instrument
    fees: Fees
    params: Params
    prefix: str


class Learned(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An event other than a market frame, learned after `at_frame` of those."""

    at_frame: int
    event: Event | FeedEvent


class Decided(msgspec.Struct, frozen=True, gc=False, tag=True):
    """One call of `decide` at `now`, after `at_frame` market frames.

    `inputs` is the running CRC-32 of all frame bytes learned until then.
    """

    at_frame: int
    now: int
    inputs: int
    decisions: list[Decision]


class Closed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A clean end; a log without it belongs to a crash or to a run that is still going."""

    at_frame: int
    now: int
    reason: str


Record = Header | Learned | Decided | Closed


class _Version(msgspec.Struct, tag="Header"):
    """As much of a header as every version of the log has."""

    version: int


class DecisionDigest:
    """Running SHA-256 over every (now, decisions): the same run twice has the same digest."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._encode = msgspec.msgpack.Encoder(order="deterministic").encode

    def __repr__(self) -> str:
        return f"DecisionDigest({self.hexdigest!r})"

    @property
    def hexdigest(self) -> str:
        """64 hex digits over what was added so far."""
        return self._sha.hexdigest()

    def add(self, now: int, decisions: Sequence[Decision]) -> None:
        """Take one call of `decide` into account."""
        self._sha.update(self._encode((now, decisions)))


class LogWriter:
    """Writes a new log, record by record.

    Records stay in this process until `flush` (or until `BUFFER_BYTES` have gathered).
    Failures to write are raised as `JournalError`.
    """

    def __init__(self, path: Path) -> None:
        """Raise `JournalError` when `path` exists: a log is never overwritten."""
        try:
            self._file = path.open("xb", buffering=BUFFER_BYTES)
        except OSError as error:
            raise JournalError(f"{path} cannot be created: {error.strerror}") from error
        self.path = path
        self.records = 0
        self._crc = 0
        # Ordered keys: equal decisions must have equal bytes.
        self._encode = msgspec.msgpack.Encoder(order="deterministic").encode

    def __repr__(self) -> str:
        return (
            f"LogWriter(path={str(self.path)!r}, records={self.records}, "
            f"closed={self._file.closed})"
        )

    def append(self, record: Record) -> None:
        """Add one record to the buffer; the first one must be the `Header`."""
        assert self.records or type(record) is Header
        payload = self._encode(record)
        size = len(payload)
        if size > RECORD_BYTES_MAX:
            raise JournalError(
                f"{self.path}: a record of {size} bytes is over the limit of {RECORD_BYTES_MAX}"
            )
        try:
            self._crc = crc32(payload, self._crc)
            self._file.write(_PREFIX.pack(size, self._crc) + payload)
        except OSError as error:
            raise self._failed(error) from error
        self.records += 1

    def flush(self) -> None:
        """Hand every record to the operating system; then a crash of the bot loses none."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Flush, ask for the disk itself, close; does nothing the second time."""
        if self._file.closed:
            return
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> JournalError:
        return JournalError(f"{self.path} cannot be written: {error.strerror}")


def read_log(path: Path) -> Iterator[Record]:
    """Yield a log's records in order.

    A last record that is cut off ends the stream quietly: that is a crash. Raises
    `JournalError`, after the records before it, naming the file and the byte offset of a
    damaged record; and at once for a log of another version or a file that is no log.
    """
    try:
        with path.open("rb") as file:
            yield from _records(file, path)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error


def _records(file: BinaryIO, path: Path) -> Iterator[Record]:
    decode = msgspec.msgpack.Decoder(Record).decode
    offset = 0
    before = 0
    while len(prefix := file.read(_PREFIX.size)) == _PREFIX.size:
        length, crc = _PREFIX.unpack(prefix)
        if not 0 < length <= RECORD_BYTES_MAX:
            raise _damaged(path, offset, f"no record is {length} bytes long")
        payload = file.read(length)
        if len(payload) < length:
            if _holds_whole_payload(payload, crc, before):
                raise _damaged(path, offset, "the record is shorter than its length says")
            return
        if crc32(payload, before) != crc:
            raise _damaged(path, offset, "the checksum does not match")
        before = crc
        if offset == 0:
            _refuse_foreign(payload, path)
        try:
            record = decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _damaged(path, offset, str(error)) from error
        yield record
        offset += _PREFIX.size + length


def _holds_whole_payload(rest: bytes, crc: int, before: int) -> bool:
    """Whether the rest of a file begins with all of a payload that it seems to cut off.

    A crash leaves less than the payload. If the checksum fits some beginning of what is
    there, then the length is wrong: damage, behind which further records may lie.
    """
    running = before
    for at in range(len(rest)):
        running = crc32(rest[at : at + 1], running)
        if running == crc:
            return True
    return False


def _refuse_foreign(payload: bytes, path: Path) -> None:
    try:
        version = msgspec.msgpack.decode(payload, type=_Version).version
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JournalError(f"{path} is no log of decisions: it starts without a header") from error
    if version not in VERSIONS_READ:
        known = " and ".join(map(str, VERSIONS_READ))
        raise JournalError(
            f"{path} is a log of version {version}, this program reads versions {known}"
        )


def _damaged(path: Path, offset: int, why: str) -> JournalError:
    return JournalError(f"{path} is damaged at byte {offset}: {why}")
