# expect: Which columns does whoever goes on with your frame expect
import struct

import pandas as pd

EVENT = struct.Struct("<QIIi4xq16s")  # 4x: C aligns the offset to 8 bytes


def to_frame(records: list[bytes]) -> pd.DataFrame:
    """One row for each record, in the same order."""
    rows = [EVENT.unpack(record) for record in records]
    names = ["ns", "pid", "thread", "fd", "offset", "comm"]
    df = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
    if len(df):
        df["comm"] = df.comm.map(text)
    return df


def text(raw: bytes) -> str:
    """What stands before the first NUL."""
    return raw.partition(b"\0")[0].decode(errors="replace")
