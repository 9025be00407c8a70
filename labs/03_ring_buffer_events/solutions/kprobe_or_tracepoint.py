import pandas as pd

# Where each number begins, its bytes, and whether it has a sign. From 20 to 24: padding.
NUMBERS = {
    "ns": (0, 8, False),
    "pid": (8, 4, False),
    "thread": (12, 4, False),
    "fd": (16, 4, True),
    "offset": (24, 8, True),
}


def to_frame(records: list[bytes]) -> pd.DataFrame:
    """One row for each record, in the same order."""
    return pd.DataFrame([row(record) for record in records], columns=[*NUMBERS, "comm"])


def row(record: bytes) -> dict[str, int | str]:
    numbers = {
        name: int.from_bytes(record[at : at + size], "little", signed=signed)
        for name, (at, size, signed) in NUMBERS.items()
    }
    name, _, _ = record[32:].partition(b"\0")
    return {**numbers, "comm": name.decode(errors="replace")}
