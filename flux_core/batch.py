"""Runs a function over many indexes on a bounded number of threads. It must not know what the function does."""

from __future__ import annotations

from flux_core.errors import CallerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def run_batch(
    one: Callable[[int], T], total: int, concurrency: int, on_progress: Callable[[int, int], object]
) -> list[T]:
    """`[one(0), ..., one(total - 1)]`, up to `concurrency` at a time; with 1, in order on the caller's thread."""
    if type(concurrency) is not int or concurrency < 1:
        message = f"concurrency must be a whole number from 1 on; got {concurrency!r}"
        raise CallerError(message)
    if concurrency == 1 or total <= 1:
        results = []
        for index in range(total):
            results.append(one(index))
            on_progress(index + 1, total)
        return results
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(min(concurrency, total), thread_name_prefix="flux-batch") as pool:
        futures = [pool.submit(one, index) for index in range(total)]
        try:
            for done, _ in enumerate(as_completed(futures), 1):
                on_progress(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C ends what has begun, and begins nothing more
            raise
        return [future.result() for future in futures]
