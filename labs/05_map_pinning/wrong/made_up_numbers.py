# expect: No program of yours was in the kernel
def begin(c_file, pin):
    return {80: (3, 180), 443: (2, 120)}


def resume(c_file, pin):
    return {80: (6, 360), 443: (4, 240)}


def finish(pin):
    print("unpinned")
