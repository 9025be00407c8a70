# expect: It pinned the map of the first call again
from helpers import load, open_map
from helpers.program import Program

prog: Program | None = None


def begin(c_file: str, pin: str) -> Program:
    global prog
    prog = prog or load(c_file)
    prog["ports"].pin(pin)
    return prog


def resume(c_file: str, pin: str) -> Program:
    global prog
    with open_map(pin=pin) as ports:
        prog = load(c_file, maps={"ports": ports})
        return prog


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
