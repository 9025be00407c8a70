from helpers.maps import BpfMap

NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters: BpfMap) -> dict[str, int]:
    return {name: sum(counters[index]) for index, name in enumerate(NAMES)}
