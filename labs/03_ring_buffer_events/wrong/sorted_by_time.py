# expect: Every row is right, and the order is another
import struct

import pandas as pd

EVENT = struct.Struct("<QIIi4xq16s")  # 4x: C aligns the offset to 8 bytes


def to_frame(records: list[bytes]) -> pd.DataFrame:
    """One row for each record, in the same order."""
    rows = [EVENT.unpack(record) for record in records]
    df = pd.DataFrame(rows, columns=["ns", "pid", "thread", "fd", "offset", "comm"])
    df["comm"] = [text(raw) for raw in df.comm]
    return df.sort_values("ns")


def text(raw: bytes) -> str:
    """What stands before the first NUL."""
    return raw.partition(b"\0")[0].decode(errors="replace")
