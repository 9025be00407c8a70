# expect: goes through a float
import statistics

NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    means = [statistics.fmean(copies) for copies in counters.values()]
    return {name: round(mean * len(counters[0])) for name, mean in zip(NAMES, means, strict=True)}
