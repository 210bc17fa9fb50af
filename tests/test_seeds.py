import torch

from cytoseg.seeds import generator_for, seed_for


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_for(0, 0, what="crop") == 3421858462
    assert seed_for(1, 7, what="noise") == 31922039


def test_seeds_differ_by_seed_index_and_purpose() -> None:
    seeds = {seed_for(s, i, what=w) for s in range(10) for i in range(100) for w in ("crop", "noise")}
    assert len(seeds) == 2000
    assert all(0 <= s < 2**32 for s in seeds)


def test_generators_repeat_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first = torch.rand(3, generator=generator_for(5, 2, what="sample"))
    torch.testing.assert_close(torch.rand(3, generator=generator_for(5, 2, what="sample")), first)
    assert not torch.equal(torch.rand(3, generator=generator_for(5, 3, what="sample")), first)
    assert torch.equal(torch.get_rng_state(), before)
