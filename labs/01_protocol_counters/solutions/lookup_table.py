from helpers.maps import BpfMap


def totals(counters: BpfMap) -> dict[str, int]:
    _, values = counters.raw()  # a row of bytes for each index: 8 for each possible CPU
    tcp, udp, icmp, other = values.view("u8").sum(axis=1).tolist()
    return {"TCP": tcp, "UDP": udp, "ICMP": icmp, "other": other}
