# expect: the lower half of their sum
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    return {name: sum(counters[index]) & 0xFFFFFFFF for index, name in enumerate(NAMES)}
