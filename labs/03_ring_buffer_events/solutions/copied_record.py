import ctypes

import pandas as pd


class Event(ctypes.Structure):
    """The struct as C lays it out: ctypes makes the same gaps."""

    _fields_ = [
        ("ns", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("thread", ctypes.c_uint32),
        ("fd", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("comm", ctypes.c_char * 16),  # reads as the bytes before the first NUL
    ]


def to_frame(records: list[bytes]) -> pd.DataFrame:
    """One row for each record, in the same order."""
    names = [name for name, _ in Event._fields_]
    events = [Event.from_buffer_copy(record) for record in records]
    rows = [[getattr(event, name) for name in names] for event in events]
    df = pd.DataFrame(rows, columns=names)
    df["comm"] = [event.comm.decode(errors="replace") for event in events]
    return df
