"""./course as a person meets it: the words it says, what it installs, the server it starts."""

import fcntl
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from helpers import cli, kernel, load
from helpers.errors import BpfError
from helpers.vm import commands, fetch, kernelspec
from tests.plugin import WITH_US
from tests.vm.conftest import until

ROOT = Path(__file__).parents[2]
BCC = Path("/usr/lib/python3/dist-packages/bcc")


def course(*args: str, root: Path = ROOT, cwd: Path = ROOT, wrap: tuple[str, ...] = (), **env: str):
    return subprocess.run(
        [*wrap, root / "course", *args],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
        timeout=120,
    )


# --- what it says ---------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["-h"], ["--help"], ["lab", "-h"], ["test", "--help"]])
def test_help_names_every_command(args: list[str]) -> None:
    done = course(*args)
    assert done.returncode == 0
    _, _, choices = (ROOT / "course").read_text().partition("\n\tcase $command in\n")
    commands = " | ".join(re.findall(r"^\t([a-z |-]+)\)", choices, re.MULTILINE)).split(" | ")
    assert {"install", "bench", "kernels"} < {*commands}
    for command in commands:
        assert re.search(rf"^  {command}\b", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("wrong", [BpfError("Too bad."), KeyboardInterrupt()])
@pytest.mark.parametrize("command", ["test", "bench", "doctor"])
def test_what_goes_wrong_is_said_in_words(
    command: str,
    wrong: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> None:
        raise wrong

    monkeypatch.setattr(cli, command, fail)
    monkeypatch.setattr(sys, "argv", ["course", command])
    stopped = isinstance(wrong, KeyboardInterrupt)
    assert cli.main() == (130 if stopped else 1)
    assert capsys.readouterr().err == ("stopped\n" if stopped else "Too bad.\n")


def test_no_command_shows_the_usage_as_an_error() -> None:
    done = course()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ./course")


def test_unknown_command_is_named() -> None:
    done = course("fly")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("course: unknown command: fly\nusage: ./course")


def test_install_takes_no_arguments() -> None:
    done = course("install", "everything")
    assert (done.returncode, done.stderr) == (1, "course: install takes no arguments\n")


# --- install --------------------------------------------------------------------------------


def test_second_install_is_fast_and_needs_no_network() -> None:
    course("install")
    started = time.monotonic()
    done = course("install", wrap=("unshare", "--net"))
    assert time.monotonic() - started < 2
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all is there: ./course lab opens the first notebook\n"


def test_one_installation_waits_for_another() -> None:
    with (kernel.cache_dir() / "install.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = [ROOT / "course", "install"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        assert process.stdout.readline() == "another ./course is installing: waiting for it\n"
        assert process.poll() is None
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (
        0,
        "all is there: ./course lab opens the first notebook\n",
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter, as pytest's own are not."""
    with TemporaryDirectory(prefix="course-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


@pytest.fixture
def checkout(open_folder: Path) -> Path:
    """A small checkout: ./course, locks that ask for nothing, and a .venv with its stamps."""
    root = open_folder / "checkout"
    site = root / ".venv/lib/python3.0/site-packages"
    site.mkdir(parents=True)
    (site / "bcc").symlink_to(BCC)
    (site / "bpf_maps_measured-1.dist-info").mkdir()
    (root / ".venv/share/jupyter/labextensions/bpf-maps-measured").mkdir(parents=True)
    (root / ".venv/bin").mkdir()
    python = Path("/usr/bin/python3").resolve()
    (root / ".venv/bin/python").symlink_to(python)
    shutil.copy(ROOT / "course", root)
    (root / "tests").mkdir()
    for name in ("requirements", "tests/tools", "tests/nbgrader"):
        (root / f"{name}.lock").write_text("# nothing\n")
    lock = sha256((root / "requirements.lock").read_bytes()).hexdigest()
    stamp = f"{root} {python}\n{lock}\n"
    (root / ".venv/.course-stamp").write_text(stamp)
    (root / ".venv/.course-tools").write_text(sha256(f"{stamp}# nothing\n".encode()).hexdigest())
    return root


def tools(folder: Path, *, without: tuple[str, ...] = ()) -> str:
    """A PATH with all that this machine has, but for some."""
    folder.mkdir()
    for name in os.listdir("/usr/bin"):
        if name not in without:
            (folder / name).symlink_to(f"/usr/bin/{name}")
    return str(folder)


def echo(path: Path) -> None:
    """Make it a program that prints its arguments, a line each."""
    path.unlink(missing_ok=True)
    path.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)


def install(checkout: Path, command: str = "install", **env: str):
    cache = checkout.parent / "cache"
    return course(
        command, root=checkout, wrap=("unshare", "--net"), XDG_CACHE_HOME=str(cache), **env
    )


def test_what_is_there_is_left_alone(checkout: Path) -> None:
    assert "venv:" not in install(checkout).stdout
    assert (checkout / ".venv/lib/python3.0").exists()


@pytest.mark.parametrize("trouble", ["interrupted", "moved", "no python"])
def test_a_broken_venv_is_built_anew(checkout: Path, trouble: str) -> None:
    if trouble == "interrupted":
        (checkout / ".venv/.course-stamp").unlink()
    elif trouble == "moved":
        checkout = checkout.rename(checkout.with_name("elsewhere"))
    else:
        (checkout / ".venv/bin/python").unlink()
    done = install(checkout)
    assert done.returncode == 0, done.stderr
    assert not (checkout / ".venv/lib/python3.0").exists()
    code = "import bcc, sys; assert bcc.BPF; print(*sys.path)"
    ran = subprocess.run(
        [checkout / ".venv/bin/python", "-c", code], cwd="/", text=True, capture_output=True
    )
    assert str(checkout) in ran.stdout.split(), ran.stderr
    assert "venv:" not in install(checkout).stdout


def test_a_changed_lock_updates_the_venv(checkout: Path) -> None:
    (checkout / ".venv/.course-stamp").unlink()
    install(checkout)
    keep = checkout / ".venv/keep"
    keep.touch()
    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("# a change\n")
    assert "requirements.lock" in install(checkout).stdout
    assert keep.exists()


def test_what_only_tests_need_is_installed_for_tests_alone(checkout: Path) -> None:
    (checkout / ".venv/.course-stamp").unlink()
    (checkout / ".venv/.course-tools").unlink()
    assert "tests/tools.lock" not in install(checkout).stdout
    assert "Python packages from tests/tools.lock" in install(checkout, "test").stdout
    assert "tests/tools.lock" not in install(checkout, "test").stdout
    (checkout / "requirements.lock").write_text("# newer\n")
    said = install(checkout, "test").stdout
    assert said.index("requirements.lock") < said.index("tests/tools.lock")


def test_a_lock_that_cannot_be_met_says_what_to_do_and_is_tried_again(checkout: Path) -> None:
    digest = "0" * 64
    (checkout / "requirements.lock").write_text(f"six==1.17.0 --hash=sha256:{digest}\n")
    (checkout / ".venv/.course-stamp").unlink()
    done = install(checkout, PIP_NO_INDEX="1", PIP_CONFIG_FILE="/dev/null", PIP_FIND_LINKS="")
    assert done.returncode == 1
    assert "course: failed: venv: Python packages from requirements.lock\n" in done.stderr
    assert "what to do: the lines above say why" in done.stderr
    log = re.search(r"the whole log: (.*)", done.stderr)
    assert log and "six" in Path(log[1]).read_text()
    assert not (checkout / ".venv/.course-stamp").exists()


def test_another_projects_bcc_is_replaced(checkout: Path) -> None:
    link = checkout / ".venv/lib/python3.0/site-packages/bcc"
    link.unlink()
    link.mkdir()
    (link / "__init__.py").touch()
    install(checkout)
    assert link.samefile(BCC)


def test_headers_are_linked_for_a_kernel_that_has_none(checkout: Path) -> None:
    headers = checkout.parent / "cache/bpf-maps-measured/headers"
    half = headers / "new"
    half.mkdir(parents=True)  # as an interrupted run leaves it
    assert install(checkout).returncode == 0
    if Path(f"/lib/modules/{platform.release()}/build/include").is_dir():
        assert not (headers / "current").exists()
        return
    assert (headers / "current/include/linux/kconfig.h").read_text()
    assert (headers / "current/include/generated/autoconf.h").read_text()
    assert not half.exists()


def test_the_cache_is_private(checkout: Path) -> None:
    install(checkout)
    assert (checkout.parent / "cache/bpf-maps-measured").stat().st_mode & 0o777 == 0o700


def test_without_apt_the_packages_are_named(checkout: Path) -> None:
    path = tools(checkout.parent / "bin", without=("apt-get",))
    done = install(checkout, PATH=path)
    assert done.returncode == 1
    assert "without apt-get" in done.stderr
    assert "python3-bpfcc" in done.stderr


# --- root -----------------------------------------------------------------------------------

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.mark.parametrize("command", ["test", "clean", "check-labs"])
def test_without_sudo_the_need_for_root_is_explained(checkout: Path, command: str) -> None:
    path = tools(checkout.parent / "bin", without=("sudo",))
    env = {"PATH": path, "HOME": str(checkout.parent), "XDG_CACHE_HOME": ""}
    done = course(command, root=checkout, wrap=NOBODY, **env)
    assert done.returncode == 1
    assert "root is needed to load BPF programs" in done.stderr
    assert "run ./course as root" in done.stderr


def test_without_root_and_sudo_notebooks_are_served_for_guests(checkout: Path) -> None:
    path = tools(checkout.parent / "bin", without=("sudo",))
    echo(checkout / ".venv/bin/python")
    env = {"PATH": path, "HOME": str(checkout.parent), "XDG_CACHE_HOME": ""}
    done = course("lab", "--no-browser", root=checkout, wrap=NOBODY, **env)
    assert done.stderr.startswith('course: no root, and no sudo: choose a kernel "Python on Linux"')
    assert done.stdout.splitlines()[-2:] == ["lab", "--no-browser"]


def with_sudo(checkout: Path, *line: str, wrap: tuple[str, ...] = ()):
    """The command as a person runs it whose sudo only prints what it was asked for."""
    bin = checkout.parent / "bin"
    path = tools(bin, without=("sudo",))
    echo(bin / "sudo")
    env = {"PATH": path, "HOME": str(checkout.parent), "XDG_CACHE_HOME": ""}
    return course(*line, root=checkout, wrap=(*wrap, *NOBODY), **env)


LOADS = "to load BPF programs and to make network namespaces"
KEEPS = "to keep kernels where JupyterLab, which root runs, looks for them"
OUTSIDE = pytest.mark.skipif(
    Path("/etc/bpf-maps-measured").exists(), reason="not in the Vagrant VM: see below"
)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("lab --port 8899", LOADS),
        ("test --soak --help", LOADS),
        pytest.param("kernels", KEEPS, marks=OUTSIDE),
        pytest.param("kernels add 6.1", KEEPS, marks=OUTSIDE),
        pytest.param("kernels remove 6.1", KEEPS, marks=OUTSIDE),
        pytest.param("kernels run 6.1 df -h", KEEPS, marks=OUTSIDE),
    ],
)
def test_sudo_is_told_for_what_and_runs_the_same_command(
    checkout: Path, line: str, why: str
) -> None:
    done = with_sudo(checkout, *line.split())
    assert done.stderr == f"course: sudo: {why}\n"
    wanted = ["-H", "--preserve-env=JUPYTER_TOKEN", f"{checkout}/course", *line.split()]
    assert done.stdout.splitlines()[-len(wanted) :] == wanted


def test_without_sudo_kernels_are_ones_own(checkout: Path) -> None:
    path = tools(checkout.parent / "bin", without=("sudo",))
    echo(checkout / ".venv/bin/python")
    env = {"PATH": path, "HOME": str(checkout.parent), "XDG_CACHE_HOME": ""}
    done = course("kernels", "add", "6.1", root=checkout, wrap=NOBODY, **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-3:] == ["kernels", "add", "6.1"]


def test_in_the_vagrant_vm_kernels_are_those_of_whom_jupyterlab_runs_as(checkout: Path) -> None:
    echo(checkout / ".venv/bin/python")
    vm = 'mount -t tmpfs none /etc && mkdir /etc/bpf-maps-measured && exec "$@"'
    done = with_sudo(checkout, "kernels", wrap=("unshare", "--mount", "sh", "-c", vm, "sh"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1:] == ["kernels"]


# --- test -----------------------------------------------------------------------------------


def test_paths_are_those_of_the_folder_one_is_in() -> None:
    done = course("test", "--collect-only", "-q", "test_lint.py", cwd=ROOT / "tests/unit")
    assert done.returncode == 0, done.stderr
    *names, last = [line for line in done.stdout.splitlines() if "::" in line]
    assert last == "tests/plugin.py::nothing_is_left_in_the_kernel"
    assert names and all(name.startswith("tests/unit/test_lint.py::") for name in names)


def test_the_exit_status_is_pytests() -> None:
    assert course("test", "--collect-only", "-q", "test_lint.py::no_such").returncode == 4


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of pytest on this kernel ("here") and in a guest, none of which is run."""
    lines = list[list[str]]()

    def main(line: list[str], plugins: object = None) -> int:
        lines.append(["here", *line])
        return 0

    def run(name: str, line: list[str], env: object) -> int:
        lines.append([name, *line])
        return 0

    monkeypatch.setattr(pytest, "main", main)
    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(fetch, "get", lambda name: None)
    monkeypatch.setattr(kernelspec, "offer", lambda: None)
    monkeypatch.delenv("BPF_COURSE_TALLY", raising=False)
    monkeypatch.chdir(ROOT)
    return lines


@pytest.mark.parametrize("word", ["course", "labs"])
@pytest.mark.parametrize("option", ["-k", "-m"])
def test_a_word_for_pytest_is_no_path_even_where_a_file_has_its_name(
    ran: list[list[str]], option: str, word: str
) -> None:
    cli.test([option, word, "-x"])
    cli.test([option, word, "notebooks"])
    assert ran == [
        ["here", "-n", "2", "--dist", "loadscope", option, word, "-x"],
        ["here", option, word, f"{ROOT}/notebooks"],
    ]


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("", "here"),
        ("notebooks", "here"),
        ("labs/02_connection_table", "here"),
        ("notebooks/00_start_here.ipynb::Cell 1", "here"),
        ("tests/unit", "6.1"),
        ("tests/unit/test_course.py::test_x", "6.1"),
        ("labs/02_connection_table/lab.py", "6.1"),
        (".", "6.1"),
    ],
)
def test_notebooks_get_guests_and_all_else_goes_into_one(
    ran: list[list[str]], path: str, where: str
) -> None:
    cli.test(["--kernel", "6.1", *([path] if path else [])])
    [[place, *line]] = ran
    assert (place, line[-1]) == (where, str(ROOT / (path or "notebooks")))


def test_a_folder_above_with_py_in_its_name_means_nothing(
    ran: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".pyenv/notebooks").mkdir(parents=True)
    monkeypatch.setattr(cli, "ROOT", tmp_path / ".pyenv")
    monkeypatch.chdir(cli.ROOT)
    cli.test(["--kernel", "6.1", "notebooks"])
    assert ran[0][0] == "here"


# --- bench ----------------------------------------------------------------------------------


def test_bench_leaves_guests_out_where_there_are_none(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    done = course("bench", "--only", "guest", "--out", out, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "left out: There is no kernel '6.1' here." in done.stderr
    assert json.loads((tmp_path / "out/bench.json").read_text())["rows"] == []


# --- doctor and clean -----------------------------------------------------------------------


def test_doctor_speaks_json_and_its_exit_status_is_the_verdict() -> None:
    done = course("doctor", "--json")
    assert json.loads(done.stdout)["ok"] is (done.returncode == 0)


def test_clean_removes_compiled_objects_and_says_so(tmp_path: Path) -> None:
    objects = tmp_path / "bpf-maps-measured/objects"
    objects.mkdir(parents=True)
    pin = kernel.PINS / "test_clean"
    with load("pinning.bpf.c") as prog:
        prog["totals"].pin(pin.name)
        try:
            would = course("clean", "--all", "--dry-run", XDG_CACHE_HOME=str(tmp_path))
            assert f"would remove {pin}\n" in would.stdout
            assert f"would remove {objects}\n" in would.stdout and objects.exists()
            done = course("clean", XDG_CACHE_HOME=str(tmp_path))
            assert done.returncode == 0, done.stderr
            assert f"removed {objects}\n" in done.stdout and not objects.exists()
            pid = pin.parent.name.partition("_")[0]
            assert f"kept {pin.parent}: process {pid} is at work with it; --all" in done.stdout
        finally:
            prog["totals"].unpin(pin.name)


# --- lab ------------------------------------------------------------------------------------


@dataclass
class Server:
    process: subprocess.Popen[str]
    said: str
    port: int
    token: str
    mark: str

    def ask(self, path: str, token: str = "", host: str = "127.0.0.1", data: bytes | None = None):
        """The status and body of an answer; redirects (to the login page) are not followed."""
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(f"http://{host}:{self.port}{path}", data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
        try:
            with opener.open(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    def processes(self) -> list[str]:
        """The command lines of all that descends from the server: they inherit its mark."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@contextmanager
def running(*args: str, **env: str) -> Iterator[Server]:
    mark = str(uuid.uuid4())
    process = subprocess.Popen(
        [*WITH_US, ROOT / "course", "lab", "--no-browser", *args],
        env={**os.environ, "COURSE_TEST": mark, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = process.stdout.readline()
        if said.startswith("another ./course is installing"):  # that of a test of guests
            said = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:(\d+)/\S+\?token=(\S+)", said)
        assert url, said
        yield Server(process, said, int(url[1]), url[2], mark)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


def test_the_line_that_is_printed_leads_to_the_first_notebook(server: Server) -> None:
    assert f"127.0.0.1:{server.port}/lab/tree/notebooks/00_start_here.ipynb?token=" in server.said


def test_only_127_0_0_1_is_listened_on(server: Server) -> None:
    assert server.ask("/api", server.token)[0] == 200
    with pytest.raises(urllib.error.URLError, match="refused"):
        server.ask("/api", server.token, host="127.0.0.2")  # local as well, and not ours


def test_nothing_without_the_token(server: Server) -> None:
    for path in ("/api/contents", "/api/kernels", "/lab", "/lab/tree/notebooks"):
        assert server.ask(path)[0] in (302, 403)
        assert server.ask(path, "guess")[0] in (302, 403)
    assert server.ask("/api/contents", server.token)[0] == 200


def test_nothing_is_fetched_from_elsewhere(server: Server) -> None:
    status, page = server.ask("/lab", server.token)
    assert status == 200 and "<script" in page
    assert not re.search(r"(src|href)=\W?(https?:)?//", page)
    name = "@jupyterlab/apputils-extension:notification"
    answer = json.loads(server.ask(f"/lab/api/settings/{name}", server.token)[1])
    properties = answer["schema"]["properties"]
    assert properties["fetchNews"]["default"] == "false"
    assert properties["checkForUpdates"]["default"] is False
    assert json.loads(server.ask("/lab/api/news", server.token)[1]) == {"news": []}
    assert json.loads(server.ask("/lab/api/update", server.token)[1]) == {"notification": None}


def test_tokens_are_fresh_unless_given() -> None:
    with running(JUPYTER_TOKEN="") as first, running(JUPYTER_TOKEN="given") as second:
        assert len(first.token) >= 32
        assert second.token == "given"
        assert first.port != second.port


def test_a_server_that_runs_sees_kernels_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(name: str, _: object) -> fetch.Kernel:
        folder = kernel.cache_dir("vm", "kernels", name)
        (folder / "release").write_text("6.1.0-1-amd64\n")
        kernel.cache_dir("vm", "apt", name)
        return fetch.get(name)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PATH", "")
    monkeypatch.setattr(fetch, "add", fetched)
    course("install")
    with running() as server:

        def offered() -> str:
            specs = json.loads(server.ask("/api/kernelspecs", server.token)[1])["kernelspecs"]
            return specs["linux-6.1"]["spec"]["display_name"] if "linux-6.1" in specs else ""

        assert offered() == ""
        commands.add(["6.1"])
        assert offered() == "Python on Linux 6.1"
        commands.remove(["6.1"])
        assert offered() == ""
    assert [*(fetch.home() / "apt").iterdir()] == []


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = course("lab", "--no-browser", "--port", port)
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used: Address already in use." in done.stderr
    assert "--port" in done.stderr.splitlines()[-1]


def test_without_a_port_the_next_free_one_is_taken(server: Server) -> None:
    with running() as second:
        assert second.port > server.port >= 8888


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_its_kernels(how: signal.Signals) -> None:
    with running() as server:
        assert server.ask("/api/kernels", server.token, data=b"{}")[0] == 201
        assert len(server.processes()) >= 2
        server.process.send_signal(how)
        server.process.wait(20)
        assert server.processes() == []


def test_a_killed_run_of_the_tests_takes_its_server_along(server: Server, tmp_path: Path) -> None:
    mark = str(uuid.uuid4())
    code = f"""
import os
from tests.unit.test_course import running
with running(COURSE_TEST="{mark}"):
    os.kill(os.getpid(), 9)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert run.returncode == -signal.SIGKILL
    until(lambda: not replace(server, mark=mark).processes(), 20)
