"""What the tests of the VM start beside it, and that nothing of that is left."""

import re
import time
from pathlib import Path

from tests.vagrant import stand_in


def test_nothing_is_left_of_a_libvirt(tmp_path: Path) -> None:
    """Processes, pools, networks, rules: all that was not there before is gone."""

    def state() -> object:
        links = re.findall(r"virbr\d+", stand_in.run("ip", "-brief", "link"))
        found = re.findall(r"virtlogd|libvirtd|dnsmasq", stand_in.run("ps", "-eo", "comm"))
        return links, found, stand_in.firewall(), Path("/proc/self/mounts").read_text()

    before = state()
    with stand_in.libvirt(tmp_path / "libvirt"):
        text = (
            f"<network><name>{stand_in.NETWORK}</name><forward mode='nat'/>"
            "<ip address='192.168.221.1' netmask='255.255.255.0'>"
            "<dhcp><range start='192.168.221.2' end='192.168.221.9'/></dhcp></ip></network>"
        )
        (tmp_path / "network.xml").write_text(text)
        stand_in.run("virsh", "net-define", tmp_path / "network.xml")
        stand_in.run("virsh", "net-start", stand_in.NETWORK)
        assert state() != before
    deadline = time.monotonic() + 10  # dnsmasq takes its time
    while (after := state()) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert after == before
