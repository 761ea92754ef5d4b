# SPDX-License-Identifier: MIT
"""Fixtures of the end-to-end tests. Interpreters are chosen by what a test asks for:

    interpreter       each one at hand (scripts/pythons.sh)
    some_interpreter  one of each kind that differs in its probes; each one with LEAKSNOOP_FULL=1
    object_interpreter  each one that tells of objects (3.13 and later)
    python            the system's own, or else the first at hand
    old_interpreter   those that must be refused

LEAKSNOOP_ONLY, a regular expression, keeps those whose label it matches.
"""

import os
import re

import pytest

import harness

SOME = ["plain-3.8", "debian-3.11", "plain-3.12", "debian-3.13", "debian-3.14", "debian-3.15"]


def wanted(kind="supported"):
    only = os.environ.get("LEAKSNOOP_ONLY", "")
    return [i for i in harness.interpreters(kind) if re.search(only, i.label)]


def some(all_of_them):
    if harness.FULL:
        return all_of_them
    return [i for i in all_of_them if i.label in SOME] or all_of_them


def pytest_generate_tests(metafunc):
    choices = {
        "interpreter": lambda: wanted(),
        "some_interpreter": lambda: some(wanted()),
        "object_interpreter": lambda: [i for i in wanted() if i.version >= (3, 13)],
        "old_interpreter": lambda: wanted("unsupported"),
    }
    for name, choose in choices.items():
        if name in metafunc.fixturenames:
            found = choose()
            missing = pytest.param(None, marks=pytest.mark.skip(reason="no such interpreter at hand (scripts/pythons.sh)"))
            metafunc.parametrize(name, found or [missing], ids=[i.label for i in found] or ["none"])


def missing_requirement():
    if os.geteuid() != 0:
        return "root"
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        return "a kernel with BTF (/sys/kernel/btf/vmlinux)"
    if not os.path.exists("/sys/bus/event_source/devices/uprobe"):
        return "a kernel with uprobes"
    return None


@pytest.fixture(scope="session", autouse=True)
def machine():
    """Without root or BPF nothing here can be tested: a failure in CI, a named skip elsewhere."""
    missing = missing_requirement()
    if missing and harness.CI:
        pytest.fail("the end-to-end tests need " + missing)
    if missing:
        pytest.skip("needs " + missing)
    if not harness.BINARY.exists():
        pytest.fail("%s is not built" % harness.BINARY)
    yield
    harness.chroots.close()


@pytest.fixture
def python():
    found = wanted()
    if not found:
        pytest.skip("no interpreter at hand (scripts/pythons.sh)")
    return next((i for i in found if i.label.startswith("debian") and i.root == "/"), found[0])


@pytest.fixture
def leaky(python):
    with harness.Target(python, "leaky_service.py") as target:
        yield target
