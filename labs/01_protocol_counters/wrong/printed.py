# expect: `totals()` returned None
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    for index, name in enumerate(NAMES):
        print(name, sum(counters[index]))
