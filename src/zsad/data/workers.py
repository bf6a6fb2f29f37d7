"""A function over many items in worker processes: results in order, and only so many ahead.

Processes are Python's own pool, never forked from the program, whose threads and locks (torch, tokenizers, CUDA) a fork
would inherit in an unknown state. They import what the function needs, which for reading images is not torch. So, as
always with such processes, a script that asks for workers does its work under ``if __name__ == "__main__":``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

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
        work: A function of a module, or a partial of one; it, the items and the results can be pickled. What it raises
            is raised here.
        items: Taken as they are needed.
        workers: Processes, started when there is work for them and ended with the generator, also when it is closed
            early; 0 works in this process, when a result is asked for, and so does a program from standard input.
        ahead: Results that are computed or waiting, at most; never fewer than there are workers.

    Raises:
        ZsadError: If a process cannot be started, or was ended by something else, such as a lack of memory.

    >>> list(ordered(abs, [-2, 1, -3], workers=0, ahead=2))
    [2, 1, 3]
    """
    if not workers or not _can_start():
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(_start_method()), _follow)
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= max(ahead, workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ZsadError(
            "a worker process could not start or was ended from outside, as a system does that runs out of memory; "
            'use fewer workers, or none (--workers 0), and in a script of your own `if __name__ == "__main__":`'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _can_start() -> bool:
    """Python cannot start workers of a program that it reads from standard input, which they would have to read too."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    return main is None or os.path.exists(main)


def _start_method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _follow() -> None:
    """Begin a worker: Ctrl-C is meant for the program, and with the program, however it ends, the worker ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_program, daemon=True).start()


def _end_with_program() -> None:
    program = multiprocessing.parent_process()
    if program is not None:
        program.join()
        os._exit(1)
