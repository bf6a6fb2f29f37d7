"""A function over many items in processes of their own: results in order, and only so many ahead.

A worker is a new Python that imports what the function needs and nothing else. Ready-made ways cost more or can hang:

- A forked process inherits threads and locks of torch, tokenizers and CUDA in an unknown state.
- `multiprocessing` in its safe forms runs the program's main script again in every worker, with what it does outside
  of `if __name__ == "__main__"`; torch's `DataLoader` also imports torch there. Numbers: benchmarks/README.md.
- Results go through one pipe per worker, not through shared memory, of which containers have 64 MB; and a worker that
  is killed in the middle of a result closes its pipe, so nobody waits for the rest.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from queue import LifoQueue
from typing import Any, Generic, TypeVar

from zsad.errors import ZsadError

T = TypeVar("T")
R = TypeVar("R")


def default_workers(device: str) -> int:
    """How many processes should read while a network computes on a device, as torch names it.

    On a CPU none up to two cores, then one for four cores, at most four: the network keeps the cores busy, and takes
    longer over an image than reading it. Beside an accelerator one for every core but the program's own, at most eight.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.startswith("cpu"):
        return 0 if cores <= 2 else min(4, -(-cores // 4))
    return min(8, cores - 1)


def ordered(work: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Generator[R, None, None]:
    """The result of each item, in their order.

    Args:
        work: A function of a module, or a partial of one; it, the items and the results can be pickled.
        items: Taken as they are needed.
        workers: Processes, started when there is work for them and ended with the generator, also when it is closed
            early; 0 works in this process, when a result is asked for.
        ahead: Results that are computed or waiting, at most; never fewer than there are workers.

    Raises:
        ZsadError: If a process cannot be started, or was ended by something else, such as a lack of memory.
        RuntimeError: If `work` raises in a worker, with the traceback from there.

    >>> list(ordered(abs, [-2, 1, -3], workers=0, ahead=2))
    [2, 1, 3]
    """
    if not workers:
        yield from map(work, items)
        return
    with closing(_Pool(work, workers)) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(item))
            if len(waiting) >= max(ahead, workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Pool(Generic[T, R]):
    """Processes, and as many threads that each wait for one of them."""

    def __init__(self, work: Callable[[T], R], count: int) -> None:
        self._work = work
        self._threads = ThreadPoolExecutor(count)
        self._started: list[subprocess.Popen[bytes]] = []
        self._idle: LifoQueue[subprocess.Popen[bytes] | None] = LifoQueue()  # None: not started yet, so taken last
        for _ in range(count):
            self._idle.put(None)

    def submit(self, item: T) -> Future[R]:
        """The result of an item, some time."""
        return self._threads.submit(self._ask, item)

    def close(self) -> None:
        """End threads and processes; what they are working on is given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._started):
            process.kill()
        self._threads.shutdown()
        for process in self._started:
            process.kill()  # one that was started meanwhile
            process.communicate()  # closes both pipes and waits for the end

    def _ask(self, item: T) -> R:
        process = self._idle.get()
        try:
            if process is None:
                process = self._start()
                _send(process.stdin, self._work)
            _send(process.stdin, item)
            result, trace = _received(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise _lost(process, error) from error
        finally:
            self._idle.put(process)
        if trace:
            raise RuntimeError(f"in a worker process:\n{trace}")
        return result  # type: ignore[no-any-return]

    def _start(self) -> subprocess.Popen[bytes]:
        begin = f"import sys; sys.path[:] = {sys.path!r}; from zsad.data.workers import serve; serve()"
        process = subprocess.Popen([sys.executable, "-c", begin], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._started.append(process)
        return process


def serve() -> None:
    """What a worker does: it takes the function, then items, until the pipe ends. See :func:`ordered`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the program, which ends its workers
    given, back = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not get among the results
    with suppress(EOFError, BrokenPipeError):  # the program has ended
        work = _received(given)
        while True:
            _send(back, _answer(work, _received(given)))
    os._exit(0)  # without a last attempt to empty a broken pipe


def _answer(work: Callable[[Any], Any], item: Any) -> tuple[Any, str]:
    """A result, or the traceback of what `work` raised."""
    try:
        return work(item), ""
    except Exception:
        return None, traceback.format_exc()


def _send(pipe: Any, value: Any) -> None:
    pickle.dump(value, pipe, protocol=5)
    pipe.flush()


def _received(pipe: Any) -> Any:
    return pickle.load(pipe)


def _lost(process: subprocess.Popen[bytes] | None, error: Exception) -> ZsadError:
    """What to tell when a worker does not answer."""
    if process is None:
        return ZsadError(f"a worker process cannot be started ({error}); use fewer workers, or --workers 0")
    code = process.wait()
    if code < 0:
        return ZsadError(
            f"a worker process was ended from outside (signal {-code}), as a system does that runs out of memory; "
            "use fewer workers, or --workers 0"
        )
    return ZsadError(f"a worker process ended by itself (exit code {code}), see its own message; use --workers 0")
