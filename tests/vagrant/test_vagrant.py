"""`vagrant up` for real, from outside: libvirt under emulation, and a local stand-in for the box.

The tests are one story, in this order, about one VM.
"""

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import kernel
from tests.vagrant import stand_in
from tests.vm.conftest import until

pytestmark = pytest.mark.timeout(2400)
HALF_WAY = "venv: Python packages from requirements.lock"


class Vm:
    """A clone of the course, as a learner has it, and what Vagrant does with it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.course, self.link, self.token, self.port = folder / "course", "", "", port
        self.work, self.ssh = self.course / "work", folder / "ssh"
        self.env = os.environ | {
            "VAGRANT_HOME": str(folder / "home"),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "LIBVIRT_DEFAULT_URI": "qemu:///system",
            "COURSE_ANY_VAGRANT": "1",
            "COURSE_PORT": str(port),
        }
        if stand_in.CERTIFICATES.exists():
            self.env["COURSE_CA_BUNDLE"] = str(stand_in.CERTIFICATES)

    def vagrant(self, *command: str, until: str | None = None) -> tuple[int, str]:
        """Run Vagrant; its exit status and what it printed, which is in this test's output, too.

        ``until``: kill it when it has printed that.
        """
        return self._run("vagrant", *command, until=until)

    def _run(self, *command: str, until: str | None = None) -> tuple[int, str]:
        print(f"$ {' '.join(command)}", flush=True)
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=self.course,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = ""
        assert process.stdout
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                said += line
                if until and until in line:
                    process.kill()
        except BaseException:  # while one Vagrant holds the machine, another cannot destroy it
            process.kill()
            process.wait()
            raise
        status = process.wait()
        print(f"  ended with {status} after {time.monotonic() - started:.0f} s", flush=True)
        return status, said

    def up(self, *options: str) -> str:
        status, said = self.vagrant("up", *options)
        assert status == 0
        found = re.search(
            r"JupyterLab is at (http://127\.0\.0\.1:(\d+)/\S+\?token=(\w+))\n\Z", said
        )
        assert found, "the link is not the last line"
        self.link, self.port, self.token = found[1], int(found[2]), found[3]
        status, config = self.vagrant("ssh-config")
        assert status == 0
        self.ssh.write_text(config[config.index("Host default") :])
        return said

    def inside(self, command: str) -> str:
        """As `vagrant ssh -c`, which takes some seconds to think about it."""
        status, said = self._run("ssh", "-F", str(self.ssh), "default", command)
        assert status == 0
        return said

    def ask(self, path: str, token: str = "", data: bytes | None = None) -> tuple[int, str]:
        """The status and body of JupyterLab's answer, through the forwarded port."""
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    folder = tmp_path_factory.mktemp("vagrant")
    vm = Vm(folder, free_port())
    name, version = stand_in.public_box()
    print(
        f"\nThe box is a local stand-in for {name} {version}, made with mmdebstrap;"
        " most packages of ./course install are in it.",
        flush=True,
    )
    stand_in.run("git", "clone", "--quiet", kernel.ROOT, vm.course)
    vm.vagrant("box", "list")  # makes the key
    key = stand_in.run("ssh-keygen", "-y", "-f", folder / "home/insecure_private_key")
    started = time.monotonic()
    box = stand_in.box(key)
    print(f"The box is there after {time.monotonic() - started:.0f} s.", flush=True)
    (folder / "home/Vagrantfile").write_text(stand_in.wishes(box))
    provider = {"name": "libvirt", "url": f"file://{box}/debian.box"}
    versions = [{"version": version, "providers": [provider]}]
    (folder / "catalog.json").write_text(json.dumps({"name": name, "versions": versions}))
    with stand_in.libvirt(folder / "libvirt"):
        try:
            assert vm.vagrant("box", "add", str(folder / "catalog.json"))[0] == 0
            yield vm
        finally:
            vm.vagrant("destroy", "-f")


@pytest.fixture(scope="module")
def begun(vm: Vm) -> str:
    """What a first `vagrant up` says that is killed half-way through the installation.

    Somebody else has the port that was asked for.
    """
    asked = vm.port
    with socket.create_server(("127.0.0.1", asked)):
        status, said = vm.vagrant("up", until=HALF_WAY)
    found = re.search(rf"Port {asked} is taken: JupyterLab gets (\d+)\.", said)
    assert status != 0 and found
    vm.port = int(found[1])
    return said


@pytest.fixture(scope="module")
def first(vm: Vm, begun: str) -> str:
    """What the `vagrant up` after that one says, which is the first to end."""
    port = vm.port
    said = vm.up()
    assert vm.port == port
    return said


def test_up_waits_for_what_an_interrupted_one_began(begun: str, first: str) -> None:
    assert "packages: bubblewrap\n" in begun
    assert HALF_WAY in begun and "JupyterLab is at" not in begun
    assert "another ./course is installing: waiting for it" in first
    assert HALF_WAY not in first
    assert "all is there: ./course lab opens the first notebook" in first


def test_the_doctor_is_content(first: str) -> None:
    for what in ("BTF", "bpffs", "tracefs", "kernel headers", "BCC", "kprobes"):
        assert re.search(rf"yes +{what} ", first), what
    assert "Everything that the course needs is here." in first


def test_jupyterlab_answers_with_the_token_and_refuses_without(vm: Vm) -> None:
    assert vm.ask("/api/contents/notebooks", vm.token)[0] == 200
    assert vm.ask("/api/contents/notebooks")[0] == 403
    assert vm.ask("/api/contents/notebooks", "guess")[0] == 403
    assert "jupyter-config-data" in vm.ask(vm.link.partition(str(vm.port))[2])[1]


def test_the_port_is_on_this_machine_alone(vm: Vm) -> None:
    listening = stand_in.run("ss", "-Hltn")
    assert re.findall(rf"(\S+):{vm.port}\s", listening) == ["127.0.0.1"]


def test_the_server_is_a_users_and_its_kernels_are_roots(vm: Vm) -> None:
    status, said = vm.ask("/api/kernels", vm.token, json.dumps({"name": "python3"}).encode())
    assert status == 201
    processes = "ps -eo user:16,args"
    running = re.compile(r"^root +/\S+/python -m ipykernel_launcher", re.MULTILINE)
    until(lambda: running.search(vm.inside(processes)), 120)
    assert re.search(r"^vagrant .*helpers\.cli lab", vm.inside(processes), re.MULTILINE)
    request = urllib.request.Request(
        f"http://127.0.0.1:{vm.port}/api/kernels/{json.loads(said)['id']}",
        headers={"Authorization": f"token {vm.token}"},
        method="DELETE",
    )
    assert urllib.request.urlopen(request, timeout=60).status == 204
    until(lambda: not running.search(vm.inside(processes)), 30)


def test_notebooks_pass_inside(vm: Vm) -> None:
    """Without ./course, whose test command installs a browser first. Skipped would be failed."""
    status, said = vm.vagrant(
        "ssh",
        "-c",
        "cd course && sudo BPF_COURSE_LANE=vagrant .venv/bin/python -P -m helpers.cli test -q "
        "-n 2 --dist loadfile -o timeout=900 notebooks/00_start_here.ipynb "
        "notebooks/02_hash_maps.ipynb notebooks/12_patterns.ipynb",
    )
    assert status == 0
    assert re.search(r"^\d+ passed in", said, re.MULTILINE)


# What provisioning makes: the packages, the .venv, the services and their files, as they are.
STATE = (
    "dpkg-query -W | sha256sum; sudo cat /etc/bpf-maps-measured/token | sha256sum; "
    "stat -c '%n %y' /etc/systemd/system/course-* /etc/bpf-maps-measured/jupyter/kernels/*/*; "
    "stat -c '%n %y' course/.venv/.course-stamp course/.venv/bin/jupyter; "
    "systemctl show -P MainPID course-lab.service"
)


def test_provisioning_twice_changes_nothing(vm: Vm) -> None:
    before = vm.inside(STATE)
    assert vm.vagrant("provision")[0] == 0
    assert vm.inside(STATE) == before


@pytest.fixture(scope="module")
def cut_off(vm: Vm) -> tuple[int, str]:
    """What a `vagrant up` says that has something to install, and no network."""
    vm.inside("sudo dpkg --purge bubblewrap && sudo ip route del default")
    return vm.vagrant("up")


@pytest.fixture(scope="module")
def broken(vm: Vm, cut_off: tuple[int, str]) -> tuple[int, str]:
    """What the next one says, after a halt, in which a step is broken."""
    vm.inside("mkdir -p course/work/lab && echo mine > course/work/lab/answer.py")
    vm.inside("cp course/helpers/cli.py whole.py")
    assert vm.vagrant("halt")[0] == 0
    code = vm.course / "helpers/cli.py"
    whole = code.read_text()
    code.write_text("raise SystemExit('broken on purpose')\n")
    told = vm.vagrant("up")
    code.write_text(whole)
    vm.inside("cp whole.py course/helpers/cli.py")
    return told


@pytest.fixture(scope="module")
def mended(vm: Vm, broken: tuple[int, str]) -> str:
    """What the one says that has all again, and the token from before."""
    token = vm.token
    said = vm.up()
    assert vm.token == token
    return said


def test_without_a_network_it_says_so(cut_off: tuple[int, str]) -> None:
    status, said = cut_off
    assert status != 0 and "JupyterLab is at" not in said
    assert "the lines above say why: mend the network or apt, then run ./course install" in said


def test_the_next_up_installs_what_was_lacking(broken: tuple[int, str]) -> None:
    assert "packages: bubblewrap\n" in broken[1]


def test_a_broken_step_fails_loudly(broken: tuple[int, str], mended: str) -> None:
    status, said = broken
    assert status != 0 and "JupyterLab is at" not in said
    assert "broken on purpose" in said
    assert "vagrant: The VM lacks what the lines above say: vagrant up --provision tries" in said
    assert "Everything that the course needs is here." in mended


def test_work_outlives_halt(vm: Vm, mended: str) -> None:
    assert (vm.work / "lab/answer.py").read_text() == "mine\n"
    assert vm.inside("cat course/work/lab/answer.py") == "mine\n"
    assert vm.ask("/api/contents/work/lab/answer.py", vm.token)[0] == 200


def test_a_course_update_leaves_work_alone(vm: Vm) -> None:
    vm.inside("echo newer > course/work/lab/answer.py")
    (vm.course / "README.md").write_text("an update\n")
    assert vm.vagrant("rsync")[0] == 0
    assert vm.inside("cat course/README.md course/work/lab/answer.py") == "an update\nnewer\n"


def test_destroy_refuses_to_lose_work(vm: Vm) -> None:
    aside = vm.work.rename(vm.work.with_suffix(".aside"))
    vm.work.write_text("a file is no folder to copy into")
    status, said = vm.vagrant("destroy", "-f")
    vm.work.unlink()
    aside.rename(vm.work)
    assert status != 0
    assert "work/ could not be copied out of the VM" in said
    assert "To do without what is new there: vagrant halt --force, then destroy." in said
    assert vm.inside("cat course/work/lab/answer.py") == "newer\n"


def test_destroy_says_where_work_is(vm: Vm) -> None:
    status, said = vm.vagrant("destroy", "-f")
    assert status == 0
    assert f"Your own code stays on this machine, in {vm.work}" in said
    assert (vm.work / "lab/answer.py").read_text() == "newer\n"
    domains = stand_in.run("virsh", "list", "--all", "--name")
    assert domains.strip() == ""
