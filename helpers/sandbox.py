"""Private networks, made-up packets and real traffic, none of which touch this machine's own.

``pair()`` makes two network namespaces joined by a virtual cable. They have no name: open files
alone keep them alive, so when Python ends, in whatever way, the kernel takes them back.

Source: network_namespaces(7), veth(4), packet(7).
"""

import ctypes
import errno
import fcntl
import functools
import inspect
import ipaddress
import json
import logging
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple, Self, SupportsBytes, TypeVar

from helpers import kernel
from helpers.errors import (
    BpfError,
    Closed,
    PermissionNeeded,
    Unsupported,
    describe,
    exhaustion_told,
)

CLIENT_MAC, SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"  # locally administered
CLIENT_IP, SERVER_IP = "10.0.0.1", "10.0.0.2"
CLIENT_IP6, SERVER_IP6 = "fd00::1", "fd00::2"
PROTOCOLS = {"icmp": socket.IPPROTO_ICMP, "tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18  # linux/mount.h
_IFA_F_NODAD = 0x02  # linux/if_addr.h
_IFF_RUNNING = 0x40  # linux/if.h
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h
_MTU, _ETHERNET, _VLAN = 1500, 14, 4  # bytes
_CHUNK = 128  # frames; a veth with XDP queues 256 and drops the rest (VETH_RING_SIZE)
_PATIENCE = 0.5  # seconds
_TALKER = Path(__file__).with_name("talker.py")
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


# Namespaces


class Interface:
    """One end of a pair: a network interface in a namespace of its own.

    ``name``, ``ifindex``, ``mac``, ``ip`` and ``ip6`` (None unless the pair was made with
    ``ipv6=True``) are as the kernel sees them inside that namespace.
    """

    def __init__(self, name: str, mac: str, ip: str, ip6: str | None) -> None:
        self.name, self.mac, self.ip, self.ip6 = name, mac, ip, ip6
        self.ifindex = 0  # until the pair is connected
        self._namespace = _new_namespace()
        with self.inside():
            # /sys shows the interfaces of the namespace it was mounted in; /proc those of the
            # thread that opens the file, for as long as it stays open.
            self._counters = _open("/proc/thread-self/net/dev")

    def __repr__(self) -> str:
        return f"Interface({self.name}, {self.ip}, {self.mac})"

    @contextmanager
    def inside(self) -> Iterator[Self]:
        """Run the block inside this interface's namespace, and come back out after it.

        Only the calling thread moves, with the threads and processes that it starts meanwhile.
        A socket stays for life in the namespace where it was made.

        Raises:
            Closed: the pair is closed.

        Source: setns(2).
        """
        if self._namespace.closed:
            raise Closed(f"The network of {self.name} is closed: make a new pair.")
        with _this_namespace() as outside:
            _setns(self._namespace)
            try:
                yield self
            finally:
                _setns(outside)

    def _count(self) -> "_Counters":
        try:
            text = os.pread(self._counters.fileno(), 65536, 0).decode()
        except (ValueError, OSError):  # closed, by another thread in this moment maybe
            raise Closed(f"The network of {self.name} is closed: make a new pair.") from None
        numbers = text.partition(f"{self.name}:")[2].split()
        if not numbers:
            raise BpfError(f"The interface {self.name} is gone from its namespace.")
        return _Counters(*(int(numbers[column]) for column in (0, 1, 8, 9, 11)))

    def _configure(self, other: "Interface") -> None:
        from pyroute2 import IPRoute

        with self.inside(), IPRoute() as route:
            self.ifindex = socket.if_nametoindex(self.name)
            _finish_checksums(self.name)
            route.link("set", index=socket.if_nametoindex("lo"), state="up")
            # No ARP, no neighbour discovery, no multicast reports: this cable has two ends.
            route.link("set", index=self.ifindex, arp=False, state="up")
            for mine, theirs, bits in ((self.ip, other.ip, 24), (self.ip6, other.ip6, 64)):
                if mine and theirs:
                    # An IPv6 address cannot be used before the kernel has looked for a duplicate.
                    how = {"flags": _IFA_F_NODAD} if mine == self.ip6 else {}
                    route.addr("add", index=self.ifindex, address=mine, prefixlen=bits, **how)
                    entry = {"dst": theirs, "lladdr": other.mac, "state": "permanent"}
                    route.neigh("replace", ifindex=self.ifindex, **entry)

    def _await_carrier(self) -> None:
        """Wait until this end can send. The kernel sees to that shortly after the other is up."""
        from pyroute2 import IPRoute

        deadline = time.monotonic() + 2
        with self.inside(), IPRoute() as route:
            while not route.link("get", index=self.ifindex)[0]["flags"] & _IFF_RUNNING:
                if time.monotonic() > deadline:
                    raise BpfError(f"The kernel does not bring the interface {self.name} up.")
                time.sleep(0.001)

    def _close(self) -> None:
        self._namespace.close()
        self._counters.close()


class _Counters(NamedTuple):
    """Columns of /proc/net/dev."""

    received_bytes: int
    received: int
    sent_bytes: int
    sent: int
    lost: int  # on the way to the other end: its queue was full


class Stats(NamedTuple):
    """What crossed a pair since it was made, from client to server."""

    sent: int
    received: int
    lost: int
    sent_bytes: int
    received_bytes: int


class Pair:
    """Two private namespaces joined by a virtual cable: see ``pair()``."""

    def __init__(self, *, ipv6: bool = False) -> None:
        if ipv6 and not Path("/proc/sys/net/ipv6").exists():
            raise Unsupported("IPv6", "a kernel without it", "Leave out ipv6=True.")
        self.client = Interface("client", CLIENT_MAC, CLIENT_IP, CLIENT_IP6 if ipv6 else None)
        self.server = Interface("server", SERVER_MAC, SERVER_IP, SERVER_IP6 if ipv6 else None)
        with self.client.inside():
            # Protocol 0: this socket sends, and never receives a copy of anything.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._closed = False
        try:
            _elsewhere(self._connect)
        except BaseException as error:
            self.close()
            if getattr(error, "code", 0) == errno.EOPNOTSUPP:  # pyroute2's NetlinkError
                raise Unsupported(
                    "veth, a virtual network cable", "a kernel without it", "Try: modprobe veth"
                ) from error
            raise

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.client.ip} to {self.server.ip}"
        return f"Pair({state})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give both namespaces back to the kernel. A second call does nothing."""
        self._closed = True
        for interface in (self.client, self.server):
            interface._close()
        self._socket.close()

    @exhaustion_told("send frames")
    def send(
        self,
        frames: SupportsBytes | Iterable[SupportsBytes],
        cpu: int | None = None,
        *,
        start: Callable[[], object] = lambda: None,
    ) -> int:
        """Send Ethernet frames from client to server, and return how many once all have arrived.

        ``frames``: one frame or many, as bytes or scapy packets, of 14 to 1514 bytes (1518 with
        a VLAN tag). ``cpu``: the CPU to send from; the receiving side, XDP and TC programs
        included, runs on the same one. ``start`` is called when the first frame is about to go,
        such as the ``wait`` of a barrier. When this returns, those programs have run for every
        frame.

        Cost: 3 to 6 µs a frame, with the program on the server's interface.

        Raises:
            ValueError: a frame is too short or too long; nothing was sent.
            BpfError: fewer frames arrived than were sent.
            Unsupported: there is no such CPU.

        Source: packet(7), drivers/net/veth.c.
        """
        if self._closed:
            raise Closed("This pair is closed: make a new one.")
        wire = [bytes(frame) for frame in _many(frames)]
        for number, frame in enumerate(wire):
            tagged = frame[12:14] == b"\x81\x00"
            longest = _MTU + _ETHERNET + (_VLAN if tagged else 0)
            if not _ETHERNET <= len(frame) <= longest:
                raise ValueError(
                    f"Frame {number} has {len(frame)} bytes; {_ETHERNET} to {longest} can be sent."
                )
        before, lost = self.server._count().received, self.client._count().lost
        # Pinned, because frames are received in a softirq on the CPU that sends them.
        with _pinned(_libc.sched_getcpu() if cpu is None else cpu) as here:
            start()
            for first in range(0, len(wire), _CHUNK):
                try:
                    for frame in wire[first : first + _CHUNK]:
                        self._socket.send(frame)
                except OSError as error:
                    number = error.errno or 0
                    if self._closed:
                        raise Closed("The pair was closed meanwhile: make a new one.") from None
                    raise BpfError(
                        f"The client cannot send (errno {describe(number)}).\n"
                        "Is the server's interface up?",
                        number,
                    ) from error
                _settle(here)
        received = self._received(before, len(wire))
        lost = self.client._count().lost - lost
        if lost or received < len(wire):
            raise BpfError(
                f"{len(wire)} frames were sent and {received} received; {lost} found the "
                "server's queue full.\nIs the server's interface up?"
            )
        return len(wire)

    def _received(self, before: int, sent: int) -> int:
        """Frames received since ``before``. They are all there by now, or very soon."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            received = self.server._count().received - before
            if received >= sent or time.monotonic() > deadline:
                return received
            time.sleep(0.001)

    def stats(self) -> Stats:
        """Count what crossed since the pair was made, packets of the kernel's own included.

        With an XDP program in native mode on the server, ``received`` counts what the program
        has seen, whatever became of it.
        """
        if self._closed:
            raise Closed("This pair is closed: its counters are gone with it.")
        out, into = self.client._count(), self.server._count()
        return Stats(out.sent, into.received, out.lost, out.sent_bytes, into.received_bytes)

    def _connect(self) -> None:
        from pyroute2 import IPRoute

        count = max(kernel.online_cpus()) + 1
        queues = {"num_tx_queues": count, "num_rx_queues": count}
        far_end = queues | {
            "ifname": self.server.name,
            "address": self.server.mac,
            "net_ns_fd": self.server._namespace.fileno(),
        }
        for end in (self.server, self.client):
            with end.inside():
                _choose_ipv6(end.ip6 is not None)
        with self.client.inside(), IPRoute() as route:
            name, mac = self.client.name, self.client.mac
            route.link("add", kind="veth", ifname=name, address=mac, peer=far_end, **queues)
        self.server._configure(self.client)
        self.client._configure(self.server)
        self.server._await_carrier()
        self.client._await_carrier()
        with self.client.inside():
            _one_queue_a_cpu(self.client.name, count)
            self._socket.bind((self.client.name, 0))


@exhaustion_told("make a pair of network namespaces")
def pair(*, ipv6: bool = False) -> Pair:
    """Make two private network namespaces, ``client`` and ``server``, joined by a veth.

    Nothing crosses the cable but what you send: no ARP (the neighbours are known for good), no
    IPv6 unless asked for, no router or multicast messages. The kernel of the server answers as
    any host would: a SYN to a closed port draws an RST, towards the client. What the kernels
    send carries its real checksums, in segments that fit the MTU of 1500 bytes.

    Use it in a ``with`` block, or call ``close()``.

    Cost: about 20 ms; the first also imports pyroute2, 0.2 s.

    Raises:
        PermissionNeeded: making a namespace takes CAP_SYS_ADMIN.
        Unsupported: the kernel lacks network namespaces, veth, or the IPv6 that was asked for.
    """
    return Pair(ipv6=ipv6)


def _new_namespace() -> BinaryIO:
    """An open file that holds a new network namespace."""

    def make() -> BinaryIO:
        if _libc.unshare(_CLONE_NEWNET) < 0:
            number = ctypes.get_errno()
            if number == errno.EPERM:
                raise PermissionNeeded("make a network namespace")
            raise Unsupported(
                "one more network namespace",
                f"the kernel says {describe(number)}",
                "It takes CONFIG_NET_NS, and room in /proc/sys/user/max_net_namespaces.",
            )
        return _this_namespace()

    # The thread that unshares stays in the new namespace, so it may not be the caller's.
    return _elsewhere(make)


def _this_namespace() -> BinaryIO:
    return _open("/proc/thread-self/ns/net")


def _open(path: str) -> BinaryIO:
    # A file object rather than a bare descriptor: it closes itself when nobody holds it.
    return open(path, "rb", buffering=0)


def _setns(namespace: BinaryIO) -> None:
    if _libc.setns(namespace.fileno(), _CLONE_NEWNET) < 0:
        number = ctypes.get_errno()
        if number == errno.EPERM:
            raise PermissionNeeded("enter a network namespace")
        raise BpfError(f"Cannot enter the network namespace: {describe(number)}.", number)


def _elsewhere(work: Callable[[], T]) -> T:
    """Run it in a thread of its own, and give its result or its exception."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(work).result()


def with_own_pins(work: Callable[[], T]) -> T:
    """Call ``work`` in a thread that sees a new, empty BPF file system below /sys/fs/bpf.

    So do the threads and processes that it starts. What they pin goes when the last of them ends.

    Raises:
        PermissionNeeded: making a mount namespace takes CAP_SYS_ADMIN.
    """

    def apart() -> T:
        _own_mounts()
        if _libc.mount(b"bpf", os.fsencode(kernel.BPFFS), b"bpf", 0, None) < 0:
            number = ctypes.get_errno()
            raise BpfError(f"No BPF file system can be mounted: {describe(number)}.", number)
        return work()

    return _elsewhere(apart)


def _own_mounts() -> None:
    """Take the calling thread into a mount namespace of its own, for good."""
    if _libc.unshare(_CLONE_NEWNS) < 0:
        raise PermissionNeeded("make a mount namespace")
    _libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None)


def _choose_ipv6(wanted: bool) -> None:
    """Turn IPv6 on or off for this thread's namespace, without the addresses it makes up."""
    for kind in ("default", "all"):
        for name, value in (("disable_ipv6", not wanted), ("addr_gen_mode", 1)):
            with suppress(FileNotFoundError):  # a kernel without IPv6 has nothing to turn off
                Path(f"/proc/sys/net/ipv6/conf/{kind}/{name}").write_text(str(int(value)))


def _finish_checksums(name: str) -> None:
    """Have the kernel send complete packets, as to a real wire.

    A veth promises to compute checksums and cut segments, and does neither, since both ends are
    memory: programs would see unfinished checksums and packets of up to 64 KiB.
    """
    value = array("I", [_ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])  # struct ifreq
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def _one_queue_a_cpu(name: str, count: int) -> None:
    """Give each CPU the send queue of its own number, and so a queue of its own at the other end.

    The calling thread ends up in a private mount namespace: only a sysfs that is mounted inside
    a network namespace shows that namespace's interfaces.
    """
    _own_mounts()
    _libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None)
    for cpu in range(count):
        mask = f"{1 << cpu % 32:x}" + ",00000000" * (cpu // 32)
        with suppress(FileNotFoundError):  # a kernel for one CPU has one queue and no choice
            Path(f"/sys/class/net/{name}/queues/tx-{cpu}/xps_cpus").write_text(mask)


def _settle(cpu: int) -> None:
    """Wait until this CPU, on which the caller is pinned, has no received packet left to look at.

    A softirq runs at once, unless there is much to do: then the kernel wakes the thread
    ksoftirqd for the rest. While that sleeps, and we run on its CPU, nothing is pending there.
    """
    thread = _ksoftirqd().get(cpu)
    deadline = time.monotonic() + _PATIENCE
    while thread and thread.read_text().rpartition(") ")[2][0] != "S":
        if time.monotonic() > deadline:  # busy with more than our frames
            return
        time.sleep(0.0001)


@functools.cache
def _ksoftirqd() -> dict[int, Path]:
    """The stat file of each CPU's ksoftirqd; none in a container, which hides kernel threads."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # a process that ended meanwhile
            name, _, cpu = path.read_text().strip().partition("/")
            if name == "ksoftirqd":
                found[int(cpu)] = path.with_name("stat")
    return found


def _many(frames: SupportsBytes | Iterable[SupportsBytes]) -> Iterable[SupportsBytes]:
    # A scapy packet can be iterated over too, so ask first whether it is one frame.
    one = isinstance(frames, (bytes, bytearray, memoryview)) or hasattr(frames, "__bytes__")
    return [frames] if one else frames  # type: ignore


# CPUs


def on_cpus(cpus: Iterable[int], work: Callable[..., T]) -> list[T]:
    """Run ``work`` at once on each of these CPUs, and return the results in the same order.

    Each call has a thread of its own, pinned to its CPU; all start together, and all are done
    when this returns. ``work`` is called with the CPU's number if it requires an argument. Python
    code runs in turns all the same (the GIL); calls into libbpf, such as ``prog.run``, give the
    GIL back and run side by side.

    Raises:
        Unsupported: this machine has no such CPU, or may not use it; nothing has run.
        Exception: the first that ``work`` raised, once all threads are done.
    """
    cpus = list(cpus)
    for cpu in cpus:
        with _pinned(cpu):
            pass
    together = threading.Barrier(max(1, len(cpus)))
    wants_cpu = any(
        parameter.default is parameter.empty and parameter.kind <= parameter.POSITIONAL_OR_KEYWORD
        for parameter in inspect.signature(work).parameters.values()
    )

    def run(cpu: int) -> T:
        with ExitStack() as pinned:
            with _all_or_none(together):
                pinned.enter_context(_pinned(cpu))
            together.wait()
            return work(cpu) if wants_cpu else work()

    with ThreadPoolExecutor(max_workers=max(1, len(cpus))) as pool, _all_or_none(together):
        calls = [pool.submit(run, cpu) for cpu in cpus]
    # Where one could not start, the others know no more than that.
    for call in calls:
        if (error := call.exception()) and not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [call.result() for call in calls]


def side_by_side(work: Callable[[int], T]) -> list[T]:
    """Run ``work`` on two CPUs at the same moment, on a busy machine as well.

    As ``on_cpus()``, for what is to meet: the two threads go before those of other programs, where
    that is allowed, and Python changes between them every 10 µs.

    Raises:
        Unsupported: this machine has one CPU.
    """
    if len(cpus := kernel.online_cpus()[:2]) < 2:
        raise Unsupported("two CPUs", "one", "Give the machine a second one.")

    def ahead(cpu: int) -> T:
        with suppress(PermissionError):  # in this thread, which ends with the call
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return work(cpu)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        return on_cpus(cpus, ahead)
    finally:
        sys.setswitchinterval(interval)


@contextmanager
def _all_or_none(together: threading.Barrier) -> Iterator[None]:
    """When the block fails, let nobody wait at the barrier for who does not come."""
    try:
        yield
    except BaseException:
        together.abort()
        raise


@contextmanager
def _pinned(cpu: int) -> Iterator[int]:
    """Keep the calling thread on one CPU for the block."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError, OverflowError):
        have = ", ".join(map(str, kernel.online_cpus()))
        raise Unsupported(f"CPU {cpu}", f"CPUs {have} are online", "Choose from those.") from None
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, before)


# Packets


class Flow(NamedTuple):
    """One direction of a conversation: addresses as text, ports and IP protocol as numbers."""

    src: str
    dst: str
    sport: int
    dport: int
    proto: int

    def __str__(self) -> str:
        return f"{_endpoint(self.src, self.sport)} → {_endpoint(self.dst, self.dport)}"

    @property
    def reverse(self) -> "Flow":
        """The other direction of the same conversation."""
        return Flow(self.dst, self.src, self.dport, self.sport, self.proto)

    def frame(self, payload_len: int = 0, *, vlan: int | None = None) -> bytes:
        """An Ethernet frame of this flow, with so many bytes above TCP (a SYN), UDP or ICMP."""
        payload = b"x" * payload_len
        if self.proto == socket.IPPROTO_TCP:
            return tcp(self.src, self.dst, self.sport, self.dport, payload, vlan=vlan)
        if self.proto == socket.IPPROTO_UDP:
            return udp(self.src, self.dst, self.sport, self.dport, payload, vlan=vlan)
        if self.proto in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6):
            return icmp(self.src, self.dst, payload, vlan=vlan)
        raise ValueError(f"Frames are made for TCP (6), UDP (17) and ICMP (1), not {self.proto}.")


def random_flows(
    n: int, seed: int | None = None, *, protocols: Iterable[str] = ("tcp", "udp"), version: int = 4
) -> list[Flow]:
    """Make ``n`` different flows, the same ones for the same seed.

    About half are near twins of an earlier flow: its reverse, or equal to it in all fields but
    one. A program that ignores a field of its key, or mixes up source and destination, counts
    such twins together. Addresses lie in 10.0.0.0/8, or fd00::/64 with ``version=6``; ports are
    1 to 65535.
    """
    dice = random.Random(seed)
    numbers = [PROTOCOLS[name] for name in protocols]
    base, bits = (0xFD << 120, 64) if version == 6 else (10 << 24, 24)

    def address() -> str:
        return str(ipaddress.ip_address(base + dice.randrange(1, 1 << bits)))

    def port() -> int:
        return dice.randrange(1, 1 << 16)

    flows: list[Flow] = []
    seen: set[Flow] = set()
    while len(flows) < n:
        flow = Flow(address(), address(), port(), port(), dice.choice(numbers))
        if flows and dice.random() < 0.5:
            twin = dice.choice(flows)
            field = dice.choice([*Flow._fields, "reverse"])
            changed = {field: getattr(flow, field)}
            flow = twin.reverse if field == "reverse" else twin._replace(**changed)
        if flow not in seen:
            seen.add(flow)
            flows.append(flow)
    return flows


@functools.lru_cache(maxsize=4096)  # scapy takes 0.5 ms a frame, and workloads repeat theirs
def tcp(
    src: str = CLIENT_IP,
    dst: str = SERVER_IP,
    sport: int = 40000,
    dport: int = 80,
    payload: bytes = b"",
    flags: str = "S",
    vlan: int | None = None,
) -> bytes:
    """An Ethernet frame from client to server with a TCP segment, checksums right.

    ``flags`` are letters: S SYN, A ACK, F FIN, R RST, P PSH, U URG. Give two IPv6 addresses for
    IPv6, and ``vlan`` for an 802.1Q tag. Sequence numbers are 0. The bytes depend on the
    arguments alone.
    """
    make = _scapy()
    segment = make.TCP(sport=_port(sport), dport=_port(dport), flags=flags) / make.Raw(payload)
    return _frame(src, dst, segment, vlan)


@functools.lru_cache(maxsize=4096)
def udp(
    src: str = CLIENT_IP,
    dst: str = SERVER_IP,
    sport: int = 40000,
    dport: int = 53,
    payload: bytes = b"",
    vlan: int | None = None,
) -> bytes:
    """An Ethernet frame with a UDP datagram; the rest as in ``tcp``."""
    make = _scapy()
    return _frame(
        src, dst, make.UDP(sport=_port(sport), dport=_port(dport)) / make.Raw(payload), vlan
    )


@functools.lru_cache(maxsize=4096)
def icmp(
    src: str = CLIENT_IP, dst: str = SERVER_IP, payload: bytes = b"", vlan: int | None = None
) -> bytes:
    """An Ethernet frame with an echo request (ICMPv6 between IPv6 addresses)."""
    make = _scapy()
    if ipaddress.ip_address(src).version == 6:
        return _frame(src, dst, make.ICMPv6EchoRequest(data=payload), vlan)
    return _frame(src, dst, make.ICMP() / make.Raw(payload), vlan)


def _frame(src: str, dst: str, above: Any, vlan: int | None) -> bytes:
    make = _scapy()
    versions = {ipaddress.ip_address(src).version, ipaddress.ip_address(dst).version}
    if len(versions) > 1:
        raise ValueError(f"{src} and {dst} are addresses of two different IP versions.")
    link = make.Ether(src=CLIENT_MAC, dst=SERVER_MAC)
    if vlan is not None:
        if not 0 <= vlan < 4096:
            raise ValueError(f"A VLAN is a number from 0 to 4095, not {vlan}.")
        link /= make.Dot1Q(vlan=vlan)
    network = make.IPv6 if versions == {6} else make.IP
    return bytes(link / network(src=src, dst=dst) / above)


def _port(number: int) -> int:
    if not 0 <= number < 1 << 16:
        raise ValueError(f"A port is a number from 0 to 65535, not {number}.")
    return number


def _endpoint(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


@functools.cache
def _scapy() -> SimpleNamespace:
    """The few layers that are used here, without scapy's remarks about this machine's network."""
    from scapy.config import conf

    level, conf.logLevel = conf.logLevel, logging.ERROR
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import Dot1Q, Ether
    from scapy.packet import Raw

    conf.logLevel = level
    return SimpleNamespace(
        Dot1Q=Dot1Q,
        Ether=Ether,
        ICMP=ICMP,
        ICMPv6EchoRequest=ICMPv6EchoRequest,
        IP=IP,
        IPv6=IPv6,
        Raw=Raw,
        TCP=TCP,
        UDP=UDP,
    )


# Traffic


class Workload:
    """Two processes, an echo server and a client, that wait for ``start()``: see ``workload()``.

    ``server_pid`` and ``client_pid`` are known before a packet flows, so that a tracing program
    can be told whom to watch.
    """

    def __init__(self, net: Pair, plan: dict[str, Any]) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._net, self._plan = net, plan
        try:
            self._server = self._spawn(net.server, "server")
            self._client = self._spawn(net.client, "client")
            self._hear(self._server)
        except BaseException:
            self.close()
            raise
        self.server_pid, self.client_pid = self._server.pid, self._client.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> list[Flow]:
        """Connect, and let the data flow in the background. Returns the flows, client to server.

        Raises:
            BpfError: no answer within the workload's ``patience``.
        """
        self._alive()
        assert self._client.stdin
        with suppress(BrokenPipeError):  # the client is gone, and what it said last is read below
            self._client.stdin.write("go\n")
            self._client.stdin.flush()
        src, dst, dport = self._net.client.ip, self._net.server.ip, self._plan["port"]
        proto = PROTOCOLS[self._plan["kind"]]
        return [Flow(src, dst, sport, dport, proto) for sport in self._hear(self._client)]

    def wait(self) -> None:
        """Wait until the client has sent all that it should and has read every echo.

        Raises:
            BpfError: an echo was lost, or later than the workload's ``patience``.
        """
        self._alive()
        self._hear(self._client)

    def close(self) -> None:
        """End both processes. A second call does nothing."""
        for process in self._processes:
            process.kill()
            process.communicate()
        self._processes.clear()

    def _alive(self) -> None:
        if not self._processes:
            raise Closed("This workload is closed: make a new one.")

    def _spawn(self, end: Interface, role: str) -> subprocess.Popen[str]:
        plan = self._plan | {"role": role, "server": self._net.server.ip, "parent": os.getpid()}
        with end.inside():
            process = subprocess.Popen(
                # -I and -S: nothing but the standard library, and so 15 ms to start.
                [sys.executable, "-I", "-S", str(_TALKER), json.dumps(plan)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self._processes.append(process)
        return process

    def _hear(self, process: subprocess.Popen[str]) -> list[int]:
        """What the process says next, in one line of JSON."""
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise BpfError("The workload's process ended before its work was done.")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            hint = "\nDoes a program on an interface drop its packets?" if said["late"] else ""
            raise BpfError(f"The {said['role']} of the workload gave up: {said['error']}.{hint}")
        ports: list[int] = said["ports"]
        return ports


@exhaustion_told("start a workload")
def workload(
    net: Pair,
    kind: str = "tcp",
    *,
    connections: int = 3,
    payload: int = 1000,
    rounds: int | None = 1,
    pause: float = 0.0,
    port: int = 7,
    patience: float = 5.0,
) -> Workload:
    """Make a real conversation ready: processes of ours, real sockets, the kernel's own TCP.

    A client process in ``net.client`` opens so many ``connections`` to an echo server in
    ``net.server``. In each of the ``rounds`` (None: until closed) it sends ``payload`` bytes on
    every connection and reads them back, then rests for ``pause`` seconds. ``kind`` is "tcp", or
    "udp", whose payload goes in datagrams of at most 1400 bytes. The client gives up after
    ``patience`` seconds without an answer.

    Nothing is sent before ``start()``. Both processes die with the thread that made them.

    Cost: about 50 ms for the two processes.
    """
    if kind not in ("tcp", "udp"):
        raise ValueError(f'A workload is "tcp" or "udp", not {kind!r}.')
    return Workload(
        net,
        {
            "kind": kind,
            "connections": connections,
            "payload": payload,
            "rounds": rounds,
            "pause": pause,
            "port": port,
            "patience": patience,
        },
    )


def tcp_talk(net: Pair, connections: int = 3, payload: int = 1000) -> list[Flow]:
    """Send ``payload`` bytes over each of so many TCP connections, and read their echo.

    Returns the flows, client to server, once all is sent, read and closed.

    Raises:
        BpfError: no connection or no echo within 5 seconds.
    """
    return _talk(net, "tcp", connections, payload)


def udp_talk(net: Pair, connections: int = 3, payload: int = 1000) -> list[Flow]:
    """Send ``payload`` bytes from each of so many UDP sockets; the rest as in ``tcp_talk``."""
    return _talk(net, "udp", connections, payload)


def _talk(net: Pair, kind: str, connections: int, payload: int) -> list[Flow]:
    with workload(net, kind, connections=connections, payload=payload) as talk:
        flows = talk.start()
        talk.wait()
        return flows
