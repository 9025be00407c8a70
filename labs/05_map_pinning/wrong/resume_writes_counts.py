# expect: No packet came between the two
from helpers import load, open_map
from helpers.program import Program


def begin(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    prog["ports"].pin(pin)
    return prog


def resume(c_file: str, pin: str) -> Program:
    with open_map(pin=pin) as ports:
        for port, total in ports.items():
            ports[port] = total._replace(packets=2 * total.packets)
        return load(c_file, maps={"ports": ports})


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
