# expect: a copy of the old.
from helpers import load, open_map
from helpers.program import Program


def begin(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    prog["ports"].pin(pin)
    return prog


def resume(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    with open_map(pin=pin) as ports:
        prog["ports"].update(ports)
    return prog


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
