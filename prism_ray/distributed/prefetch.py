"""The next item of an iteration, made while this one is used."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """The same items in the same order; one more than was asked for is made meanwhile, in a thread.

    An error of the iteration comes out where its item would. A caller that stops early closes the generator.
    """
    end = object()
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            coming = thread.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = thread.submit(next, items, end)
                yield item  # type: ignore[misc]
    finally:
        items.close()
