import pickle
from pathlib import Path

from cytoseg.slides.reader import Reader


class Counting(Reader):
    def __init__(self, path: Path) -> None:
        self.path, self.closed = path, 0

    def close(self) -> None:
        self.closed += 1


def test_a_block_closes_what_it_opened_even_when_it_fails() -> None:
    reader = Counting(Path("a.tif"))
    try:
        with reader as inside:
            assert inside is reader
            raise KeyError
    except KeyError:
        assert reader.closed == 1


def test_it_is_reopened_from_its_path_on_the_other_side() -> None:
    reader = Counting(Path("a.tif"))
    reader.close()
    other = pickle.loads(pickle.dumps(reader))
    assert (other.path, other.closed) == (Path("a.tif"), 0)
