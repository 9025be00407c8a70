# expect: The keys that `totals()` returned are 0
def totals(counters):
    return {index: sum(copies) for index, copies in counters.items()}
