"""Work in threads, handed out in order, ahead of whoever takes it by no more than memory allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["in_chunks", "in_order"]

Item = TypeVar("Item")
Done = TypeVar("Done")
Rows = TypeVar("Rows", bound=Any)  # what has a length and can be cut


def in_chunks(items: Rows, size: int) -> list[Rows]:
    """The items of a sequence or an array in their order, `size` at a time; the last chunk may be smaller.

    Example:
        >>> in_chunks("abcde", 2)
        ['ab', 'cd', 'e']
    """
    return [items[start : start + size] for start in range(0, len(items), size)]


def in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Done],
    items: Iterable[tuple[Item, int]],
    *,
    most: int,
    most_bytes: int,
    drain: bool = False,
) -> Iterator[tuple[Done, int]]:
    """What `work` makes of items, in their order, each with the bytes that came with the item.

    At most `most` items and `most_bytes` are under way, but always one. With `drain`, all of them are handed out
    whenever `most` are under way, before another item is asked for.
    """
    ahead: deque[tuple[Future[Done], int]] = deque()

    def first() -> tuple[Done, int]:
        future, size = ahead.popleft()
        return future.result(), size

    for item, size in items:
        while ahead and size + sum(held for _, held in ahead) > most_bytes:
            yield first()
        ahead.append((pool.submit(work, item), size))
        if len(ahead) == most:
            yield first()
            while drain and ahead:
                yield first()
    while ahead:
        yield first()
