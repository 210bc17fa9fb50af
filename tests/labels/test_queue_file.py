import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.geometry import Region
from cytoseg.labels import queue_file
from cytoseg.labels.queue_file import (
    BEGUN,
    QUEUED,
    SKIPPED,
    Queue,
    QueueItem,
    Round,
    Scored,
    read_queue,
    update_queue,
)

ITEM = QueueItem("smear", Region(1, 2, 3, 4), QUEUED, "smear_1_2", "why – “so”", 0.25, (0.5, 1.0))
SCORED = Scored("2026-01-01", 30, 0.7, {"cell": 0.8, "debris": None})
QUEUE = Queue((ITEM, replace(ITEM, state=SKIPPED, crop="")), (Round("2026-01-02", 2, SCORED), Round("later", 1, None)))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert read_queue(tmp_path / "queue") == Queue()
    assert update_queue(tmp_path / "queue", lambda queue: QUEUE) == QUEUE
    assert read_queue(tmp_path / "queue") == QUEUE


def test_two_who_add_at_once_both_stand_in_it(tmp_path: Path) -> None:
    def add(number: int) -> None:
        item = replace(ITEM, crop=str(number))
        update_queue(tmp_path, lambda queue: replace(queue, items=(*queue.items, item)))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(item.crop) for item in read_queue(tmp_path).items) == list(range(12))


def test_who_changes_it_for_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_file, "_WAIT_S", 0.05)

    def change(queue: Queue) -> Queue:
        with pytest.raises(LabelError, match=r"queue.json: .+ \(process \d+ on .+\) is writing it. Wait"):
            update_queue(tmp_path, lambda other: other)
        return queue

    assert update_queue(tmp_path, change) == Queue()
    assert [path.name for path in tmp_path.iterdir()] == ["queue.json"]


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"format": 9}, "format 9, this version reads 1"),
        ({"items": [{"slide": "a"}]}, "item 1 has no usable 'region'"),
        ({"items": 3}, "the file has no usable 'items'"),
        ({"rounds": [{"when": "now", "regions": "many", "before": None}]}, "round 1 has no usable 'regions'"),
    ],
)
def test_a_damaged_file_says_what_to_do(tmp_path: Path, values: dict[str, object], problem: str) -> None:
    update_queue(tmp_path / "queue", lambda queue: QUEUE)
    _change(tmp_path / "queue" / "queue.json", **values)
    with pytest.raises(LabelError, match=rf"^queue/queue\.json: is damaged \(.*{problem}.*Delete it: crops next"):
        read_queue(tmp_path / "queue")
    with pytest.raises(LabelError, match="is damaged"):
        update_queue(tmp_path / "queue", lambda queue: queue)


def test_an_unknown_state_is_refused(tmp_path: Path) -> None:
    update_queue(tmp_path, lambda queue: QUEUE)
    path = tmp_path / "queue.json"
    path.write_text(path.read_text().replace('"skipped"', '"lost"'))
    with pytest.raises(LabelError, match="state 'lost', not queued or skipped"):
        read_queue(tmp_path)


@pytest.mark.parametrize("crop", ["", "../labels/smear", "a\\u0000b"])
def test_a_begun_region_names_a_crop_of_its_own_folder(tmp_path: Path, crop: str) -> None:
    update_queue(tmp_path, lambda queue: Queue((replace(ITEM, state=BEGUN),)))
    path = tmp_path / "queue.json"
    path.write_text(path.read_text().replace('"smear_1_2"', f'"{crop}"'))
    with pytest.raises(LabelError, match=r"crop '.*', not a file's name"):
        read_queue(tmp_path)


def test_a_file_cut_short_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "queue.json").write_text('{"format": 1')
    with pytest.raises(LabelError, match=r"queue\.json: is cut off or damaged .* skipped ones will be proposed again"):
        read_queue(tmp_path)
