# expect: raised FileNotFoundError
import json

from helpers import load, open_map
from helpers.program import Program


def begin(c_file: str, pin: str) -> Program:
    prog = load(c_file)
    prog["ports"].pin(pin)
    with open("/tmp/ports.json", "w") as file:
        json.dump({port: list(total) for port, total in prog["ports"].items()}, file)
    return prog


def resume(c_file: str, pin: str) -> Program:
    with open("/tmp/ports.json") as file:
        old = json.load(file)
    with open_map(pin=pin) as ports:
        ports.update({int(port): total for port, total in old.items()})
        return load(c_file, maps={"ports": ports})


def finish(pin: str) -> None:
    with open_map(pin=pin) as ports:
        ports.unpin(pin)
