# expect: a float
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    return {name: float(sum(counters[index])) for index, name in enumerate(NAMES)}
