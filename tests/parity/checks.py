"""Which module lays a method's numbers against a golden file; each has `quantities(golden)`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from tests.parity.golden import Golden, Quantity

#: name of the golden file -> module
CHECKS = {
    "anomalyclip": "tests.parity.check_anomalyclip",
    "crane": "tests.parity.check_crane",
    "crane_dattn": "tests.parity.check_crane",
    "visualad": "tests.parity.check_visualad",
    "vip2clip": "tests.parity.check_vip2clip",
    "winclip": "tests.parity.check_winclip",
    "aprilgan": "tests.parity.check_aprilgan",
    "clipad": "tests.parity.check_clipad",
    "anovl": "tests.parity.check_anovl",
    "adaclip": "tests.parity.check_adaclip",
    "faprompt": "tests.parity.check_faprompt",
    "aaclip": "tests.parity.check_aaclip",
}


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Every comparison that the arrays of a golden file allow."""
    yield from import_module(CHECKS[golden.name]).quantities(golden)
