"""The sandbox on the live kernel: real namespaces, real frames, real processes."""

import ctypes
import errno
import gc
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import kernel, load, sandbox
from helpers.errors import BpfError, Closed, PermissionNeeded, Unsupported

CPUS = sorted(os.sched_getaffinity(0))
two_cpus = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs")

COUNT_BY_CPU = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *hit = bpf_map_lookup_elem(&hits, &key);

	if (hit)
		++*hit;
	return VERDICT;
}

char _license[] SEC("license") = "GPL";
"""


@contextmanager
def tap(end: sandbox.Interface) -> Iterator[socket.socket]:
    """A socket that hears every frame that arrives at this end."""
    with end.inside():
        everything = socket.htons(3)  # ETH_P_ALL
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, everything)
        heard.bind((end.name, 0))
    heard.settimeout(0.1)
    with heard:
        yield heard


def frames_of(heard: socket.socket) -> list[bytes]:
    frames = []
    while True:
        try:
            frame, address = heard.recvfrom(65536)
        except TimeoutError:
            return frames
        if address[2] != socket.PACKET_OUTGOING:
            frames.append(frame)


@contextmanager
def witness(device: Any) -> Iterator[Callable[[], bool]]:
    """A way to see that an interface, and so its namespace, is no more.

    (lsns does not list namespaces that files alone hold.) A link of a program to an interface
    does not keep that alive: once the kernel has freed it, the link says interface 0.
    Source: bpf(2), BPF_OBJ_GET_INFO_BY_FD; struct bpf_link_info.
    """
    bpf = ctypes.CDLL("libbpf.so.1")
    with load(text=COUNT_BY_CPU.replace("VERDICT", "XDP_PASS")) as prog:
        before = set(kernel.ids("link"))
        prog.attach("count", device)
        candidates = set(kernel.ids("link")) - before

        def interface(number: int) -> int:
            fd = bpf.bpf_link_get_fd_by_id(number)
            info = ctypes.create_string_buffer(64)
            error = bpf.bpf_obj_get_info_by_fd(fd, info, ctypes.byref(ctypes.c_uint32(64)))
            os.close(fd)
            assert not error
            return int.from_bytes(info[16:20], sys.byteorder)

        assert [interface(number) for number in candidates] == [device.ifindex]
        yield lambda: [interface(number) for number in candidates] == [0]


def alive(pid: int) -> bool:
    """Does the process run? One that is dead, and whose new parent has not noticed, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def eventually(truth: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not truth() and time.monotonic() < deadline:
        time.sleep(0.02)
    return truth()


# Namespaces


def test_the_pair_is_private_and_its_addresses_are_ours() -> None:
    host = socket.if_nameindex()
    with sandbox.pair() as net:
        assert socket.if_nameindex() == host
        assert "client:" not in Path("/proc/net/dev").read_text()
        for end in (net.client, net.server):
            with end.inside():
                assert sorted(name for _, name in socket.if_nameindex()) == sorted(["lo", end.name])
                assert socket.if_nametoindex(end.name) == end.ifindex
            assert int(end.mac[:2], 16) & 0b11 == 0b10  # locally administered, one receiver
        assert (net.client.ip, net.server.ip) == ("10.0.0.1", "10.0.0.2")


def test_inside_moves_this_thread_alone_and_brings_it_back_after_an_error() -> None:
    here = os.readlink("/proc/thread-self/ns/net")
    elsewhere = []
    with sandbox.pair() as net:
        waiting, go = threading.Event(), threading.Event()

        def other() -> None:
            waiting.set()
            go.wait()
            elsewhere.append(os.readlink("/proc/thread-self/ns/net"))

        thread = threading.Thread(target=other)
        thread.start()
        waiting.wait()
        with pytest.raises(RuntimeError, match="mine"), net.server.inside() as end:
            assert end is net.server
            assert os.readlink("/proc/thread-self/ns/net") != here
            with net.client.inside():
                assert socket.if_nametoindex("client") == net.client.ifindex
            assert socket.if_nametoindex("server") == net.server.ifindex
            go.set()
            thread.join()
            raise RuntimeError("mine")
    assert os.readlink("/proc/thread-self/ns/net") == here
    assert elsewhere == [here]


@pytest.mark.parametrize("ipv6", [False, True])
def test_nobody_speaks_unasked(ipv6: bool) -> None:
    with sandbox.pair(ipv6=ipv6) as net:
        time.sleep(1.5)  # a kernel that announces itself does so within a second
        for end in (net.client, net.server):
            assert end._count() == (0, 0, 0, 0, 0)


def test_a_pair_without_ipv6_has_no_ipv6_address() -> None:
    with sandbox.pair() as net:
        assert net.client.ip6 is None
        with net.client.inside():
            assert Path("/proc/thread-self/net/if_inet6").read_text() == ""


def test_ipv6_carries_tcp_when_asked_for() -> None:
    with sandbox.pair(ipv6=True) as net:
        with net.server.inside():
            listener = socket.create_server((net.server.ip6, 99), family=socket.AF_INET6)
        with net.client.inside():
            caller = socket.create_connection((net.server.ip6, 99), timeout=2)
        with listener, caller, listener.accept()[0] as answered:
            answered.sendall(b"heard")
            assert caller.recv(5) == b"heard"


def test_both_ends_can_send_from_the_start() -> None:
    for _ in range(50):  # a frame lost to an end that is not up yet comes again after a second
        with sandbox.pair() as net:
            with net.client.inside():
                listener = socket.create_server((net.client.ip, 99))
            with listener, net.server.inside():
                start = time.monotonic()
                socket.create_connection((net.client.ip, 99)).close()
            assert time.monotonic() - start < 0.5


def test_closing_twice_and_using_what_is_closed() -> None:
    net = sandbox.pair()
    net.close()
    net.close()
    assert repr(net) == "Pair(closed)"
    for use in (net.stats, lambda: net.send(bytes(64)), lambda: net.client.inside().__enter__()):
        with pytest.raises(Closed):
            use()


def test_closing_frees_the_namespaces() -> None:
    net = sandbox.pair()
    with witness(net.server) as gone:
        assert not gone()
        net.close()
        assert eventually(gone)


def test_a_pair_that_nobody_holds_closes_itself() -> None:
    files = len(os.listdir("/proc/self/fd"))
    net = sandbox.pair()
    net.send(bytes(64))
    with pytest.warns(ResourceWarning):
        del net
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == files


def test_fifty_pairs_leave_no_open_file() -> None:
    sandbox.pair().close()  # whatever stays open once (libraries) is open now
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with sandbox.pair() as net:
            net.send(bytes(64))
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_killed_python_leaves_nothing() -> None:
    text = (
        "from helpers import sandbox\n"
        "net = sandbox.pair()\n"
        "talk = sandbox.workload(net, rounds=None, pause=0.01)\n"
        "talk.start()\n"
        "print(talk.server_pid, talk.client_pid, net.server.ifindex, flush=True)\n"
        "input()\n"
    )
    python = subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(sandbox.__file__).parents[1],
    )
    with python:
        assert python.stdout
        server, client, ifindex = map(int, python.stdout.readline().split())

        @contextmanager
        def inside() -> Iterator[None]:
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            there = os.open(f"/proc/{server}/ns/net", os.O_RDONLY)
            libc = ctypes.CDLL(None)
            libc.setns(there, 0)
            yield
            libc.setns(home, 0)
            os.close(home)
            os.close(there)

        with witness(SimpleNamespace(ifindex=ifindex, inside=inside)) as gone:
            assert alive(client)
            assert not gone()
            python.send_signal(signal.SIGKILL)
            assert eventually(gone)
    assert eventually(lambda: not alive(server) and not alive(client))


def test_without_root_it_says_what_to_do() -> None:
    text = (
        "import os; from helpers import sandbox; os.setgid(65534); os.setuid(65534)\n"
        "from helpers.errors import PermissionNeeded\n"
        "try: sandbox.pair()\n"
        "except PermissionNeeded as error: print(error)\n"
    )
    home = Path(sandbox.__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=home, check=True
    )
    assert "make a network namespace" in said.stdout
    assert "./course lab" in said.stdout
    assert issubclass(PermissionNeeded, BpfError)


def test_importing_helpers_brings_neither_pyroute2_nor_scapy() -> None:
    text = (
        "import sys; from helpers import sandbox; sandbox.random_flows(3)\n"
        "print([name for name in ('pyroute2', 'scapy') if name in sys.modules])"
    )
    home = Path(sandbox.__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=home, check=True
    )
    assert said.stdout.strip() == "[]"


# Frames on the wire


def test_the_server_receives_exactly_the_bytes_sent() -> None:
    flows = sandbox.random_flows(40, seed=1)
    sent = [flow.frame(n) for n, flow in enumerate(flows)]
    sent += [bytes(14), bytes(range(64)), sent[0][:20]]  # runts too
    with sandbox.pair() as net, tap(net.server) as heard:
        assert net.send(sent) == len(sent)
        assert frames_of(heard) == sent
        assert net.stats() == (43, 43, 0, sum(map(len, sent)), sum(map(len, sent)))


def test_send_takes_bytes_and_scapy_packets_one_or_many() -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    frame = sandbox.udp()
    with sandbox.pair() as net:
        assert net.send(frame) == 1
        assert net.send(bytearray(frame)) == 1
        assert net.send(Ether(frame)) == 1
        assert net.send([Ether(frame) / b"more", frame]) == 2
        assert net.send(Ether() / IP(dst="10.0.0.2") / UDP() for _ in range(3)) == 3
        assert net.send([]) == 0
        assert net.stats().received == 8


@pytest.mark.parametrize("size", [0, 13, 1515])
def test_a_frame_that_no_wire_carries_is_refused_before_any_is_sent(size: int) -> None:
    with sandbox.pair() as net:
        with pytest.raises(ValueError, match=rf"Frame 1 has {size} bytes; 14 to 1514 "):
            net.send([sandbox.udp(), bytes(size)])
        assert net.stats().sent == 0


def test_the_longest_frames_pass() -> None:
    tagged = sandbox.udp(payload=bytes(1472), vlan=7)
    assert len(tagged) == 1518
    with sandbox.pair() as net:
        assert net.send([sandbox.udp(payload=bytes(1472)), tagged]) == 2
        with pytest.raises(ValueError, match="14 to 1518"):
            net.send(tagged + b"x")


def test_loss_is_an_error() -> None:
    with sandbox.pair() as net:
        with net.server.inside():
            subprocess.run(["ip", "link", "set", "server", "down"], check=True)
        with pytest.raises(BpfError, match="Is the server's interface up"):
            net.send(sandbox.udp())


@pytest.mark.parametrize("verdict", ["XDP_PASS", "XDP_DROP"])
def test_a_hundred_thousand_frames_reach_the_program(verdict: str) -> None:
    frame = sandbox.udp(payload=bytes(18))
    text = COUNT_BY_CPU.replace("VERDICT", verdict)
    with sandbox.pair() as net, load(text=text) as prog:
        prog.attach("count", net.server)
        start = time.monotonic()
        net.send([frame] * 10_000)
        assert time.monotonic() - start < 1
        assert sum(prog["hits"][0]) == 10_000
        net.send([frame] * 90_000)
        assert sum(prog["hits"][0]) == 100_000
        assert net.stats().received == 100_000


def test_start_is_called_before_the_first_frame() -> None:
    with sandbox.pair() as net:
        seen = list[int]()
        assert net.send([sandbox.udp()] * 300, start=lambda: seen.append(net.stats().sent)) == 300
        assert seen == [0]


@two_cpus
def test_the_program_runs_on_the_senders_cpu() -> None:
    frame = sandbox.udp()
    text = COUNT_BY_CPU.replace("VERDICT", "XDP_DROP")
    with sandbox.pair() as net, load(text=text) as prog:
        prog.attach("count", net.server)
        wanted = [0] * len(prog["hits"][0])
        for cpu, n in ((CPUS[0], 700), (CPUS[1], 300)):
            net.send([frame] * n, cpu=cpu)
            wanted[cpu] += n
            assert prog["hits"][0] == wanted


@two_cpus
def test_two_cpus_send_at_once_and_each_keeps_its_own_frames() -> None:
    frame = sandbox.udp()
    text = COUNT_BY_CPU.replace("VERDICT", "XDP_PASS")
    with sandbox.pair() as net, load(text=text) as prog:
        prog.attach("count", net.server)
        sent = sandbox.on_cpus(CPUS[:2], lambda cpu: net.send([frame] * 20_000, cpu=cpu))
        assert sent == [20_000, 20_000]
        hits = prog["hits"][0]
        assert [hits[cpu] for cpu in CPUS[:2]] == sent
        assert sum(hits) == net.stats().received == 40_000


def test_sending_from_a_cpu_leaves_this_thread_where_it_was() -> None:
    before = os.sched_getaffinity(0)
    with sandbox.pair() as net:
        net.send(sandbox.udp(), cpu=CPUS[-1])
        with pytest.raises(Unsupported, match="CPU 4000"):
            net.send(sandbox.udp(), cpu=4000)
        assert net.stats().sent == 1
    assert os.sched_getaffinity(0) == before


# Packets


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071), 0 over data that holds its own right checksum."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_a_tcp_frame_field_by_field() -> None:
    frame = sandbox.tcp("10.1.2.3", "10.4.5.6", 4000, 443, b"hello", flags="PA")
    assert frame[:14] == bytes.fromhex("020000000002 020000000001 0800")
    ip, segment = frame[14:34], frame[34:]
    assert ip[0] == 0x45 and ip[9] == 6
    assert int.from_bytes(ip[2:4], "big") == 45 == len(frame) - 14
    assert ip[12:20] == bytes([10, 1, 2, 3, 10, 4, 5, 6])
    assert struct.unpack("!HH", segment[:4]) == (4000, 443)
    assert segment[13] == 0x18  # PSH, ACK
    assert segment[20:] == b"hello"
    assert checksum(ip) == 0
    assert checksum(ip[12:20] + struct.pack("!BBH", 0, 6, len(segment)) + segment) == 0


def test_udp_icmp_vlan_and_ipv6() -> None:
    udp = sandbox.udp(sport=1, dport=2, payload=b"abc")
    assert udp[23] == 17 and udp[34:40] == struct.pack("!HHH", 1, 2, 11)
    assert checksum(udp[26:34] + struct.pack("!BBH", 0, 17, 11) + udp[34:]) == 0
    echo = sandbox.icmp(payload=b"abc")
    assert echo[23] == 1 and echo[34] == 8 and checksum(echo[34:]) == 0
    tagged = sandbox.tcp(vlan=5)
    assert tagged[12:18] == bytes.fromhex("8100 0005 0800")
    assert tagged[:12] + tagged[16:] == sandbox.tcp()
    six = sandbox.tcp("fd00::1", "fd00::2")
    assert six[12:14] == b"\x86\xdd" and six[14] >> 4 == 6 and six[20] == 6
    assert checksum(six[22:54] + struct.pack("!LL", len(six) - 54, 6) + six[54:]) == 0
    assert sandbox.icmp("fd00::1", "fd00::2")[20] == 58


@pytest.mark.parametrize(
    "wrong",
    [{"src": "10.0.0"}, {"dst": "fd00::1"}, {"sport": 65536}, {"dport": -1}, {"vlan": 4096}],
)
def test_wrong_packet_fields_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        sandbox.tcp(**wrong)  # type: ignore[arg-type]


def test_random_flows_are_different_repeatable_and_full_of_twins() -> None:
    flows = sandbox.random_flows(2000, seed=7)
    assert len(set(flows)) == 2000
    assert flows == sandbox.random_flows(2000, seed=7)
    assert flows != sandbox.random_flows(2000, seed=8)
    assert {flow.proto for flow in flows} == {6, 17}
    assert any(flow.reverse in flows for flow in flows)
    for field in range(5):  # a program that ignores this field would merge some of them
        assert len({flow[:field] + flow[field + 1 :] for flow in flows}) < 2000
    six = sandbox.random_flows(10, seed=7, protocols=["udp"], version=6)
    assert all(flow.src.startswith("fd00::") and flow.proto == 17 for flow in six)
    assert str(sandbox.Flow("10.0.0.1", "10.0.0.2", 4000, 80, 6)) == "10.0.0.1:4000 → 10.0.0.2:80"
    assert "[fd00::1]:1 →" in str(sandbox.Flow("fd00::1", "fd00::2", 1, 2, 6))


def test_a_flow_makes_frames_of_its_own_kind() -> None:
    flow = sandbox.Flow("10.0.0.1", "10.0.0.2", 4000, 80, 6)
    assert flow.frame(100) == sandbox.tcp(sport=4000, dport=80, payload=b"x" * 100)
    assert len(flow.frame(100)) == len(flow.frame()) + 100
    assert flow._replace(proto=17).frame() == sandbox.udp(sport=4000, dport=80)
    assert flow._replace(proto=1).frame(3) == sandbox.icmp(payload=b"xxx")
    with pytest.raises(ValueError, match="132"):
        flow._replace(proto=132).frame()


# CPUs


@two_cpus
def test_on_cpus_runs_each_on_its_cpu_at_the_same_time() -> None:
    meet = threading.Barrier(2, timeout=5)

    def here(cpu: int) -> tuple[int, set[int]]:
        meet.wait()  # passes only when both are running
        return cpu, os.sched_getaffinity(0)

    first, second = CPUS[:2]
    assert sandbox.on_cpus([second, first], here) == [(second, {second}), (first, {first})]
    assert sandbox.on_cpus([first], lambda: "no argument") == ["no argument"]
    assert sandbox.on_cpus([first], lambda mine="default": mine) == ["default"]
    assert sandbox.on_cpus([], here) == []


def test_on_cpus_raises_the_first_error_once_all_are_done() -> None:
    done = []

    def work(cpu: int) -> None:
        done.append(cpu)
        raise KeyError(f"on {cpu}")

    with pytest.raises(KeyError, match=f"on {CPUS[0]}"):
        sandbox.on_cpus(CPUS, work)
    assert sorted(done) == CPUS


@two_cpus
@pytest.mark.parametrize("missing", CPUS[:2])
def test_on_cpus_waits_for_nobody_whose_cpu_goes_away(
    monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    pin, done = os.sched_setaffinity, list[int]()

    def pin_elsewhere(pid: int, cpus: set[int]) -> None:
        if cpus == {missing} and threading.current_thread() is not threading.main_thread():
            raise OSError(errno.EINVAL, "Invalid argument")  # it was there when it was looked for
        pin(pid, cpus)

    monkeypatch.setattr(os, "sched_setaffinity", pin_elsewhere)
    with pytest.raises(Unsupported, match=f"CPU {missing}"):
        sandbox.on_cpus(CPUS[:2], done.append)
    assert done == []


@two_cpus
def test_on_cpus_waits_for_no_thread_that_cannot_be_started() -> None:
    """There is memory for one stack, and not for two."""
    code = """
import re, resource, threading
from pathlib import Path
from helpers import kernel, sandbox

size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
threading.stack_size(512 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size + (768 << 20), resource.RLIM_INFINITY))
try:
    sandbox.on_cpus(kernel.online_cpus()[:2], print)
except RuntimeError as error:
    print(error)
"""
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=kernel.ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("can't start new thread\n", "")


def test_on_cpus_refuses_a_cpu_that_is_not_there_before_running_any() -> None:
    done: list[int] = []
    with pytest.raises(Unsupported, match="CPU 4000"):
        sandbox.on_cpus([CPUS[0], 4000], done.append)
    with pytest.raises(Unsupported, match="CPU -1"):
        sandbox.on_cpus([-1], done.append)
    assert done == []


@two_cpus
def test_two_that_run_side_by_side_go_before_others_and_leave_no_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, meet = sys.getswitchinterval(), threading.Barrier(2, timeout=5)

    def here(cpu: int) -> tuple[int, int]:
        meet.wait()
        assert sys.getswitchinterval() < before
        return cpu, os.sched_getscheduler(0)

    policy = os.SCHED_FIFO if os.geteuid() == 0 else os.SCHED_OTHER
    assert sandbox.side_by_side(here) == [(cpu, policy) for cpu in kernel.online_cpus()[:2]]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert sys.getswitchinterval() == before
    monkeypatch.setattr(kernel, "online_cpus", lambda: [0])
    with pytest.raises(Unsupported, match="two CPUs"):
        sandbox.side_by_side(here)


# Traffic


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_talk_reports_the_flows_that_crossed_the_wire(kind: str) -> None:
    talk = {"tcp": sandbox.tcp_talk, "udp": sandbox.udp_talk}[kind]
    with sandbox.pair() as net, tap(net.server) as heard:
        flows = talk(net, connections=4, payload=3000)
        frames = [frame for frame in frames_of(heard) if frame[12:14] == b"\x08\x00"]
        assert len(set(flows)) == 4
        assert {flow.proto for flow in flows} == {sandbox.PROTOCOLS[kind]}
        payload: Counter[sandbox.Flow] = Counter()
        for frame in frames:
            src, dst = socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])
            ports = struct.unpack("!HH", frame[34:38])
            header = frame[46] >> 4 << 2 if kind == "tcp" else 8
            length = int.from_bytes(frame[16:18], "big") - 20 - header
            payload[sandbox.Flow(src, dst, *ports, frame[23])] += length
        assert payload == dict.fromkeys(flows, 3000)


def test_the_kernels_own_packets_are_whole() -> None:
    with sandbox.pair() as net, tap(net.server) as heard:
        sandbox.tcp_talk(net, connections=1, payload=40_000)
        frames = frames_of(heard)
    assert len(frames) > 30
    assert max(map(len, frames)) == 1514
    for frame in frames:
        segment = frame[34 : 14 + int.from_bytes(frame[16:18], "big")]
        assert checksum(frame[26:34] + struct.pack("!BBH", 0, 6, len(segment)) + segment) == 0


def test_a_workload_waits_for_the_word_and_ends_with_its_block() -> None:
    with sandbox.pair() as net:
        with sandbox.workload(net, connections=2, rounds=None, pause=0.001) as talk:
            pids = [talk.server_pid, talk.client_pid]
            home = os.readlink("/proc/self/ns/net")
            assert len({os.readlink(f"/proc/{pid}/ns/net") for pid in pids} | {home}) == 3
            assert net.stats().sent == 0
            assert len(talk.start()) == 2
            before = net.stats().sent
            assert eventually(lambda: net.stats().sent > before + 10)
        assert not any(map(alive, pids))
        talk.close()
        with pytest.raises(Closed):
            talk.start()


def test_a_talk_that_finds_no_answer_says_so() -> None:
    text = COUNT_BY_CPU.replace("VERDICT", "XDP_DROP")
    with sandbox.pair() as net, load(text=text) as prog:
        prog.attach("count", net.server)
        with (
            sandbox.workload(net, patience=0.3) as talk,
            pytest.raises(BpfError, match=r"(?s)client .* gave up.*drop its packets"),
        ):
            talk.start()
        assert sum(prog["hits"][0]) > 0
        with sandbox.workload(net, "udp", patience=0.3) as talk:
            assert len(talk.start()) == 3
            with pytest.raises(BpfError, match="timed out"):
                talk.wait()


def test_a_port_taken_and_a_kind_unknown() -> None:
    with sandbox.pair() as net:
        with (
            sandbox.workload(net),
            pytest.raises(BpfError, match=r"server of the workload gave up.*in use"),
        ):
            sandbox.workload(net)
        with pytest.raises(ValueError, match="sctp"):
            sandbox.workload(net, "sctp")
