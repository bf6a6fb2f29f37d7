"""Check every golden file of a folder: python -m tests.parity DIR [--method NAME]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from tests.parity.checks import CHECKS, quantities
from tests.parity.golden import TOLERANCES, Golden, Quantity


def main(arguments: list[str] | None = None) -> int:
    """One line per quantity with its largest difference; 1 if one is past its tolerance or nothing was compared."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with <name>.npz and <name>.json files")
    parser.add_argument("--method", help="only the files of this method; crane means crane and crane_dattn")
    chosen = parser.parse_args(arguments)
    torch.manual_seed(0)
    found = sorted(path.stem for path in chosen.folder.glob("*.npz"))
    wanted = [name for name in found if not chosen.method or f"{name}_".startswith(f"{chosen.method}_")]
    unchecked = [name for name in wanted if name not in CHECKS]
    if (chosen.method and unchecked) or not set(wanted) - set(unchecked):
        known = ", ".join(name for name in found if name in CHECKS) or "none"
        sys.stderr.write(f"nothing to check in {chosen.folder}; golden files that zsad has a check for: {known}\n")
        return 1
    if unchecked:
        sys.stdout.write(f"no check yet: {', '.join(unchecked)}\n")
    passed = [_checked(chosen.folder, name) for name in wanted if name in CHECKS]
    return 0 if all(passed) else 1


def _checked(folder: Path, name: str) -> bool:
    """One file; what is wrong with it never keeps the others from being checked."""
    try:
        golden = Golden.read(folder, name)
        return _report(golden, list(quantities(golden)))
    except Exception as error:  # whatever an odd file causes
        sys.stdout.write(f"FAIL {name}: cannot be checked, {type(error).__name__}: {error}\n")
        return False


def _report(golden: Golden, rows: list[Quantity]) -> bool:
    for row in rows:
        verdict = "ok  " if row.holds else "FAIL"
        line = f"{verdict} {row.rule:8} {row.difference:9.2e} (<= {TOLERANCES[row.rule]:.0e})  {golden.name} {row.name}"
        sys.stdout.write(line + "\n")
    wrong = sum(not row.holds for row in rows)
    left = len(golden.arrays.keys() - golden.compared)
    sys.stdout.write(
        f"     {golden.name}: {len(rows)} quantities, {wrong} past tolerance, {left} arrays not compared\n"
    )
    return bool(rows) and not wrong


if __name__ == "__main__":
    sys.exit(main())
