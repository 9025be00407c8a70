# expect: returned a list
import struct

EVENT = struct.Struct("<QIIi4xq16s")  # 4x: C aligns the offset to 8 bytes


def to_frame(records: list[bytes]) -> list[tuple]:
    """One row for each record, in the same order."""
    rows = [EVENT.unpack(record) for record in records]
    return [(*row[:5], text(row[5])) for row in rows]


def text(raw: bytes) -> str:
    """What stands before the first NUL."""
    return raw.partition(b"\0")[0].decode(errors="replace")
