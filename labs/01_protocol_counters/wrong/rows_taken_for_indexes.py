# expect: a row of the frame
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    return dict(zip(NAMES, counters.frame().value, strict=False))
