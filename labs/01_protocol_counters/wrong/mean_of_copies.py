# expect: that is their mean
NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    means = counters.frame().groupby("key").value.mean()
    return dict(zip(NAMES, means, strict=True))
