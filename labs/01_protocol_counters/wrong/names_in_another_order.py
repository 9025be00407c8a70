# expect: the sums are right, under other names
def totals(counters):
    icmp, other, tcp, udp = (sum(copies) for copies in counters.values())
    return {"TCP": tcp, "UDP": udp, "ICMP": icmp, "other": other}
