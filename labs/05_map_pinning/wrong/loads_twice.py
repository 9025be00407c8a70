# expect: counts in another map of that name
from helpers import load, open_map
from helpers.program import Program


def begin(c_file: str, pin: str) -> Program:
    first = load(c_file)
    first["ports"].pin(pin)
    return load(c_file)


def resume(c_file: str, pin: str) -> Program:
    with open_map(pin=pin) as ports:
        return load(c_file, maps={"ports": ports})


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
