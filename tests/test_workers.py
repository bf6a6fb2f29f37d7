"""Work in other processes: in order, bounded, without torch, and never left behind.

The work is `eval`, so that each item says what its worker does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from zsad.data import workers
from zsad.data.workers import default_workers, ordered
from zsad.errors import ZsadError

PID = "__import__('os').getpid()"


def alive(pid: int) -> bool:
    """Whether a process runs; where /proc tells, one that has ended and is not buried yet does not."""
    try:
        os.kill(pid, 0)
        return not Path("/proc").is_dir() or "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def ended(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends in time."""
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    items = ["__import__('time').sleep(0.3) or 0", "1", "2", "__import__('time').sleep(0.1) or 3", "4"]
    assert list(ordered(eval, items, count, ahead=5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("ahead", "bound"), [(5, 5), (1, 2)])
def test_no_more_items_are_taken_than_may_be_ahead(ahead: int, bound: int) -> None:
    taken: list[str] = []

    def items() -> Iterator[str]:
        for _ in range(12):
            taken.append("0")
            yield taken[-1]

    differences = [len(taken) - given for given, _ in enumerate(ordered(eval, items(), 2, ahead))]
    assert max(differences) == bound and len(differences) == 12


def test_more_than_one_process_works() -> None:
    both = "__import__('time').sleep(0.5) or " + PID
    assert len(set(ordered(eval, [both, both], 2, ahead=2)) - {os.getpid()}) == 2


def test_processes_end_when_the_iteration_ends_or_is_closed_early() -> None:
    (whole,) = set(ordered(eval, [PID] * 3, 1, ahead=3))
    stopped = ordered(eval, [PID, *["__import__('time').sleep(0.3)"] * 99], 1, ahead=99)
    early = next(stopped)
    assert alive(early)
    stopped.close()
    assert not alive(whole) and not alive(early)


def test_a_killed_worker_is_told_with_what_to_do() -> None:
    results = ordered(eval, [PID, "__import__('os').kill(__import__('os').getpid(), 9)", *["0"] * 9], 1, ahead=1)
    first = next(results)
    with pytest.raises(ZsadError, match=r"ended from outside.*fewer workers, or none \(--workers 0\)"):
        list(results)
    assert not alive(first)


def test_what_the_work_raises_comes_with_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        list(ordered(eval, ["1", "1 / 0"], 1, ahead=2))
    assert 'File "<string>", line 1' in str(raised.value.__cause__)


def test_ctrl_c_is_left_to_the_program() -> None:
    results = ordered(eval, [PID, "__import__('time').sleep(0.3) or 7"], 1, ahead=2)
    os.kill(next(results), signal.SIGINT)
    assert next(results) == 7


def test_workers_find_the_modules_that_the_program_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("VALUE = 7")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(ordered(eval, ["__import__('only_here').VALUE"], 1, ahead=1)) == [7]


def test_a_reader_needs_no_torch() -> None:
    ask = "__import__('zsad.data.inputs') and 'torch' in __import__('sys').modules"
    assert list(ordered(eval, [ask], 1, ahead=1)) == [False]


SCRIPT = """
import time
from zsad.data.workers import ordered
if __name__ == "__main__":
    results = ordered(eval, ["__import__('os').getpid()"] * 2, 1, 2)
    print(next(results), flush=True)
    time.sleep(60)
"""


def test_workers_end_when_the_program_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join(part for part in sys.path if part)
    command, environment = [sys.executable, str(tmp_path / "script.py")], {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        assert alive(pid)
        program.kill()
    assert ended(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, 9)  # only where the test fails


@pytest.mark.parametrize(
    ("cores", "device", "expected"),
    [(1, "cpu", 0), (2, "cpu", 0), (4, "cpu", 1), (64, "cpu", 4), (1, "cuda", 0), (4, "cuda:1", 3), (64, "mps", 8)],
)
def test_as_many_workers_as_the_network_leaves_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, device: str, expected: int
) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_workers(device) == expected
