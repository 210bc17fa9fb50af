"""The HTML report of a run in one self-contained file."""

import contextlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

from cytoseg.drawing.pictures import data_uri, is_noise_file
from cytoseg.duration_text import duration_text
from cytoseg.errors import CytosegError
from cytoseg.evaluation.results_file import read_evaluation
from cytoseg.evaluation.run_folder import (
    SUMMARY_HEAD,
    Summary,
    is_run,
    predictions,
    read_provenance,
    read_summary,
    time_text,
)
from cytoseg.evaluation.sample_scores import HEAD as SCORES_HEAD
from cytoseg.evaluation.sample_scores import read_sample_scores
from cytoseg.metrics.results import (
    MEASURES,
    CropScores,
    Evaluation,
    MethodScores,
    corrected_text,
    ensemble_of,
    risk_table,
    row_shares,
    score_rows,
    share_text,
    worst_first,
)
from cytoseg.predict.sign_off_file import SIGN_OFF, bundle_of, is_outdated, read_signed_off
from cytoseg.quoting import printable
from cytoseg.reporting import markup
from cytoseg.reporting.diagram import calibration_diagram, risk_diagram
from cytoseg.reporting.glossary import GLOSSARY
from cytoseg.running import running_in
from cytoseg.runs import CommandRecord, Provenance
from cytoseg.writing import write_atomically

_TRIES = 3
SHOWN_CROPS = 3
"""Number of worst and of best test crops shown."""

SAMPLES_CAPTION = (
    "Samples drawn from the diffusion model. The more they resemble your slides, the better the model has learned them."
)
DENOISED_CAPTION = "Noisy crops and their denoised versions; the original crop is at the end of each row."
PREVIEW_CAPTION = "The slide, its predicted classes and its uncertainty"


def write_report(run_folder: Path) -> Path:
    """Write report.html from a run folder; missing parts are listed with the command that makes them.

    Args:
        run_folder: The run folder.

    Returns:
        The path of the report. An older report is replaced only when the new one is complete.

    Raises:
        CytosegError: If the folder is not a run, or if its evaluation.json, run.json or a summary.json is damaged.
    """
    if not is_run(run_folder) and not (run_folder / "evaluation").is_dir():
        raise CytosegError(f"{run_folder}: no run here. Start one with `cytoseg train-ddpm RECIPE`.")
    target = run_folder / "report.html"
    write_atomically(target, report_page(run_folder))
    return target


def report_page(run_folder: Path) -> str:
    """Make the report of a run as one self-contained HTML page; see ``write_report``.

    If another command replaces results meanwhile, it begins again: numbers and images could be of different ones.

    Raises:
        CytosegError: If the evaluation.json, run.json or a summary.json is damaged, or results are replaced each time.
    """
    for _ in range(_TRIES):
        before = _versions(run_folder)
        page = _page(run_folder)
        if _versions(run_folder) == before:
            return page
    names = ", ".join(sorted({f"cytoseg {printable(entry.command)}" for entry in running_in(run_folder)}))
    raise CytosegError(
        f"{run_folder}: other commands are replacing its results{f' ({names})' if names else ''}. Make the report when "
        "they have ended."
    )


def _versions(run: Path) -> list[tuple[str, int, int]]:
    """Return inode and modification time of each file that belongs to images beside it."""
    results = [run / "evaluation" / "evaluation.json", *run.glob("predictions/*/summary.json")]
    found = []
    for path in sorted(results):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((str(path), status.st_ino, status.st_mtime_ns))
    return found


def _page(run_folder: Path) -> str:
    evaluation, provenance = read_evaluation(run_folder), read_provenance(run_folder)
    body = [
        *_headline(run_folder, evaluation, provenance),
        *_scores(evaluation),
        *_confusion(evaluation),
        *_crops(run_folder, evaluation),
        *_slides(run_folder),
        *_training(run_folder),
        *_provenance(provenance),
        *_glossary(),
        "<footer>Made by cytoseg, for research. Not a medical device.</footer>",
    ]
    return markup.page(f"Segmentation report: {run_folder.resolve().name}", body)


def _headline(run: Path, evaluation: Evaluation | None, provenance: Provenance | None) -> list[str]:
    recipe = evaluation.recipe if evaluation else provenance.recipe if provenance else ""
    best = ensemble_of(evaluation) if evaluation else None
    made = f"Segmentation report, recipe {recipe or 'unknown'}"
    if evaluation is None or best is None:
        sentence = "This run has not been evaluated yet, so there are no scores."
        return [*_title(run, f"{made}."), markup.missing(sentence, "cytoseg evaluate RECIPE")]
    body = _title(run, f"{made}, evaluated {time_text(evaluation.created)}.")
    body.append(
        f"<p>{escape(best.title)}, trained with {evaluation.train_crops} annotated crops, was tested on "
        f"{evaluation.test_crops} crops of {evaluation.test_slides} other slides.</p>"
    )
    if told := corrected_text(evaluation.corrected, evaluation.test_crops):
        body.append(f"<p><strong>{escape(told)}</strong></p>")
    body.append(markup.numbers([("Mean IoU", best.miou), *((f"IoU {s.name}", s.iou) for s in best.classes)]))
    return body


def _title(run: Path, line: str) -> list[str]:
    return [f"<h1>{escape(run.resolve().name)}</h1>", f'<p class="soft">{escape(line)}</p>']


def _scores(evaluation: Evaluation | None) -> list[str]:
    best = ensemble_of(evaluation) if evaluation else None
    if evaluation is None or best is None:
        return []
    rows = [
        [*row, duration_text(method.train_s), duration_text(method.predict_s)]
        for row, method in zip(score_rows(evaluation), evaluation.methods, strict=True)
    ]
    details = [
        [
            scores.name,
            share_text(scores.iou.value),
            *map(share_text, (scores.dice, scores.precision, scores.recall)),
            f"{scores.pixels:,}",
        ]
        for scores in best.classes
    ]
    slides = [
        [slide.slide, str(slide.crops), share_text(slide.miou), *map(share_text, slide.iou)] for slide in best.slides
    ]
    names = list(evaluation.class_names)
    head = ["Method", "Mean IoU", *names, "Training", "Prediction"]
    return [
        "<h2>Scores alongside the baselines</h2>",
        "<p>IoU per class: 1 is perfect, 0 is no overlap; in brackets the 95 % interval over test slides.</p>",
        markup.table(head, rows, main_row=evaluation.methods.index(best)),
        *_calibration(best),
        *_uncertainty(best, names),
        f"<h3>{escape(best.title)} in detail</h3>",
        markup.table(["Class", "IoU", "Dice", "Precision", "Recall", "True pixels"], details),
        *_objects(best),
        f"<h3>{escape(best.title)} by slide</h3>",
        markup.table(["Slide", "Crops", "Mean IoU", *names], slides),
        *_stains(best, names),
    ]


def _calibration(method: MethodScores) -> list[str]:
    if method.calibration is None or method.ece is None:
        return []
    body = [f"<p>Calibration error (ECE) of {escape(method.title)}: {method.ece:.3f}.</p>"]
    if drawn := calibration_diagram(method.calibration.bins):
        caption = "Larger points represent more pixels. On the dashed line the model is perfectly calibrated."
        body.append(f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>")
    return body


def _uncertainty(method: MethodScores, names: Sequence[str]) -> list[str]:
    if not method.uncertainty:
        return []
    title = escape(method.title)
    body = [f"<h3>Uncertainty of {title}: does it find the errors?</h3>"]
    body += [f"<p>By {MEASURES[scores.measure]}: {scores.whole.text()}.</p>" for scores in method.uncertainty]
    if drawn := risk_diagram(method.uncertainty):
        caption = (
            "At 100 % all pixels are kept. A line that falls quickly to the left means that the "
            "uncertainty finds the errors."
        )
        body.append(f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>")
    return [*body, markup.table(*risk_table(method, names))]


def _stains(method: MethodScores, names: Sequence[str]) -> list[str]:
    if not method.stains:
        return []
    rows = [
        [s.stain, str(s.slides), s.miou.text(), *(scores.iou.text() for scores in s.classes)] for s in method.stains
    ]
    title = f"<h3>{escape(method.title)} by stain</h3>"
    return [title, markup.table(["Stain", "Slides", "Mean IoU", *names], rows)]


def _objects(method: MethodScores) -> list[str]:
    if not method.objects:
        return []
    rows = [
        [
            name,
            *(f"{count:,}" for count in (scores.truth, scores.predicted, scores.matched)),
            *map(share_text, (scores.precision, scores.recall, scores.f1, scores.aji, scores.pq)),
        ]
        for name, scores in method.objects.items()
    ]
    head = ["Class", "True", "Predicted", "Matched", "Precision", "Recall", "F1", "AJI", "PQ"]
    return [
        f"<h3>Objects of {escape(method.title)}</h3>",
        "<p>Matched at an IoU of 0.5 with the connected areas of the truth.</p>",
        markup.table(head, rows),
    ]


def _confusion(evaluation: Evaluation | None) -> list[str]:
    best = ensemble_of(evaluation) if evaluation else None
    if evaluation is None or best is None:
        return []
    return [
        "<h2>Confusion matrix</h2>",
        "<p>Each row follows the pixels of one true class: the share, and below it the number, that went to each "
        "predicted class.</p>",
        markup.confusion_table(evaluation.class_names, best.confusion, row_shares(best.confusion)),
    ]


def _crops(run: Path, evaluation: Evaluation | None) -> list[str]:
    if evaluation is None or not evaluation.crops:
        return []
    ordered = worst_first([crop for crop in evaluation.crops if crop.miou is not None])
    worst = ordered[:SHOWN_CROPS]
    best = ordered[len(worst) :][-SHOWN_CROPS:][::-1]
    body = [
        "<h2>Test crops</h2>",
        "<p>From left to right: image, ground truth, prediction, disagreement of the ensemble.</p>",
    ]
    for title, crops in (("Lowest mean IoU", worst), ("Highest mean IoU", best)):
        if crops:
            body.append(f"<h3>{title}</h3>")
            body.extend(_crop(run, crop, evaluation.class_names) for crop in crops)
    return body


def _crop(run: Path, crop: CropScores, names: Sequence[str]) -> str:
    parts = ", ".join(f"{name} {share_text(value)}" for name, value in zip(names, crop.iou, strict=True))
    marked = "; truth corrected from a prediction" if crop.from_prediction else ""
    caption = f"{crop.crop} (slide {crop.slide}): mean IoU {share_text(crop.miou)}; {parts}{marked}"
    path = run / "evaluation" / crop.folder / "overlay.png"
    return _picture(run, path, caption, command="evaluate RECIPE", strip=True)


def _slides(run: Path) -> list[str]:
    body = ["<h2>Predicted slides</h2>"]
    folders = predictions(run)
    if not folders:
        return [*body, markup.missing("No slide has been predicted yet.", "cytoseg predict RECIPE SLIDE")]
    for folder in folders:
        body.append(f"<h3>{escape(folder.name)}</h3>")
        if not (folder / "summary.json").resolve().is_relative_to(run.resolve()):
            body.append(markup.missing("A link points outside the run and is not shown."))
            continue
        body.append(_signed_off(run, folder))
        body.append(_picture(run, folder / "preview.png", PREVIEW_CAPTION, command="predict RECIPE SLIDE"))
        body.extend(_summary(read_summary(folder)))
    return body


def _signed_off(run: Path, folder: Path) -> str:
    if not (folder / SIGN_OFF).resolve().is_relative_to(run.resolve()):
        return markup.missing("The sign-off is a link that points outside the run and is not shown.")
    said = read_signed_off(folder)
    if said is None:
        return '<p class="soft">This prediction has not been signed off.</p>'
    what = f"Signed off: {said.verdict} by {said.author}, {time_text(said.time)}"
    comment = f" ({said.comment})" if said.comment else ""
    bundle = f"; bundle {said.bundle}" if said.bundle else ""
    again = "; predicted with another bundle since" if is_outdated(said.bundle, bundle_of(folder)) else ""
    return f"<p>{escape(what + comment + bundle + again)}.</p>"


def _summary(summary: Summary | None) -> list[str]:
    if summary is None:
        return []
    body = [markup.table(SUMMARY_HEAD, summary.classes)] if summary.classes else []
    body.append(markup.table(["Summary", ""], summary.facts))
    if summary.provenance:
        body.append(markup.folded("Made with", markup.table(["What", ""], summary.provenance)))
    return body


def _training(run: Path) -> list[str]:
    loss = "Training loss: it should fall and then level off."
    return [
        "<h2>How it was trained</h2>",
        "<h3>Annotated crops</h3>",
        _picture(run, run / "labels/contact_sheet.png", "Annotated crops", command="label-import SRC --recipe RECIPE"),
        "<h3>The diffusion model</h3>",
        markup.pair(
            _model(run),
            _picture(run, run / "ddpm/loss.png", loss, command="train-ddpm RECIPE"),
        ),
        *_sample_scores(run),
    ]


def _sample_scores(run: Path) -> list[str]:
    scores = read_sample_scores(run)
    if scores is None:
        return []
    sentence = f"<p>{escape(scores.sentence())}</p>"
    return [f"<h3>{scores.count} samples in numbers</h3>", sentence, markup.table(SCORES_HEAD, scores.rows())]


def _model(run: Path) -> str:
    """Show the model's samples or, as long as they are noise, its denoised crops."""
    samples = run / "ddpm/samples.png"
    # Files outside the run are not opened here either, see `_picture`.
    if samples.resolve().is_relative_to(run.resolve()) and is_noise_file(samples):
        return _picture(run, run / "ddpm/denoised.png", DENOISED_CAPTION, command="train-ddpm RECIPE")
    return _picture(run, samples, SAMPLES_CAPTION, command="train-ddpm RECIPE")


def _provenance(provenance: Provenance | None) -> list[str]:
    body = ["<h2>Provenance</h2>"]
    if provenance is None or not provenance.commands:
        return [*body, markup.missing("No command has been recorded in this run.", "cytoseg train-ddpm RECIPE")]
    rows = [_command(entry) for entry in provenance.commands]
    versions: dict[str, str] = {}
    for entry in provenance.commands:
        versions.update(entry.versions)
    body.append(markup.table(["Command", "Started", "Took", "Seed", "Outcome"], rows))
    if versions:
        text = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        body.append(f'<p class="soft">Versions at the last command: {escape(text)}</p>')
    return body


def _command(entry: CommandRecord) -> list[str]:
    seed = "-" if entry.seed is None else str(entry.seed)
    return [entry.command, time_text(entry.started), duration_text(entry.seconds), seed, entry.outcome_text]


def _glossary() -> list[str]:
    entries = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in GLOSSARY.items())
    return ["<h2>Glossary</h2>", f"<dl>{entries}</dl>"]


def _picture(run: Path, path: Path, caption: str, *, command: str, strip: bool = False) -> str:
    if not path.is_file():
        return markup.missing(f"{caption.split(':')[0]}: there is no image yet.", f"cytoseg {command}")
    if not path.resolve().is_relative_to(run.resolve()):  # the report must not include files from outside the run
        return markup.missing(f"{caption.split(':')[0]}: a link points outside the run and is not shown.")
    kind = "png" if path.name == "loss.png" else "jpeg"
    try:
        return markup.figure(data_uri(path, max_px=1400, kind=kind), caption, strip=strip)
    except CytosegError as error:
        return markup.missing(str(error))
