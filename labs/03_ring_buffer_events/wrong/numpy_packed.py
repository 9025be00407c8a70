# expect: buffer size must be a multiple
import numpy as np
import pandas as pd

# Aligned as a C compiler does it.
EVENT = np.dtype(
    [
        ("ns", "u8"),
        ("pid", "u4"),
        ("thread", "u4"),
        ("fd", "i4"),
        ("offset", "i8"),
        ("comm", "S16"),
    ],
)


def to_frame(records: list[bytes]) -> pd.DataFrame:
    """One row for each record, in the same order."""
    table = np.frombuffer(b"".join(records), EVENT)
    df = pd.DataFrame({name: table[name] for name in table.dtype.names})
    df["comm"] = [raw.split(b"\0")[0].decode(errors="replace") for raw in table["comm"]]
    return df
