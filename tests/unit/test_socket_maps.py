"""Socket maps: redirects between real TCP sockets, what is accepted, what can be read back."""

import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from scapy.all import TCP, Ether

from helpers import kernel, load, sandbox
from helpers.errors import BpfError, KeyExists, LayoutError, MapFull, MissingKey, Unsupported
from helpers.maps import BpfMap
from helpers.program import Program
from helpers.sandbox import Pair
from tests.unit.test_first_insertions import missing

TWINS = ["socket_maps.bpf.c", "socket_maps.bcc.c"]
DATA = os.urandom(1 << 20) * 4
SO_COOKIE = 57


class Road(NamedTuple):
    """client → front, back → service: two TCP connections, with a proxy's sockets in between."""

    client: socket.socket
    front: socket.socket
    back: socket.socket
    service: socket.socket

    @property
    def port(self) -> int:
        """The client's, which the front socket's bytes come from."""
        return int(self.client.getsockname()[1])


@pytest.fixture
def net() -> Iterator[Pair]:
    with sandbox.pair() as one:
        yield one


@pytest.fixture
def road(net: Pair) -> Iterator[Road]:
    with net.server.inside():
        door = socket.create_server((net.server.ip, 80))
        shop = socket.create_server(("127.0.0.1", 81))
        back = socket.create_connection(("127.0.0.1", 81))
    with net.client.inside():
        client = socket.create_connection((net.server.ip, 80))
    made = Road(client, door.accept()[0], back, shop.accept()[0])
    for one in made:
        one.settimeout(10)
    yield made
    for one in (*made, door, shop):
        one.close()


def join(prog: Program, road: Road, name: str, program: str) -> BpfMap:
    """Attach, put the proxy's two sockets in, and give the routes between them."""
    sockets = prog[name]
    prog.attach(program, sockets)
    keys = (0, 1) if name == "slots" else (road.port, 81)
    sockets[keys[0]] = road.front
    sockets[keys[1]] = road.back
    prog["routes"].update({road.port: keys[1], 81: keys[0]})
    return prog["routes"]


def carried(source: socket.socket, target: socket.socket) -> bytes:
    """What arrives of DATA. On one CPU: where segments overtake others, some are read twice."""
    return sandbox.on_cpus(kernel.online_cpus()[:1], lambda: _carried(source, target))[0]


def _carried(source: socket.socket, target: socket.socket) -> bytes:
    sender = threading.Thread(target=source.sendall, args=(DATA,))
    sender.start()
    got = bytearray()
    while len(got) < len(DATA):
        got += target.recv(1 << 16)
    sender.join()
    return bytes(got)


WAYS = [
    (TWINS[0], "slots", "by_number"),
    (TWINS[0], "sockets", "by_key"),
    (TWINS[1], "sockets", "by_key"),
]


@pytest.mark.parametrize(("name", "where", "program"), WAYS)
def test_bytes_go_from_socket_to_socket(name: str, where: str, program: str, road: Road) -> None:
    with load(name) as prog:
        routes = join(prog, road, where, program)
        assert carried(road.client, road.service) == DATA
        assert carried(road.service, road.client) == DATA
        routes.clear()
        road.client.sendall(b"pass")
        assert road.front.recv(100) == b"pass"
        df = prog["redirected"].frame().set_index("key")
    assert df.bytes.to_dict() == {road.port: len(DATA), 81: len(DATA)}
    assert (df.verdicts > 0).all()


REPAIR, QUEUE, NUMBER = 19, 20, 21  # linux/tcp.h


def numbers(one: socket.socket) -> list[int]:
    """What it expects next, and what it sends next."""
    found = []
    one.setsockopt(socket.IPPROTO_TCP, REPAIR, 1)
    for queue in (1, 2):
        one.setsockopt(socket.IPPROTO_TCP, QUEUE, queue)
        found.append(one.getsockopt(socket.IPPROTO_TCP, NUMBER) % 2**32)
    one.setsockopt(socket.IPPROTO_TCP, QUEUE, 0)
    one.setsockopt(socket.IPPROTO_TCP, REPAIR, 0)
    return found


def overlap(net: Pair, client: socket.socket) -> None:
    """Send a segment that begins three bytes too early. In no map, these would be cut off."""
    received, sent = numbers(client)
    sport = client.getsockname()[1]
    segment = Ether(sandbox.tcp(sport=sport, flags="PA", payload=b"defghi"))
    segment[TCP].seq, segment[TCP].ack = (sent - 3) % 2**32, received
    del segment[TCP].chksum
    net.send(segment)


def test_without_a_map_no_byte_is_read_twice(net: Pair, road: Road) -> None:
    road.client.sendall(b"abcdef")
    assert road.front.recv(100) == b"abcdef"
    overlap(net, road.client)
    assert road.front.recv(100) == b"ghi"


@pytest.mark.parametrize("redirected", [False, True])
@pytest.mark.parametrize(("name", "where", "program"), WAYS)
def test_a_segment_that_begins_too_early_is_read_whole(
    name: str, where: str, program: str, redirected: bool, net: Pair, road: Road
) -> None:
    """Chapter 09 says so. A kernel that mends this changes what the chapter has to say."""
    with load(name) as prog:
        routes = join(prog, road, where, program)
        if not redirected:
            routes.clear()
        reader = road.service if redirected else road.front
        road.client.sendall(b"abcdef")
        assert reader.recv(100) == b"abcdef"
        overlap(net, road.client)
        assert reader.recv(100) == b"defghi"


def test_twins_agree(road: Road) -> None:
    found = []
    for name in TWINS:
        with load(name) as prog:
            join(prog, road, "sockets", "by_key")
            for n in range(1, 6):  # one at a time: TCP may not join them into one
                road.client.sendall(b"x" * n)
                assert road.service.recv(100) == b"x" * n
            found.append(prog["redirected"].frame())
            for key in (road.port, 81):  # so that the next program may judge them
                del prog["sockets"][key]
    pd.testing.assert_frame_equal(*found)
    assert found[0].to_dict("records") == [{"key": road.port, "verdicts": 5, "bytes": 15}]


@pytest.mark.parametrize("name", TWINS)
def test_bytes_count_whoever_inserts_first(name: str, road: Road, tmp_path: Path) -> None:
    with load(missing(tmp_path, name, "&redirected, &port")) as prog:
        join(prog, road, "sockets", "by_key")
        for n in range(1, 4):
            road.client.sendall(b"x" * n)
            assert road.service.recv(100) == b"x" * n
        found = prog["redirected"].frame()
    assert found.to_dict("records") == [{"key": road.port, "verdicts": 3, "bytes": 6}]


@pytest.mark.parametrize("name", TWINS)
def test_who_is_in_a_sockmap_may_be_sent_to_a_sockhash(name: str, road: Road) -> None:
    with load(name) as prog:
        prog.attach("by_key", prog["slots"])
        prog["slots"][3] = road.front
        prog["sockets"][81] = road.back
        prog["routes"][road.port] = 81
        assert carried(road.client, road.service) == DATA


@pytest.mark.parametrize("name", TWINS)
def test_the_short_cut_leaves_the_cable_empty(name: str, net: Pair, road: Road) -> None:
    with load(name) as prog:
        sockets = prog["sockets"]
        prog.attach("short_cut", sockets)
        sockets[road.port], sockets[80] = road.front, road.client
        before = net.stats().sent_bytes
        assert carried(road.client, road.front) == DATA
        between = net.stats().sent_bytes
        prog["routes"][road.port] = road.port
        assert carried(road.client, road.front) == DATA
        assert between - before > len(DATA)
        assert net.stats().sent_bytes - between < 10_000


def test_a_program_that_comes_after_the_sockets_does_not_judge_them(road: Road) -> None:
    with load(TWINS[0]) as prog:
        slots = prog["slots"]
        slots.update({0: road.front, 1: road.back})
        prog.attach("by_number", slots)
        prog["routes"][road.port] = 1
        road.client.sendall(b"late")
        assert road.front.recv(100) == b"late"
        assert len(prog["redirected"]) == 0
        slots.clear()
        slots.update({0: road.front, 1: road.back})
        road.client.sendall(b"in time")
        assert road.service.recv(100) == b"in time"


def test_a_route_to_nowhere_loses_the_bytes(road: Road) -> None:
    with load(TWINS[0]) as prog:
        routes = join(prog, road, "sockets", "by_key")
        routes[road.port] = 9999
        road.client.sendall(b"lost")
        assert select.select([road.front, road.service, road.client], [], [], 0.3)[0] == []
        routes[road.port] = 81
        road.client.sendall(b"found")
        assert road.service.recv(100) == b"found"


def test_a_socket_is_read_as_its_cookie_and_leaves_when_it_closes(road: Road) -> None:
    with load(TWINS[0]) as prog:
        for name in ("slots", "sockets"):
            held = prog[name]
            held[1], held[2] = road.back, road.service
            cookie = road.back.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
            assert held[1].to_bytes(8, "little") == cookie
            assert sorted(held.frame().key) == [1, 2]
            assert len(held) == 2
        road.back.close()
        assert [1 in prog[name] for name in ("slots", "sockets")] == [False, False]
        assert [list(prog[name]) for name in ("slots", "sockets")] == [[2], [2]]


@pytest.mark.parametrize("name", ["slots", "sockets"])
def test_four_bytes_hold_no_cookie(name: str, road: Road) -> None:
    with load(TWINS[1]) as prog:
        held = prog[name]
        held[1] = road.back
        for read in (lambda: held[1], lambda: 1 in held, lambda: held.frame()):
            with pytest.raises(Unsupported, match="8 bytes for the cookie") as error:
                read()
            assert "ENOSPC" in str(error.value)
            assert "__u64" in str(error.value)
        del held[1]
        with pytest.raises(MissingKey):
            del held[1]


@pytest.mark.parametrize("name", ["slots", "sockets"])
def test_what_is_taken(name: str, net: Pair, road: Road) -> None:
    with net.server.inside(), load(TWINS[0]) as prog:
        held = prog[name]
        good = [road.client, socket.create_server(("127.0.0.1", 0)), socket.socket(type=2)]
        good[2].bind(("127.0.0.1", 0))
        for one in good:
            held[1] = one
            assert 1 in held
            del held[1]
        for one in good[1:]:
            one.close()


REFUSED = {
    "a TCP socket in the state CLOSE": lambda: socket.socket(),
    "a UDP socket that has no port yet": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "this AF_INET SOCK_RAW socket": lambda: socket.socket(type=socket.SOCK_RAW, proto=1),
    "this AF_UNIX SOCK_STREAM socket": lambda: socket.socket(socket.AF_UNIX),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_socket_in_the_wrong_state_is_refused(kind: str) -> None:
    with (
        load(TWINS[0]) as prog,
        REFUSED[kind]() as one,
        pytest.raises(LayoutError, match=f"slots does not take {kind}.*EOPNOTSUPP.*\n.*must be"),
    ):
        prog["slots"][1] = one


def test_half_a_connection_is_refused(road: Road) -> None:
    road.service.close()
    assert road.back.recv(1) == b""
    with load(TWINS[0]) as prog, pytest.raises(LayoutError, match="in the state CLOSE_WAIT"):
        prog["sockets"][1] = road.back


def test_what_is_no_socket_is_refused() -> None:
    with load(TWINS[0]) as prog:
        slots, closed = prog["slots"], socket.socket()
        closed.close()
        with pytest.raises(LayoutError, match="no open socket .*ENOTSOCK"):
            slots[1] = prog["routes"]
        with pytest.raises(LayoutError, match="descriptor 99999, which is no open socket .*EBADF"):
            slots[1] = 99999
        with pytest.raises(LayoutError, match="The value of slots is closed"):
            slots[1] = closed


def test_keys_that_cannot_be() -> None:
    with (
        load(TWINS[0], defines={"SOCKETS": 4}) as prog,
        socket.create_server(("127.0.0.1", 0)) as one,
    ):
        slots, sockets = prog["slots"], prog["sockets"]
        with pytest.raises(MissingKey, match="no number 4: it has the numbers 0 to 3 .*E2BIG"):
            slots[4] = one
        with pytest.raises(MissingKey, match="no socket under the number 3"):
            del slots[3]
        sockets.update(dict.fromkeys(range(4), one))
        with pytest.raises(MapFull, match="sockets holds 4 sockets already"):
            sockets[4] = one
        with pytest.raises(KeyExists):
            sockets.update_elem(0, one, flags="noexist")
        with pytest.raises(MissingKey):
            sockets.update_elem(9, one, flags="exist")


def test_one_program_judges_a_socket(road: Road) -> None:
    with load(TWINS[0]) as prog:
        prog.attach("by_number", prog["slots"])
        prog.attach("by_key", prog["sockets"])
        prog["slots"][0] = road.front
        with pytest.raises(
            BpfError, match="another map that this socket is in .*EBUSY.*\n.*delete"
        ):
            prog["sockets"][0] = road.front
        del prog["slots"][0]
        prog["sockets"][0] = road.front


def test_a_verdict_needs_a_map() -> None:
    with load(TWINS[0]) as prog, pytest.raises(LayoutError, match="say which"):
        prog.attach("by_number")


def test_bcc_tells_a_verdict_from_a_packet_filter() -> None:
    with load(TWINS[1]) as prog:
        assert prog.kinds == {"by_key": "sk_skb", "short_cut": "sk_msg"}
    text = "int f(struct __sk_buff *skb)\n{\n\treturn 0;\n}\n"
    with load(text=text, dialect="bcc") as prog:
        assert prog.kinds == {"f": "sched_cls"}
