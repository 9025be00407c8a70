"""Is a fault known of any package in the locks? PyPI is asked, as pip-audit asks it.

    .venv/bin/python -m tests.faults.audit

Each is mended by a newer version in the lock, or answered in SECURITY.md under its id. It needs the
network, so it is part of ./course test --soak and not of ./course test.
"""

import json
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from helpers.kernel import ROOT
from tests.faults import Part

SERVICE = "https://pypi.org/pypi"
LOCKS = ("requirements.lock", "tests/tools.lock", "tests/nbgrader.lock")


def pins() -> list[tuple[str, str]]:
    """Every package of the locks, with its version."""
    text = "\n".join((ROOT / name).read_text() for name in LOCKS)
    return sorted({*re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)})


def advisories(pin: tuple[str, str]) -> list[dict[str, Any]]:
    """What is known of one; a service that cannot tell is no good news."""
    name, version = pin
    try:
        with urllib.request.urlopen(f"{SERVICE}/{name}/{version}/json", timeout=30) as answer:
            known = json.load(answer)["vulnerabilities"]
    except (urllib.error.URLError, ValueError, KeyError) as error:
        raise AssertionError(f"of {name} {version} nothing could be learnt: {error!r}") from error
    return [one for one in known if not one.get("withdrawn")]


def one(_: int) -> None:
    answered = (ROOT / "SECURITY.md").read_text()
    packages, found = pins(), list[str]()
    with ThreadPoolExecutor(4) as pool:
        for (name, version), known in zip(packages, pool.map(advisories, packages), strict=True):
            for each in known:
                ids = [each["id"], *each.get("aliases", [])]
                if not any(identity in answered for identity in ids):
                    mended = ", ".join(each.get("fixed_in", [])) or "no version yet"
                    found.append(f"{name} {version}: {', '.join(ids)}, mended in {mended}")
    assert not found, "\n".join(found)


PART = Part(one, rounds=1, short=0, unit="a question to PyPI about each package of the locks")

if __name__ == "__main__":
    one(0)
    print(f"{len(pins())} packages: no fault is known that SECURITY.md does not answer")
