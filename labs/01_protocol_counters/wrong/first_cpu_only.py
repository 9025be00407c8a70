# expect: is the one of CPU
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    return {name: counters[index][0] for index, name in enumerate(NAMES)}
