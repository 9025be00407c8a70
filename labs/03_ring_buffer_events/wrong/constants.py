# expect: and returned the same frame
import pandas as pd


def to_frame(records: list[bytes]) -> pd.DataFrame:
    seeks = [(3, 0, "python3"), (3, 4096, "python3"), (3, 8192, "python3")]
    df = pd.DataFrame(seeks, columns=["fd", "offset", "comm"])
    return df.assign(ns=[1, 2, 3], pid=4242, thread=4242)
