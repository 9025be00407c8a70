from helpers.maps import BpfMap


def totals(counters: BpfMap) -> dict[str, int]:
    sums = {"TCP": 0, "UDP": 0, "ICMP": 0, "other": 0}
    for index, name in enumerate(sums):
        for packets in counters[index]:
            sums[name] += packets
    return sums
