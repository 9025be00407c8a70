# expect: NotFound: The name 'lost' has no map
import pandas as pd

from helpers import open_map


def to_frame(records: list[bytes]) -> pd.DataFrame:
    with open_map(name="lost") as lost:
        lost[0] = 1000 - len(records)
    return pd.DataFrame(columns=["ns", "pid", "thread", "fd", "offset", "comm"])
