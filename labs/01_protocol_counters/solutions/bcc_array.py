from helpers.maps import BpfMap

NAMES = {0: "TCP", 1: "UDP", 2: "ICMP", 3: "other"}


def totals(counters: BpfMap) -> dict[str, int]:
    sums = counters.frame().groupby("key")["value"].sum()
    return sums.rename(NAMES).to_dict()
