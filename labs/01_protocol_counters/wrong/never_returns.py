# expect: was still at work
import time

NAMES = ("TCP", "UDP", "ICMP", "other")


def totals(counters):
    while True:
        for index, name in enumerate(NAMES):
            print(name, sum(counters[index]))
        time.sleep(1)
