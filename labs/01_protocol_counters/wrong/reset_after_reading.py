# expect: While `totals()` read
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    sums = {name: sum(counters[index]) for index, name in enumerate(NAMES)}
    for index in range(len(NAMES)):
        counters[index] = [0] * len(counters[index])
    return sums
