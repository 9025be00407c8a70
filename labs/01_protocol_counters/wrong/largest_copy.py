# expect: that is the largest
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    return {name: max(counters[index]) for index, name in enumerate(NAMES)}
