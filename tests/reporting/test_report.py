"""The report: numbers, no external content, and notes on missing parts."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoseg.errors import CytosegError
from cytoseg.predict.sign_off_file import SignedOff, write_signed_off
from cytoseg.reporting import report
from cytoseg.reporting.report import report_page, write_report
from cytoseg.running import marked_running
from tests.evaluation.test_sample_scores import leave_scores

MADE = Path(__file__).parents[1] / "apps" / "made_run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A whole run; each overlay has its own width, so that it can be told from the others."""
    folder = tmp_path / "quickstart"
    shutil.copytree(MADE, folder)
    for crop in json.loads((folder / "evaluation" / "evaluation.json").read_text())["crops"]:
        (folder / "evaluation" / crop["folder"]).mkdir(parents=True)
        Image.new("RGB", (16, 4), (90, 90, 90)).save(folder / "evaluation" / crop["folder"] / "overlay.png")
    for name in ("ddpm/samples.png", "ddpm/loss.png", "labels/contact_sheet.png", "predictions/smear_D/preview.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (90, 90, 90)).save(folder / name)
    return folder


class _Balance(HTMLParser):
    """Collects tags that are opened but not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_numbers_intervals_and_baselines(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    ious, times = (
        "<td>0.81 (0.76-0.85)</td><td>0.96 (0.95-0.96)</td><td>0.84 (0.82-0.85)</td>",
        "4 min 12 s</td><td>31 s",
    )
    assert f"{ious}<td>0.62 (0.55-0.68)</td><td>n/a</td><td>{times}</td></tr>" in text
    forest = "<td>0.78 (0.73-0.82)</td><td>0.96 (0.95-0.96)</td><td>0.82 (0.81-0.83)</td><td>0.55 (0.49-0.60)</td>"
    assert f"<td>Random forest on 72 filters</td>{forest}<td>n/a</td><td>1 min 04 s</td><td>12 s</td></tr>" in text
    assert "<span>IoU debris</span><b>n/a</b>" in text
    assert "trained with 12 annotated crops, was tested on 6 crops of 3 other slides" in text
    assert "77.5 %<small>620</small>" in text
    assert "<td>2026-03-02 09:00</td><td>5 min 31 s</td><td>7</td><td>interrupted</td>" in text
    assert "Versions at the last command: cytoseg 0.1.0, python 3.11.9, torch 2.13.0</p>" in text
    assert "<td>nucleus</td><td>503,316</td><td>4.00 %</td><td>0.1258</td>" in text
    assert "<td>glass tiles</td><td>30</td>" in text
    assert "<td>bundle</td><td>3f2a</td>" in text
    assert 'class="missing"' not in text


def test_an_evaluation_that_ends_meanwhile_is_shown_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, old = run / "evaluation" / "evaluation.json", report._slides
    text, times = path.read_text(), iter(range(9))

    def replaced(_run: Path) -> list[str]:
        if next(times) < most:
            path.with_name("new").write_text(text.replace('"train_crops": 12', '"train_crops": 13'))
            path.with_name("new").replace(path)
        return old(_run)

    monkeypatch.setattr(report, "_slides", replaced)
    most = 1
    assert "trained with 13 annotated crops" in report_page(run)
    most = 9
    with pytest.raises(CytosegError, match=r"quickstart: other commands are replacing its results\. Make"):
        report_page(run)
    times = iter(range(9))
    with (
        marked_running(run, "evaluate", recipe="quickstart", started="2026-01-01"),
        pytest.raises(CytosegError, match=r"replacing its results \(cytoseg evaluate\)\. Make the report when"),
    ):
        report_page(run)


def test_test_crops_corrected_from_a_prediction_are_counted(run: Path) -> None:
    assert "corrected from a prediction" not in report_page(run)
    path = run / "evaluation" / "evaluation.json"
    content = json.loads(path.read_text())
    content["crops"][0]["from_prediction"] = True
    path.write_text(json.dumps(content))
    assert "<p><strong>1 of 6 test crops were corrected from a prediction: " in report_page(run)


def test_the_calibration_error_is_reported_where_it_was_measured(run: Path) -> None:
    assert "<p>Calibration error" not in write_report(run).read_text()
    path = run / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    record["methods"][0]["calibration"] = {"ece": 0.0214, "bins": []}
    path.write_text(json.dumps(record))
    title = record["methods"][0]["title"]
    assert f"<p>Calibration error (ECE) of {title}: 0.021.</p>" in write_report(run).read_text()
    assert "<svg" not in write_report(run).read_text()
    record["methods"][0]["calibration"]["bins"] = [{"pixels": 5, "confidence": 0.75, "right": 0.8}]
    path.write_text(json.dumps(record))
    assert write_report(run).read_text().count("<circle") == 1


def test_what_uncertainty_is_worth_is_reported_where_it_was_scored(run: Path) -> None:
    assert "does it find the errors" not in write_report(run).read_text()
    path = run / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    whole = {"pixels": 1200, "error": 0.05, "aurc": 0.0123, "aurc_best": 0.0012, "found": 0.414}
    none = {"pixels": 0, "error": None, "aurc": None, "aurc_best": None, "found": None}
    scores = {"measure": "probability", "whole": whole, "classes": [whole, none, none, none], "curve": [0.05] * 20}
    record["methods"][0]["uncertainty"] = [scores]
    path.write_text(json.dumps(record))
    text = write_report(run).read_text()
    assert (
        "<p>By stated probability: the 5 % least certain pixels hold 41 % of the errors; AURC 0.0123 (best 0.0012, "
        "by chance 0.0500).</p>" in text
    )
    assert text.count("<polyline") == 1
    assert "<td>background</td><td>1,200</td><td>0.0500</td><td>n/a</td><td>0.0123</td><td>0.41</td>" in text
    assert "<td>debris</td><td>0</td><td>n/a</td><td>n/a</td><td>n/a</td><td>n/a</td>" in text


def test_scores_by_stain_are_reported_where_stains_are_named(run: Path) -> None:
    assert "by stain</h3>" not in write_report(run).read_text()
    path = run / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    method = record["methods"][0]
    pooled = {key: method[key] for key in ("classes", "miou", "miou_low", "miou_high")}
    method["stains"] = [{"stain": "Pap & co", "slides": 2, **pooled}]
    path.write_text(json.dumps(record))
    text = write_report(run).read_text()
    assert "by stain</h3>" in text
    assert "<td>Pap &amp; co</td><td>2</td><td>0.81 (0.76-0.85)</td>" in text


def test_objects_are_reported_where_they_were_matched(run: Path) -> None:
    assert "<h3>Objects of" not in write_report(run).read_text()
    path = run / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    shares = {"precision": 0.9, "recall": 0.75, "f1": 0.82, "aji": None, "pq": 0.7, "sq": 0.86, "rq": 0.82}
    record["methods"][0]["objects"] = {"nucleus": {"truth": 1200, "predicted": 1000, "matched": 900, **shares}}
    path.write_text(json.dumps(record))
    text = write_report(run).read_text()
    assert "<h3>Objects of" in text
    row = re.sub(r"<[^>]*>", " ", text[text.index("with the connected areas") :]).split()
    start = row.index("nucleus")
    assert row[start : start + 9] == ["nucleus", "1,200", "1,000", "900", "0.90", "0.75", "0.82", "n/a", "0.70"]


def test_the_page_stands_alone_and_is_well_formed(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 10
    assert all(source.startswith("data:image/") for source in sources)
    assert "http" not in text
    balance = _Balance()
    balance.feed(text)
    assert balance.open == []


def test_worst_and_best_crops_stand_in_order(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    shown = re.findall(r"<figcaption>(smear_\w+) \(slide", text)
    assert shown == [
        "smear_A_0_512",
        "smear_A_256_512",
        "smear_A_512_512",
        "smear_C_1280_512",
        "smear_B_1024_512",
        "smear_B_768_512",
    ]


def test_no_crop_is_shown_twice(run: Path) -> None:
    path = run / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    record["crops"] = record["crops"][:4]
    path.write_text(json.dumps(record))
    assert write_report(run).read_text().count("<figcaption>smear_") == 4


def test_names_from_outside_are_escaped(run: Path) -> None:
    path = run / "evaluation" / "evaluation.json"
    path.write_text(path.read_text().replace("cytoplasm", "<script>alert(1)</script>").replace("smear_A", "A&<b>"))
    (run / "evaluation" / "crops").rename(run / "evaluation" / "gone")
    text = write_report(run).read_text(encoding="utf-8")
    assert "<script" not in text
    assert '<b>"' not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "A&amp;&lt;b&gt;" in text


def test_missing_parts_name_the_command_that_makes_them(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    text = write_report(tmp_path).read_text(encoding="utf-8")
    for command in (
        "cytoseg evaluate RECIPE",
        "cytoseg predict RECIPE SLIDE",
        "cytoseg label-import SRC --recipe RECIPE",
        "cytoseg train-ddpm RECIPE",
    ):
        assert f"<code>{command}</code>" in text
    assert "<img" not in text


def test_samples_that_are_noise_give_way_to_denoised_crops(run: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run / "ddpm" / "samples.png")
    text = write_report(run).read_text(encoding="utf-8")
    assert "Samples" not in text
    assert "Noisy crops and their denoised versions; the original crop is at the end of each row." in text
    assert text.count("<img") == 9
    Image.new("RGB", (8, 8), (90, 90, 90)).save(run / "ddpm" / "denoised.png")
    text = write_report(run).read_text(encoding="utf-8")
    assert "<figcaption>Noisy crops" in text
    assert text.count("<img") == 10


def test_a_damaged_picture_is_named_and_the_rest_is_shown(run: Path) -> None:
    (run / "ddpm" / "samples.png").write_text("no image")
    text = write_report(run).read_text(encoding="utf-8")
    assert "ddpm/samples.png cannot be read as an image" in text
    assert text.count("<img") == 9


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CytosegError, match=r"no run here.*cytoseg train-ddpm"):
        write_report(tmp_path)


def test_an_older_report_survives_a_full_disk(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "report.html").write_text("older")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(OSError, match="No space left"):
        write_report(run)
    assert (run / "report.html").read_text() == "older"
    assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.posix
@pytest.mark.parametrize("linked", ["ddpm/loss.png", "ddpm"])
def test_a_picture_to_which_a_link_leads_out_is_not_shown(run: Path, tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    (run / linked).rename(outside)
    (run / linked).symlink_to(outside)
    page = report_page(run)
    assert "Training loss: a link points outside the run and is not shown." in page


@pytest.mark.posix
def test_a_prediction_to_which_a_link_leads_out_is_not_shown(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "summary.json").write_text('{"slide": "secret"}')
    (run / "predictions").mkdir(exist_ok=True)
    (run / "predictions" / "linked").symlink_to(outside)
    page = report_page(run)
    assert "A link points outside the run and is not shown." in page
    assert "secret" not in page


def test_scores_of_the_samples_stand_in_the_report(run: Path) -> None:
    assert "in numbers" not in report_page(run)
    leave_scores(run)
    text = report_page(run)
    assert "<h3>64 samples in numbers</h3>" in text
    assert "<td>KID</td><td>1.250 +- 0.500</td><td>0.010 +- 0.020</td>" in text


@pytest.mark.posix
def test_sign_offs_stand_beside_their_slides(run: Path, tmp_path: Path) -> None:
    folder = run / "predictions" / "smear_D"
    assert "This prediction has not been signed off." in report_page(run)
    said = SignedOff("smear_D", "needs labels", "Ben", "2026-11-29T10:00:00+00:00", "few", "ab" * 32)
    write_signed_off(folder, said)
    assert "Signed off: needs labels by Ben, 2026-11-29" in report_page(run)
    summary = json.loads((folder / "summary.json").read_text())
    summary["provenance"] = {**summary.get("provenance", {}), "bundle": {"sha256": {"a": "1"}}}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert "; predicted with another bundle since." in report_page(run)
    shutil.move(folder / "sign_off.json", tmp_path / "elsewhere.json")
    (folder / "sign_off.json").symlink_to(tmp_path / "elsewhere.json")
    assert "The sign-off is a link that points outside the run" in report_page(run)
