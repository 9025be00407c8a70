"""Every way in from outside, tried: over the network, from a browser, from other users' files.

SECURITY.md says the same in sentences.
"""

import ast
import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from jupyter_core.paths import jupyter_runtime_dir

from helpers import kernel, load, sandbox
from helpers.errors import BpfError, PermissionNeeded
from helpers.vm import fetch
from tests.faults import audit
from tests.unit.test_course import Server, checkout, install, open_folder, running  # noqa: F401

ROOT = kernel.ROOT
NOBODY = 65534
EVIL = "http://evil.example"

# --- the network ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """JupyterLab, with one notebook's kernel."""
    with running() as started:
        with_kernel(started)
        yield started


def with_kernel(server: Server) -> None:
    """Have the server start a kernel, and wait for its five ports."""
    assert server.ask("/api/kernels", server.token, data=b"{}")[0] == 201
    deadline = time.monotonic() + 60
    while len(listening(server)) < 1 + 5:
        assert time.monotonic() < deadline, "the kernel listens nowhere"
        time.sleep(0.1)


def listening(server: Server) -> set[tuple[str, int]]:
    """Where the server, and all that it started, takes connections."""
    lab, found = psutil.Process(server.process.pid), set[tuple[str, int]]()
    for process in [lab, *lab.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by now
            for one in process.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM:
                    found.add(tuple(one.laddr))
    return found


def test_all_ports_are_on_127_0_0_1(server: Server) -> None:
    assert {address for address, _ in listening(server)} == {"127.0.0.1"}


def test_no_other_address_of_this_machine_answers(server: Server) -> None:
    others = {
        (address.family, address.address)
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6) and address.address != "127.0.0.1"
    }
    others |= {(socket.AF_INET, "127.0.0.2")}
    for family, address in others:
        for _, port in listening(server):
            with socket.socket(family) as visitor, pytest.raises(OSError, match="refused"):
                (where,) = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM)
                visitor.connect(where[-1])


def test_another_machine_is_refused() -> None:
    """It sits at the other end of a cable, and the course on this one."""
    with (
        sandbox.pair() as net,
        net.server.inside(),
        socket.create_server(("0.0.0.0", 0)) as open_to_all,
        running() as served,
    ):
        with_kernel(served)
        ports = [port for _, port in listening(served)]
        with net.client.inside():
            there = (sandbox.SERVER_IP, open_to_all.getsockname()[1])
            socket.create_connection(there, 5).close()  # there is a way
            for port in ports:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((sandbox.SERVER_IP, port), 5)


def test_the_keys_of_server_and_kernel_are_for_nobody_else(server: Server) -> None:
    folder = Path(jupyter_runtime_dir())
    assert folder.stat().st_mode & 0o077 == 0
    (made,) = folder.glob(f"kernel-{kernel_of(server)}.json")
    told = json.loads(made.read_text())
    assert made.stat().st_mode & 0o077 == 0
    # Others may connect to its ports: what passes there is signed, and encrypted.
    assert told["ip"] == "127.0.0.1" and len(told["key"]) >= 32 and told["curve_publickey"]


def test_the_token_is_in_no_list_of_processes(server: Server) -> None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            assert server.token not in " ".join(process.cmdline()), process


# --- the browser ----------------------------------------------------------------------------


def visit(
    server: Server, path: str, method: str = "GET", **headers: str
) -> http.client.HTTPResponse:
    """What a request gets. Headers are named with _ for -."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    line.request(method, path, headers=names)
    answer = line.getresponse()
    if answer.status != 101:
        answer.read()
    line.close()
    return answer


def logged_in(server: Server) -> dict[str, str]:
    """The headers of a browser in which the course is open, for any page that it shows."""
    answer = visit(server, f"/lab?token={server.token}")
    cookies = [text.partition(";")[0] for text in answer.headers.get_all("Set-Cookie", [])]
    assert any(cookie.startswith("username-") for cookie in cookies)
    return {"Cookie": "; ".join(cookies)}


def kernel_of(server: Server) -> str:
    return json.loads(server.ask("/api/kernels", server.token)[1])[0]["id"]


def channels(server: Server) -> str:
    """The websocket by which a page runs code in the kernel."""
    return f"/api/kernels/{kernel_of(server)}/channels"


WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_a_websocket_opens_for_our_own_page_alone(server: Server) -> None:
    browser, ours = logged_in(server), f"http://127.0.0.1:{server.port}"
    way = channels(server)
    assert visit(server, way, **WEBSOCKET, **browser, Origin=ours).status == 101
    assert visit(server, way, **WEBSOCKET, **browser, Origin=EVIL).status == 403
    assert visit(server, way, **WEBSOCKET, Origin=ours).status == 403  # no token
    assert visit(server, way, **WEBSOCKET, **browser, Origin="null").status == 403


def test_another_page_can_neither_ask_nor_change_anything(server: Server) -> None:
    browser, ours = logged_in(server), f"http://127.0.0.1:{server.port}"
    assert visit(server, "/api/contents", **browser, Origin=ours).status == 200
    assert visit(server, "/api/contents", **browser, Origin=EVIL).status in (403, 404)
    for method in ("POST", "PUT", "DELETE"):
        found = visit(server, "/api/kernels", method, **browser, Origin=EVIL)
        assert found.status in (403, 404, 405), method
    for path in ("/lab", "/api", "/api/contents"):
        answer = visit(server, path, **browser, Origin=EVIL)
        assert answer.headers["Access-Control-Allow-Origin"] is None
        framed = answer.headers["Content-Security-Policy"] or ""
        assert "frame-ancestors 'self'" in framed


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8888", "127.0.0.1.evil.example"])
def test_a_name_that_leads_here_is_no_way_in(server: Server, host: str) -> None:
    """DNS rebinding: a page's own name, looked up anew, suddenly means this machine."""
    assert visit(server, "/api", Host=f"127.0.0.1:{server.port}").status == 200
    for path in ("/api", "/lab", f"/lab?token={server.token}", channels(server)):
        assert visit(server, path, Host=host, **logged_in(server)).status == 403


# --- files ----------------------------------------------------------------------------------


def test_others_may_write_nowhere_whatever_the_umask_is(checkout: Path) -> None:  # noqa: F811
    (checkout / ".venv/.course-stamp").unlink()  # so that it is built
    before = os.umask(0)
    try:
        done = install(checkout)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    made = [*(checkout / ".venv").rglob("*"), *(checkout.parent / "cache").rglob("*")]
    open_to_all = [path for path in made if path.lstat().st_mode & 0o022 and not path.is_symlink()]
    assert len(made) > 100 and not open_to_all


def test_no_name_in_tmp_is_known_before() -> None:
    """No tool of ours goes to /tmp by a fixed name: all works where nobody can write there."""
    script = """
from helpers import build, load, sandbox

for name in ("hash.bpf.c", "hash.bcc.c"):
    with load(name) as prog, sandbox.pair() as net:
        prog.attach("count_packets", net.server)
        net.send([sandbox.tcp()])
        print(len(prog["connections"]))
build("three_doors.c")
"""
    shell = 'mount -t tmpfs -o ro none /tmp && exec "$@"'
    with TemporaryDirectory(prefix="course-", dir="/dev/shm") as elsewhere:
        env = {"TMPDIR": elsewhere, "XDG_CACHE_HOME": elsewhere}
        env["BCC_KERNEL_SOURCE"] = str(kernel.headers_for_bcc())
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", shell, "sh", sys.executable, "-"],
            input=script,
            cwd=ROOT,
            env=os.environ | env,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout) == (0, "1\n1\n"), done.stderr


# A folder /tmp that others see no more than this machine's own files: in bubblewrap, in a guest.
OF_THEIR_OWN = {"answers.py", "vm/inside.py"}


def test_no_file_of_ours_names_a_place_in_tmp() -> None:
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        tree = ast.parse(path.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        words = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in prose
        ]
        if str(path.relative_to(ROOT / "helpers")) not in OF_THEIR_OWN:
            assert not [text for text in words if re.search(r"/tmp\b|/dev/shm", text)], path
        assert "mktemp(" not in path.read_text(), path
    scripts = sorted((ROOT / "helpers").rglob("*.sh"))
    for path in [ROOT / "course", ROOT / "Vagrantfile", *scripts]:
        assert not re.search(r"/tmp\b|mktemp", path.read_text()), path


HOSTILE = ["a link", "another's", "for its group", "for everybody"]


def spoil(path: Path, how: str, elsewhere: Path) -> str:
    """Leave ``path`` as somebody might who means harm, and say what is to be said of it."""
    if how == "a link":
        path.symlink_to(elsewhere)
        return "not yours"
    path.mkdir()
    if how == "another's":
        os.chown(path, NOBODY, NOBODY)
        return "not yours"
    path.chmod(0o770 if how == "for its group" else 0o777)
    return "others may write"


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("part", ["", "objects", "bcc", "vm/kernels", "vm/apt/6.1", "vm/guests"])
def test_a_cache_that_somebody_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, how: str
) -> None:
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(kernel.headers_for_bcc()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    whole = tmp_path / "bpf-maps-measured" / part
    if part:
        whole.parent.mkdir(parents=True, mode=0o700)
    said = spoil(whole, how, elsewhere)
    with pytest.raises(PermissionNeeded, match=f"(?s){whole}, .*{said}.*Remove it, or set XDG"):
        kernel.cache_dir(*filter(None, part.split("/")))
    users: dict[str, Callable[[], object]] = {
        "objects": lambda: load("hash.bpf.c"),
        "bcc": lambda: load("hash.bcc.c"),
        "vm/kernels": lambda: fetch.add("6.1"),
        "vm/apt/6.1": lambda: fetch.add("6.1"),
    }
    if part in users:
        with pytest.raises(PermissionNeeded, match=said):
            users[part]()
    assert not [*elsewhere.iterdir()]


@pytest.mark.parametrize("how", HOSTILE)
def test_install_refuses_such_a_cache(checkout: Path, how: str) -> None:  # noqa: F811
    elsewhere = checkout.parent / "elsewhere"
    elsewhere.mkdir()
    (checkout.parent / "cache").mkdir()
    spoil(checkout.parent / "cache/bpf-maps-measured", how, elsewhere)
    done = install(checkout)
    assert done.returncode == 1 and "what to do: remove it, or set XDG_CACHE_HOME" in done.stderr
    assert not [*elsewhere.iterdir()]


@pytest.mark.parametrize("how", ["a link", "another's"])
def test_pins_stay_out_of_a_folder_that_another_user_made(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a BPF file system anybody may make a folder, or a link to what root is to delete."""
    place = kernel.BPFFS / "bpf_maps_measured_test"
    monkeypatch.setattr(kernel, "OURS", place)
    monkeypatch.setattr(kernel, "PINS", place / "mine")
    precious = tmp_path / "precious"
    precious.touch()
    act = "os.mkdir(sys.argv[1])" if how == "another's" else "os.symlink(sys.argv[2], sys.argv[1])"
    code = f"import os, sys; {act}"
    subprocess.run(["python3", "-c", code, place, tmp_path], user=NOBODY, group=NOBODY, check=True)
    try:
        with load("hash.bpf.c") as prog:
            for use in (prog["connections"].pin, kernel.sweep, kernel.drop_pins):
                with pytest.raises(PermissionNeeded, match=f"{place}, which is not yours"):
                    use()
        assert precious.exists() and os.path.lexists(place)
    finally:
        place.unlink() if how == "a link" else place.rmdir()


# --- what is fetched ------------------------------------------------------------------------


@pytest.mark.parametrize("name", audit.LOCKS)
def test_every_line_of_a_lock_is_hashed(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines.pop(0) == "--only-binary :all:" and len(lines) > 1
    pin = r"[a-z0-9._-]+==\S+( ; [^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+"
    assert not [line for line in lines if not re.fullmatch(pin, line.strip())]


def test_pip_takes_nothing_without_a_hash() -> None:
    script = (ROOT / "course").read_text().replace("\\\n", " ")
    calls = re.findall(r"-m pip install[^\n]*", script)
    assert calls and all("--require-hashes" in call for call in calls)


class Mirror:
    """A Debian archive with one kernel in it, signed with a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.root, self.keys = folder / "debian", folder / "keys.gpg"
        self.gpg = ["gpg", "--homedir", str(folder / "gpg"), "--batch", "--quiet"]
        (folder / "gpg").mkdir(mode=0o700)
        subprocess.run([*self.gpg, "--passphrase", "", "--quick-gen-key", "test"], check=True)
        subprocess.run([*self.gpg, "--output", self.keys, "--export"], check=True)
        self.lists = self.root / "dists/bookworm/main/binary-amd64/Packages"
        self.lists.parent.mkdir(parents=True)
        self.release = self.root / "dists/bookworm/InRelease"
        self.control = dict[Path, str]()
        self.image = self._package(folder, "linux-image-6.1-test")
        self._package(folder, "linux-image-amd64", "Depends: linux-image-6.1-test\n")
        self.list()
        self.sign()

    def _package(self, folder: Path, name: str, more: str = "") -> Path:
        tree = folder / name / "DEBIAN"
        tree.mkdir(parents=True)
        control = f"Package: {name}\nVersion: 1\nArchitecture: amd64\n{more}"
        control += "Maintainer: nobody\nDescription: a test\n"
        (tree / "control").write_text(control)
        made = self.root / f"{name}_1_amd64.deb"
        command = ["dpkg-deb", "--build", tree.parent, made]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.control[made] = control
        return made

    def list(self) -> None:
        """Write the list of packages, with what they hash to now."""
        self.lists.write_text(
            "\n".join(
                f"{control}Filename: {path.name}\nSize: {path.stat().st_size}\n"
                f"SHA256: {_sha256(path)}\n"
                for path, control in self.control.items()
            )
        )

    def text(self) -> str:
        """What a Release says of that list now."""
        return (
            "Suite: bookworm\nCodename: bookworm\nArchitectures: amd64\nComponents: main\n"
            "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
            f" {_sha256(self.lists)} {self.lists.stat().st_size} main/binary-amd64/Packages\n"
        )

    def sign(self) -> None:
        command = [*self.gpg, "--clearsign", "--output", "-"]
        done = subprocess.run(command, input=self.text().encode(), capture_output=True, check=True)
        self.release.write_bytes(done.stdout)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self.gpg[2], "--kill", "all"], check=True)


def _sha256(path: Path) -> str:
    return subprocess.check_output(["sha256sum", path], text=True).split()[0]


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    with TemporaryDirectory(prefix="course-") as name:  # gpg's socket takes no longer path
        made = Mirror(Path(name))
        monkeypatch.setenv("XDG_CACHE_HOME", f"{name}/cache")
        monkeypatch.setattr(fetch, "KEYS", made.keys)
        monkeypatch.setattr(fetch, "mirror", lambda: f"file:{made.root}")
        yield made
        made.close()


def _flip(path: Path) -> None:
    """Another byte in the middle, and the same length."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_the_archive_signed_is_fetched(mirror: Mirror, tmp_path: Path) -> None:
    apt = fetch._Apt("6.1")
    apt.update()
    assert apt.packages() == ["linux-image-6.1-test"]
    apt.download(apt.packages(), tmp_path, lambda share: None)
    (deb,) = tmp_path.glob("*.deb")
    assert deb.read_bytes() == mirror.image.read_bytes()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a package", "apt-get download failed(.|\n)*(Hash Sum mismatch|unexpected size)"),
        ("a package and its list", "apt-get update failed"),
        ("a package, its list and the Release", "apt-get update failed(.|\n)*is not signed"),
        ("the signature taken away", "apt-get update failed(.|\n)*is not signed"),
        ("signed with another key", "apt-get update failed(.|\n)*is not signed"),
    ],
)
def test_what_was_tampered_with_is_refused(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str, said: str
) -> None:
    _flip(mirror.image)
    if what != "a package":
        mirror.list()
    if "Release" in what:
        signed, true = mirror.release.read_text(), mirror.text()
        old = re.search(r"^ [0-9a-f]{64}.*$", signed, re.MULTILINE)
        new = re.search(r"^ [0-9a-f]{64}.*$", true, re.MULTILINE)
        assert old and new and old[0] != new[0]
        mirror.release.write_text(signed.replace(old[0], new[0]))
    elif "taken away" in what:
        mirror.release.unlink()
        mirror.release.with_name("Release").write_text(mirror.text())
    elif "another key" in what:
        mirror.sign()
        monkeypatch.setattr(fetch, "KEYS", Path("/usr/share/keyrings/debian-archive-keyring.gpg"))
    with pytest.raises(BpfError, match=said):
        fetch.add("6.1")
    assert fetch.kernels() == [] and not [*fetch.home().rglob("*.deb")]


# --- shells ---------------------------------------------------------------------------------


def test_nothing_becomes_a_shell_command_by_the_way() -> None:
    for path in [*(ROOT / "helpers").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert not [word for word in node.keywords if word.arg == "shell"], path
                assert ast.unparse(node.func) not in ("os.system", "os.popen"), path


def test_nothing_from_the_network_is_piped_into_a_shell() -> None:
    for path in [ROOT / "course", *(ROOT / "helpers").rglob("*.sh"), ROOT / "Vagrantfile"]:
        assert not re.search(r"\b(curl|wget)\b|\|\s*(sudo\s+)?(ba|da)?sh\b", path.read_text()), path


def test_every_command_that_security_md_names_is_one() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    usage = subprocess.run([ROOT / "course", "--help"], capture_output=True, text=True).stdout
    for command in re.findall(r"\./course ([a-z-]+)", text):
        assert re.search(rf"^  {command}\b", usage, re.MULTILINE), command
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / target).exists(), target
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()
