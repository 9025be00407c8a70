# expect: C takes the first NUL for the end
import struct

import pandas as pd

EVENT = struct.Struct("<QIIi4xq16s")  # 4x: C aligns the offset to 8 bytes


def to_frame(records: list[bytes]) -> pd.DataFrame:
    """One row for each record, in the same order."""
    rows = [EVENT.unpack(record) for record in records]
    df = pd.DataFrame(rows, columns=["ns", "pid", "thread", "fd", "offset", "comm"])
    df["comm"] = [text(raw) for raw in df.comm]
    return df


def text(raw: bytes) -> str:
    """What stands before the first NUL."""
    return raw.rstrip(b"\0").decode(errors="replace")
