"""The audit of the locks says what it finds, and never takes silence for good news."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.faults import audit

KNOWN = {"numpy/2.0": [{"id": "PYSEC-0000-1", "aliases": ["CVE-0000-1"], "fixed_in": ["2.1"]}]}
KNOWN |= {"six/1.0": [{"id": "PYSEC-0000-2", "withdrawn": "2020-01-01T00:00:00Z"}], "tqdm/4": []}


class Service(BaseHTTPRequestHandler):
    """It answers in PyPI's form: docs.pypi.org/api/json, "Known vulnerabilities"."""

    def do_GET(self) -> None:
        known = KNOWN.get(self.path.strip("/").removesuffix("/json"))
        self.send_response(404 if known is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulnerabilities": known}).encode())

    def log_message(self, *_: object) -> None:
        """Not into the tests' output."""


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(audit, "SERVICE", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield
        server.shutdown()
        thread.join()


def test_every_pin_of_the_three_locks_is_asked_for() -> None:
    names = {name for name, _ in audit.pins()}
    assert {"jupyterlab", "ruff", "nbgrader"} <= names and len(names) > 100


def test_a_known_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "pins", lambda: [("numpy", "2.0"), ("six", "1.0"), ("tqdm", "4")])
    with pytest.raises(AssertionError) as caught:
        audit.one(0)
    assert str(caught.value) == "numpy 2.0: PYSEC-0000-1, CVE-0000-1, mended in 2.1"


def test_without_known_faults_it_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "pins", lambda: [("six", "1.0"), ("tqdm", "4")])
    audit.one(0)


def test_a_package_that_nobody_knows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "pins", lambda: [("tqdm", "5")])
    with pytest.raises(AssertionError, match="of tqdm 5 nothing could be learnt: <HTTPError 404"):
        audit.one(0)
