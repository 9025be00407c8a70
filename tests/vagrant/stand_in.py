"""What `vagrant up` needs of the world, made here: a box, a catalog that publishes it, libvirt.

No request goes to Vagrant's registry. The box is a local stand-in for the public one: a Debian of
the same release from mmdebstrap, under the public box's name and version. It boots a kernel from
outside its disk, so that it needs no boot loader; all else of the project's Vagrantfile is as it is
for everybody. What differs here (emulation, say) is in Vagrant's own file for a user's wishes.
"""

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from helpers import kernel
from helpers.vm import fetch, machine

NETWORK, ADDRESS = "bpf-maps-measured-test", "192.168.221"
MODULES = "virtio_pci virtio_blk virtio_net ext4"
PACKAGES = (
    "linux-image-amd64 systemd-sysv udev dbus openssh-server sudo rsync iproute2 "
    "ca-certificates kmod procps zstd "
    # What ./course installs, but for bubblewrap: emulated, all of it takes ten minutes. That it
    # installs in a Debian with nothing but the base is for ./course test --fresh to show.
    "python3-venv clang llvm libbpf-dev linux-libc-dev python3-bpfcc bpftool linux-headers-amd64"
).split()

WHEELS = "/opt/wheels"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# What a Vagrant box has, and a Debian has not, but for the user "vagrant" and its key
FILES = {
    "etc/sudoers.d/vagrant": "vagrant ALL=(ALL) NOPASSWD:ALL\n",
    "etc/systemd/network/eth0.network": "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\n",
    "etc/resolv.conf": f"nameserver {ADDRESS}.1\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/hostname": "debian\n",
    # Emulated, compiling all modules takes minutes, and so does asking an index for each package.
    # Most modules are never imported here; ./course test --fresh asks PyPI. In a file, the "no" of
    # no-compile is what its value would be: yes would compile.
    "etc/xdg/pip/pip.conf": (
        f"[install]\nno-compile = no\nno-index = true\nfind-links = {WHEELS}\n"
    ),
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 debian\n",
}


def run(*command: str | Path) -> str:
    """Run a command, and give what it printed; a failure shows all of it."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}"
    return done.stdout


def public_box() -> tuple[str, str]:
    """The name and version of the box that Vagrantfile takes on libvirt."""
    found = re.search(
        r'"(cloud-image/debian-13)", "([\d.]+)"', (kernel.ROOT / "Vagrantfile").read_text()
    )
    assert found
    return found[1], found[2]


def box(key: str) -> Path:
    """The folder with debian.box, vmlinuz and initrd, made when it is not in the cache."""
    recipe = Path(__file__).read_bytes() + (kernel.ROOT / "requirements.lock").read_bytes()
    folder = kernel.cache_dir("vagrant") / f"debian-13-{hashlib.sha256(recipe).hexdigest()[:8]}"
    if folder.exists():
        return folder
    for older in folder.parent.glob("debian-13-????????"):
        shutil.rmtree(older)
    part = folder.with_suffix(f".part-{os.getpid()}")
    tree = part / "tree"
    part.mkdir(mode=0o755)
    try:
        _tree(tree, key)
        shutil.copy(next(tree.glob("boot/vmlinuz-*")), part / "vmlinuz")
        shutil.copy(next(tree.glob("boot/initrd.img-*")), part / "initrd")
        run("mke2fs", "-q", "-t", "ext4", "-d", tree, part / "disk", "10G")
        run("qemu-img", "convert", "-O", "qcow2", part / "disk", part / "box.img")
        (part / "disk").unlink()
        shutil.rmtree(tree)
        metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": 10}
        (part / "metadata.json").write_text(json.dumps(metadata))
        (part / "Vagrantfile").write_text('Vagrant.configure("2") { |config| }\n')
        with (
            gzip.open(part / "debian.box", "wb", compresslevel=1) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for name in ("metadata.json", "Vagrantfile", "box.img"):
                tar.add(part / name, name)
        (part / "box.img").unlink()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _tree(tree: Path, key: str) -> None:
    modules = "etc/initramfs-tools/conf.d"
    hooks = [
        f'mkdir -p "$1/{modules}"; echo MODULES=list > "$1/{modules}/course"',
        f'printf "%s\\n" {MODULES} > "$1/etc/initramfs-tools/modules"',
    ]
    line = f"deb [signed-by={fetch.KEYS}] {fetch.mirror()} trixie main"
    run(
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
        *(f"--essential-hook={hook}" for hook in hooks),
        '--customize-hook=chroot "$1" useradd -m -s /bin/bash vagrant',
        *("trixie", tree, line),
    )
    _wheels(tree)
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "etc/apt/sources.list").write_text(f"deb {fetch.mirror()} trixie main\n")
    ssh = tree / "home/vagrant/.ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "authorized_keys").write_text(key)
    run("chroot", tree, "systemctl", "enable", "--quiet", "systemd-networkd")
    run("chroot", tree, "chown", "-R", "vagrant:vagrant", "/home/vagrant")


def _wheels(tree: Path) -> None:
    """The packages of requirements.lock that the tree's own Python takes."""
    shutil.copy("/etc/resolv.conf", tree / "etc")
    shutil.copy(kernel.ROOT / "requirements.lock", tree / "tmp")
    shutil.copy(CERTIFICATES, tree / "tmp")
    # This machine's variables for certificates are stronger than --cert, and name the tree's.
    script = f"""
    unset REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip --cert /tmp/{CERTIFICATES.name} download -q --require-hashes -d {WHEELS} \\
        -r /tmp/requirements.lock
    rm -r /tmp/*
    """
    run("chroot", tree, "sh", "-ec", script)


# --- libvirt --------------------------------------------------------------------------------


def firewall() -> dict[str, list[str]]:
    """The rules of each table of both protocols, without their counters."""
    return {
        f"{tool} {table}": run(tool, "-t", table, "-S").splitlines()
        for tool in ("iptables", "ip6tables")
        for table in ("filter", "nat", "mangle")
    }


# libvirtd wants a user that Debian makes for it only where systemd is.
INSIDE = """
mount --bind "$1/etc" /etc/libvirt
mount --bind "$1/var" /var/lib/libvirt
for file in passwd group; do
    { cat /etc/$file; echo "libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin"; } >"$1/$2.$file"
    mount --bind "$1/$2.$file" /etc/$file
done
exec "$2"
"""


@contextlib.contextmanager
def libvirt(folder: Path) -> Iterator[None]:
    """A libvirtd and a virtlogd of our own, with their state in ``folder``, and a storage pool.

    A process of its own has them. When this one ends, killed or not, it takes all away: machines,
    the network that Vagrant makes, the chains that libvirt leaves in the firewall.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-m", __name__, folder],
        cwd=kernel.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests
    )
    assert keeper.stdin and keeper.stdout
    try:
        assert keeper.stdout.readline() == "ready\n"
        yield
    finally:
        keeper.stdin.close()
        status = keeper.wait(180)
    assert status == 0


def _keep(folder: Path) -> None:
    parent = os.getppid()
    with _libvirt(folder):
        print("ready", flush=True)
        sys.stdin.read()
        if os.getppid() != parent:
            _end_run()


def _end_run() -> None:
    """Kill what a run of the tests has left that was killed itself: Vagrant, its ssh."""
    mark = f"BPF_COURSE_TESTS={os.environ['BPF_COURSE_TESTS']}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is nobody's to read
            number = int(process.name)
            if mark in (process / "environ").read_bytes() and os.getsid(number) != os.getsid(0):
                os.kill(number, signal.SIGKILL)


@contextlib.contextmanager
def _libvirt(folder: Path) -> Iterator[None]:
    """As libvirt(), in the process that has them. They see ``folder`` in place of their own ones,
    /etc/libvirt and /var/lib/libvirt.
    """
    assert not Path("/run/libvirt/libvirt-sock").is_socket(), "a libvirtd runs here: stop it first"
    rules, forward = firewall(), Path("/proc/sys/net/ipv4/ip_forward")
    forwarded = forward.read_text()
    for name in ("etc", "var", "pool"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/qemu.conf").write_text(
        'user = "root"\ngroup = "root"\nsecurity_driver = "none"\n'
    )
    Path("/var/lib/libvirt").mkdir(exist_ok=True)
    with contextlib.ExitStack() as later, (folder / "log").open("w") as log:
        later.callback(shutil.rmtree, folder / "pool")
        later.callback(forward.write_text, forwarded)
        later.callback(_tidy, rules)
        for name in ("virtlogd", "libvirtd"):
            command = ["unshare", "--mount", "sh", "-ec", INSIDE, "sh", str(folder), name]
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            later.callback(_end, daemon)
        later.callback(_empty)
        deadline = time.monotonic() + 60
        while subprocess.run(["virsh", "version"], capture_output=True).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        run("virsh", "pool-define-as", NETWORK, "dir", "--target", folder / "pool")
        run("virsh", "pool-start", NETWORK)
        yield
    assert firewall() == rules


def _empty() -> None:
    """Have libvirt end the machines of a run that was stopped, and forget network and pool."""
    listed = subprocess.run(["virsh", "list", "--name"], capture_output=True, text=True)
    for name in listed.stdout.split():
        subprocess.run(["virsh", "destroy", name], capture_output=True)
    for action in ("net-destroy", "net-undefine", "pool-destroy", "pool-undefine"):
        subprocess.run(["virsh", action, NETWORK], capture_output=True)


def _end(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    try:
        daemon.wait(30)
    finally:
        daemon.kill()


def _tidy(before: dict[str, list[str]]) -> None:
    """Remove libvirt's chains, and the rules that lead to them, unless they were there before."""
    for where, rules in firewall().items():
        tool, table = where.split()
        new = [rule.split() for rule in rules if rule not in before[where]]
        for rule in new:
            if rule[0] == "-A" and rule[-1].startswith("LIBVIRT_"):
                run(tool, "-t", table, "-D", *rule[1:])
        chains = [rule[1] for rule in new if rule[0] == "-N" and rule[1].startswith("LIBVIRT_")]
        for option in ("-F", "-X"):
            for chain in chains:
                run(tool, "-t", table, option, chain)


def wishes(box: Path) -> str:
    """Vagrant's file for what a user wants on one machine; the project's own is read after it."""
    return f"""
Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |vm|
    vm.driver = "qemu"
    vm.cpu_mode = "maximum" # the plain one lacks what NumPy is compiled for
    vm.qemuargs :value => "-cpu" # less than that; the last one counts
    vm.qemuargs :value => "{machine.PROCESSOR["tcg"]}"
    vm.graphics_type = "none"
    vm.disk_driver :cache => "unsafe"
    vm.kernel = "{box}/vmlinuz"
    vm.initrd = "{box}/initrd"
    vm.cmd_line = "root=/dev/vda rw net.ifnames=0 console=ttyS0 {machine.QUICKER}"
    vm.storage_pool_name = "{NETWORK}"
    vm.management_network_name = "{NETWORK}"
    vm.management_network_address = "{ADDRESS}.0/24"
  end
end
"""


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
