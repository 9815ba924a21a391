"""A function of each of many items, computed by many processes: results in order, in bounded memory."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.process
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ..records import Interrupted

MOST_WORKERS = 8  # more would only wait for the one process that writes
GROUP = 16  # items that travel together
AHEAD = 3  # groups for each worker that are begun before the first of them is taken
Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_WORKERS)


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`function` of each item, in order; one worker, or a single group of items, needs no process beside this one.

    `function`, items and results are pickled. Memory: AHEAD groups of results for each worker. Interrupted where the
    system kills a worker, as it does when memory runs out.
    """
    left = iter(items)
    groups = iter(lambda: list(itertools.islice(left, GROUP)), [])
    first = list(itertools.islice(groups, 2))
    if workers == 1 or len(first) < 2:
        for group in itertools.chain(first, groups):
            yield from map(function, group)
        return
    pool = _pool(workers)
    try:
        waiting: deque[Future[list[Result]]] = deque()
        for group in itertools.chain(first, groups):
            waiting.append(pool.submit(_each, function, group))
            if len(waiting) == AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise Interrupted("a process that reads files was killed; is the memory full? Try --workers 1") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Forked from a server that has imported this package and has no threads, so each worker costs little memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__.rpartition(".")[0] + ".ntu"])
    return ProcessPoolExecutor(workers, context, _begin)


def _each(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _begin() -> None:
    """Ctrl-C is the parent's to handle; without a parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
