"""A report made while people judge crops and sign slides off: it is whole, and nothing that they say is lost."""

import shutil
import threading
from itertools import count
from pathlib import Path

import pytest

from cytoseg.predict.sign_off_file import SignedOff, read_signed_off, write_signed_off
from cytoseg.reporting.report import write_report
from cytoseg.review.append_only import log_of
from cytoseg.review.review_log import Judgement, add_entry, read_entries
from cytoseg.review.slide_approvals import SignOff, read_sign_offs, sign_off

MADE = Path(__file__).parents[1] / "apps" / "made_run"


@pytest.mark.posix
def test_judgements_written_meanwhile_are_kept_and_the_report_is_whole(tmp_path: Path) -> None:
    run, ended, done = tmp_path / "quickstart", threading.Event(), []
    shutil.copytree(MADE, run)
    folder, log = run / "predictions" / "smear_D", log_of(run, None)

    def judge() -> None:
        for number in count(1):
            add_entry(log, Judgement("Ben", "quickstart", f"crop {number}", "smear_A", "accepted"))
            sign_off(log, SignOff("Ben", "quickstart", "smear_D", "approved", str(number)))
            write_signed_off(folder, SignedOff("smear_D", "approved", "Ben", f"2026-11-29T10:00:{number}", str(number)))
            done.append(number)
            if ended.is_set():
                return

    person = threading.Thread(target=judge)
    person.start()
    try:
        pages = [write_report(run).read_text() for _ in range(8)]
    finally:
        ended.set()
        person.join()
    assert all(page.endswith("</html>\n") and "IoU nucleus" in page for page in pages)
    assert "Signed off: approved by Ben" in write_report(run).read_text()
    assert [entry.crop for entry in read_entries(log)] == [f"crop {number}" for number in done]
    assert [entry.comment for entry in read_sign_offs(log)] == [str(number) for number in done]
    said = read_signed_off(folder)
    assert said is not None
    assert said.comment == str(done[-1])
