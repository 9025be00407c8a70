# expect: It said the same of another map
NAMES = ("TCP", "UDP", "ICMP", "other")
known = {}


def totals(counters):
    for index, name in enumerate(NAMES):
        if name not in known:
            known[name] = sum(counters[index])
    return known
