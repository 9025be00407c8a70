import pandas as pd


def to_frame(records: list[bytes]) -> pd.DataFrame:
    """One row for each record, in the same order."""
    # Cut each record into the fields of struct event here.
    return pd.DataFrame()
