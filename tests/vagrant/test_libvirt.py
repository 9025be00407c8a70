"""What the tests of the VM start beside it, and that nothing of that is left."""

import re
import subprocess
import sys
from pathlib import Path

from helpers import kernel
from tests.vagrant import stand_in
from tests.vm.conftest import until

NETWORK = f"""
<network><name>{stand_in.NETWORK}</name><forward mode='nat'/>
<ip address='{stand_in.ADDRESS}.1' netmask='255.255.255.0'>
<dhcp><range start='{stand_in.ADDRESS}.2' end='{stand_in.ADDRESS}.9'/></dhcp></ip></network>
"""
MACHINE = f"""
<domain type='qemu'><name>{stand_in.NETWORK}</name><memory unit='MiB'>64</memory>
<os><type>hvm</type></os>
<devices><interface type='network'><source network='{stand_in.NETWORK}'/></interface></devices>
</domain>
"""


def state() -> object:
    """Processes, bridges, rules, mounts, and whether this kernel sends on what is not for it."""
    running = stand_in.run("ps", "-ww", "-eo", "args")
    return (
        sorted(re.findall(rf"virtlogd|libvirtd|dnsmasq|{stand_in.NETWORK}", running)),
        re.findall(r"virbr\d+", stand_in.run("ip", "-brief", "link")),
        stand_in.firewall(),
        Path("/proc/self/mounts").read_text(),
        Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    )


def begin(folder: Path) -> None:
    """A network and a machine, as Vagrant makes them; nothing is on its disk, for it has none."""
    for kind, text in (("net", NETWORK), ("", MACHINE)):
        (folder / "what.xml").write_text(text)
        stand_in.run("virsh", f"{kind}-define".strip("-"), folder / "what.xml")
        stand_in.run("virsh", f"{kind}-start".strip("-"), stand_in.NETWORK)


def test_nothing_is_left_of_a_libvirt(tmp_path: Path) -> None:
    before = state()
    with stand_in.libvirt(tmp_path / "libvirt"):
        begin(tmp_path)
        assert state() != before
    until(lambda: state() == before, 10)  # dnsmasq takes its time


def test_nothing_is_left_of_tests_that_are_killed(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from tests.vagrant import stand_in, test_libvirt\n"
        "folder = Path(sys.argv[1])\n"
        "with stand_in.libvirt(folder / 'libvirt'):\n"
        "    test_libvirt.begin(folder)\n"
        "    stays = [sys.executable, '-c', 'import time; time.sleep(600)', stand_in.NETWORK]\n"
        "    subprocess.Popen(stays, start_new_session=True)\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(600)\n"
    )
    before = state()
    run = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        cwd=kernel.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout and run.stdout.readline() == "begun\n"
    assert state() != before
    run.kill()
    run.wait()
    until(lambda: state() == before, 60)
