"""How long a person waits for `import zsad` and `zsad --help`: whole processes, in turn with an empty Python.

python benchmarks/startup.py --runs 9
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import zsad'": [sys.executable, "-c", "import zsad"],
    "zsad --help": [sys.executable, "-m", "zsad.cli", "--help"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print minimum, median and maximum of each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    for command in COMMANDS.values():
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    print(f"{'':26} {'min':>7} {'median':>7} {'max':>7}  seconds, {runs} runs")
    for name, found in times.items():
        print(f"{name:26} {min(found):7.3f} {statistics.median(found):7.3f} {max(found):7.3f}")


if __name__ == "__main__":
    main()
