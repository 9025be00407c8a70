# expect: raised TypeError
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    total = sum(counters.values())
    return dict.fromkeys(NAMES, total)
