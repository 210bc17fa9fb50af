"""Least recently used caches with a memory limit."""

from collections.abc import Callable
from typing import Any, TypeVar

from cachetools import LRUCache

Value = TypeVar("Value")


def memory_cache(max_bytes: int, size_bytes: Callable[[Value], int]) -> LRUCache[Any, Value]:
    """Create a cache that drops the values not used for longest.

    Args:
        max_bytes: Limit for all values; the newest stays even if it alone takes more.
        size_bytes: Measures a value when it is stored.
    """
    return LRUCache(max_bytes, getsizeof=lambda value: min(max_bytes, size_bytes(value)))
