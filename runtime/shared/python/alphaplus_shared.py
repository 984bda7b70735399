"""Predictions of a running AlphaPlus appliance, read from its shared-memory file (server.shared_memory).

    from alphaplus_shared import Reader, PREDICTION

    reader = Reader("/dev/shm/alphaplus")
    slot = reader.find("BTCUSDT", "1h", "btc-1h-lstm")
    if slot is not None:
        now = reader.read(slot)
        if now.state == PREDICTION and not reader.is_stale(now):
            print(now.value)

Nothing but the standard library; Linux. On Closed or Dead: close, and open again. The layout is described in
include/alphaplus.h.
"""

import mmap
import os
import re
import struct
import time
from typing import NamedTuple, Optional

MAGIC = 5568792479094819905
VERSION = 3
HEADER_BYTES = 256
SLOT_BYTES = 384
SLOTS_MAX = 4194304
FOLD = 11400714819323198485
LATE_NS = 250000000
DEAD_NS = 1000000000

AT_SLOTS = 20
AT_FILE_BYTES = 24
AT_PID = 32
AT_START_TICKS = 40
AT_PID_NAMESPACE = 48
AT_CLOCK = 64
AT_BEAT_MONOTONIC = 128
AT_USED = 192
AT_CLOSED = 200
AT_DURABLE_SEQ = 208
AT_FEED_TIME = 216
AT_LENGTHS = 192
AT_TIMEFRAME = 208
AT_SYMBOL = 224
AT_MODEL = 256

EMPTY, PREDICTION, WARMING, ABSTAINED, QUARANTINED = range(5)

# So often a slot is read again while it is being written.
ATTEMPTS = 1000

_U64 = (1 << 64) - 1
_LOCKED = struct.Struct("<24Q")
_FIELDS = struct.Struct("<8x3Qd4q6Q24sQ4d8x")


class Error(Exception):
    """The file can't be read; says why."""


class Closed(Error):
    """The appliance has ended: open the file again once it is back."""


class Dead(Error):
    """The appliance was killed or hangs: open the file again once it is back."""


class Torn(Error):
    """The appliance was in the middle of a write for too long: read again."""


class OtherVersion(Error):
    """The file has another layout version."""


class Truncated(Error):
    """The file is shorter than it says."""


class Foreign(Error):
    """Not a file of AlphaPlus, or a damaged one."""


class Snapshot(NamedTuple):
    """What a slot says; times are nanoseconds since 1970."""

    state: int
    seq: int
    durable_seq: int
    value: float
    valid_until_ns: int
    made_at_ns: int
    open_time_ns: int
    close_time_ns: int
    horizon_bars: int
    have: int
    need: int
    revision: int
    flags: int
    cause: int
    label: str
    model_version: int
    # NaN: the model isn't calibrated.
    confidence: float
    low: float
    high: float
    level: float


class Reader:
    def __init__(self, path: str):
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < HEADER_BYTES:
                raise Truncated(f"{path} has {size} bytes: it was cut off")
            self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        try:
            self._check(path, size)
        except Error:
            self._map.close()
            raise
        self._pid = self._word(AT_PID)
        self._start_ticks = self._word(AT_START_TICKS)
        try:
            namespace = os.stat("/proc/self/ns/pid").st_ino
        except OSError:
            namespace = 0
        self._same_namespace = namespace != 0 and namespace == self._word(AT_PID_NAMESPACE)

    def _check(self, path: str, size: int) -> None:
        magic, version, header_bytes, slot_bytes, self.slots, file_bytes = struct.unpack_from("<QIIIIQ", self._map)
        needed = HEADER_BYTES + self.slots * SLOT_BYTES
        if magic != MAGIC:
            raise Foreign(f"{path} is not a shared-memory file of AlphaPlus")
        if version != VERSION:
            raise OtherVersion(f"{path} has layout {version}, this reads {VERSION}")
        sizes = (header_bytes, slot_bytes, file_bytes)
        if sizes != (HEADER_BYTES, SLOT_BYTES, needed) or self.slots > SLOTS_MAX:
            raise Foreign(f"{path}: its sizes don't fit together")
        if size < needed:
            raise Truncated(f"{path} has {size} bytes and needs {needed}: it was cut off")

    def close(self) -> None:
        self._map.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _word(self, at: int) -> int:
        return struct.unpack_from("<Q", self._map, at)[0]

    def _signed(self, at: int) -> int:
        return struct.unpack_from("<q", self._map, at)[0]

    def key(self, slot: int):
        """(symbol, timeframe, model as it is deployed: "name@alias", "name/version" or "name") of a slot."""
        if not 0 <= slot < min(self._word(AT_USED), self.slots):
            raise IndexError(f"the file has no slot {slot}: find it by its key")
        base = HEADER_BYTES + slot * SLOT_BYTES
        lengths = struct.unpack_from("<3B", self._map, base + AT_LENGTHS)
        if lengths[0] > 32 or lengths[1] > 16 or lengths[2] > 128:
            raise Foreign("a name in the file is damaged")
        places = zip((AT_SYMBOL, AT_TIMEFRAME, AT_MODEL), lengths)
        return tuple(self._map[base + at : base + at + n].decode("utf-8", "replace") for at, n in places)

    def find(self, symbol: str, timeframe: str, model: str) -> Optional[int]:
        """The slot of a symbol, a timeframe as replies write it ("1h") and a model as it is deployed
        ("name@alias", "name/version" or "name"), or "name" for the first of that name. None: none yet; a stream gets its
        slot with its first bar and keeps it when another version takes over."""
        for slot in range(min(self._word(AT_USED), self.slots)):
            held = self.key(slot)
            if held[:2] == (symbol, timeframe) and model in (held[2], re.split("[/@]", held[2])[0]):
                return slot
        return None

    def read(self, slot: int) -> Snapshot:
        """What the slot says now."""
        self.check_alive()
        if not 0 <= slot < self.slots:
            raise IndexError(f"the file has no slot {slot}: find it by its key")
        base = HEADER_BYTES + slot * SLOT_BYTES
        for _ in range(ATTEMPTS):
            before = self._word(base)
            if before % 2:
                continue
            data = self._map[base : base + _LOCKED.size]
            words = _LOCKED.unpack(data)
            # There are no memory fences here: the fold tells whether the words belong together.
            fold = before
            for word in words[1:23]:
                fold = ((((fold << 5) | (fold >> 59)) & _U64) ^ word) * FOLD & _U64
            if words[0] != before or self._word(base) != before:
                continue
            if before == 0 and words[23] == 0:
                fold = 0  # never written
            if fold == words[23]:
                return self._snapshot(data)
        if self._gone():
            raise Dead("the appliance is gone: it ended in the middle of a write")
        raise Torn("the appliance was writing for too long: read again")

    @staticmethod
    def _snapshot(data: bytes) -> Snapshot:
        fields = _FIELDS.unpack(data)
        if fields[0] > QUARANTINED:
            raise Foreign("a slot in the file is damaged")
        label = fields[14].rstrip(b"\0").decode("utf-8", "replace")
        return Snapshot(*fields[:14], label, *fields[15:])

    def check_alive(self) -> None:
        """Raises Closed or Dead."""
        if self._word(AT_CLOSED):
            raise Closed("the appliance has ended: open the file again once it is back")
        # A beat in the future is of another boot.
        age = abs(time.monotonic_ns() - self._signed(AT_BEAT_MONOTONIC))
        if age > DEAD_NS or (age > LATE_NS and self._gone()):
            raise Dead(f"the appliance is gone: its heartbeat is {age / 1e9:.3f} s old")

    def _gone(self) -> bool:
        """Whether the writer's process is gone for certain."""
        if not self._same_namespace or not 0 < self._pid < 1 << 31:
            return False
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        try:
            with open(f"/proc/{self._pid}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
            return fields[0] in (b"Z", b"X") or (self._start_ticks != 0 and int(fields[19]) != self._start_ticks)
        except (OSError, IndexError, ValueError):
            return False

    def durable_seq(self) -> int:
        """Predictions with a seq up to here survive power loss."""
        return self._word(AT_DURABLE_SEQ)

    def is_stale(self, snapshot: Snapshot) -> bool:
        """Whether the prediction isn't valid any more, by the clock that the appliance goes by."""
        now = self._signed(AT_FEED_TIME) if self._word(AT_CLOCK) == 1 else time.time_ns()
        return now > snapshot.valid_until_ns
