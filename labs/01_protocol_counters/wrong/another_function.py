# expect: has no `totals`
def summarize(counters):
    return {"TCP": sum(counters[0]), "UDP": sum(counters[1])}
