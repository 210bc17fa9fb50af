from cytoseg.caches import memory_cache


def test_what_was_not_used_for_longest_makes_room() -> None:
    cache = memory_cache(10, len)
    cache["a"], cache["b"] = "xxxx", "yyyy"
    assert cache["a"] == "xxxx"  # used again
    cache["c"] = "zzzz"
    assert list(cache) == ["a", "c"]


def test_the_newest_stays_however_large_it_is() -> None:
    cache = memory_cache(10, len)
    cache["a"], cache["b"] = "xxxx", "y" * 1000
    assert dict(cache) == {"b": "y" * 1000}
    cache["c"] = "z"
    assert dict(cache) == {"c": "z"}
