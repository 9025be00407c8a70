# expect: returned a list, not a dict
def totals(counters):
    return [sum(copies) for copies in counters.values()]
