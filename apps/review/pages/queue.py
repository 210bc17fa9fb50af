"""Annotate next: regions that the ensemble contradicts itself on, to accept into the queue or to pass over."""

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path

import state
import streamlit as st

from cytoseg.commands.queue_rules import read_rules
from cytoseg.commands.queue_slides import FOLDER, QueuePlace
from cytoseg.commands.queueing import Ranking, accept, gains, rank, shown, skip
from cytoseg.errors import CytosegError
from cytoseg.labels.index import INDEX
from cytoseg.labels.queue_file import QUEUE, QUEUED, read_queue
from cytoseg.metrics.run_folder import predictions
from cytoseg.predict.queue_picture import Shown
from cytoseg.predict.spread import Chosen

LISTED = 40
PER_PAGE = 5
PANEL_WIDTHS = [1, 1, 1, 1.3]
HELP = (
    "The members of the ensemble vote on every pixel. Where they contradict each other, a few minutes of your time "
    "teach them most. Disagreement is in nats: 0 where all agree, 0.69 where they are split over two classes."
)


def _place(run: Path) -> QueuePlace:
    rules = read_rules(run)
    labels = run / "labels" if rules.labels is None else state.base_folder() / rules.labels
    return QueuePlace(rules, run, labels, run / FOLDER)


def _stamps(place: QueuePlace) -> tuple[int, ...]:
    """Change when anything does that decides the ranking."""
    parent = place.run / "predictions"
    files = [*sorted(parent.glob("*/summary.json")), parent, place.run / "recipe.yaml"]
    files += [place.queue / QUEUE, place.queue, place.labels / INDEX]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)


@st.cache_data(show_spinner=False, max_entries=8)
def _ranking(run: Path, stamps: tuple[int, ...], _place: QueuePlace) -> Ranking:
    bar = st.progress(0.0, "Looking through the predicted slides")
    try:
        return rank(_place, LISTED, on_part=lambda name, done, total: bar.progress(done / total, state.plain(name)))
    finally:
        bar.empty()


@st.cache_data(show_spinner=False, max_entries=256)
def _picture(run: Path, summary_ns: int, _chosen: Chosen, key: str, _place: QueuePlace, _ranking: Ranking) -> Shown:
    return shown(_place, _chosen, _ranking.slides)


def _decide(decide: Callable[[], str]) -> None:
    """Do what a button says, and keep what became of it for the next drawing of the page."""
    try:
        st.session_state["queue said"] = ("success", state.plain(decide()))
    except CytosegError as error:
        st.session_state["queue said"] = ("error", state.told(error))


def _accepted(place: QueuePlace, chosen: Chosen, ranking: Ranking) -> str:
    path = accept(place, chosen, ranking.slides)
    return "It was there already." if path is None else f"{path.stem} waits in the queue to be corrected."


def _skipped(place: QueuePlace, chosen: Chosen) -> str:
    skip(place, chosen)
    return "Skipped: it will not come again."


def _card(number: int, chosen: Chosen, place: QueuePlace, ranking: Ranking, *, is_first: bool) -> None:
    region, slide = chosen.candidate.region, chosen.candidate.slide
    key = f"{slide} {region.x} {region.y}"
    with st.container(border=True):
        *columns, side = st.columns(PANEL_WIDTHS, gap="small")
        try:
            summary = place.run / "predictions" / slide / "summary.json"
            stamp = summary.stat().st_mtime_ns if summary.exists() else 0
            place_in_list = f"{key} {chosen.of_slide} {chosen.distance}"  # the reason says it
            picture = _picture(place.run, stamp, chosen, place_in_list, place, ranking)
        except CytosegError as error:
            side.warning(state.told(error))
            return
        for column, (title, pixels) in zip(columns, picture.panels, strict=True):
            column.image(pixels, caption=title, width="stretch")
        with side:
            st.markdown(f"**{number}. {state.plain(picture.title)}**")
            st.markdown(state.plain(picture.reason))
            with st.container(horizontal=True):
                accepts, skips = partial(_accepted, place, chosen, ranking), partial(_skipped, place, chosen)
                # Keys decide on the first of the page, and the next one takes its place.
                keys = ("a", "s") if is_first else (None, None)
                st.button(
                    "Accept",
                    key=f"accept {key}",
                    type="primary",
                    on_click=_decide,
                    args=(accepts,),
                    shortcut=keys[0],
                )
                st.button("Skip", key=f"skip {key}", on_click=_decide, args=(skips,), shortcut=keys[1])


def _waiting(place: QueuePlace) -> None:
    queued = [item for item in read_queue(place.queue).items if item.state == QUEUED]
    if queued:
        st.markdown(
            f"**{len(queued)}** regions were queued. Open the folder `{FOLDER}` of the run in labelme, correct and "
            "save, then run `cytoseg label-import`, `cytoseg train-interpreter` and `cytoseg evaluate`."
        )
    if sentences := gains(place):
        with st.expander("What the queued regions gave", expanded=True):
            st.markdown("  \n".join(state.plain(sentence) for sentence in sentences))


def main() -> None:
    state.begin()
    st.title("Annotate next", help=HELP)
    run = state.run_folder().resolve()
    if not predictions(run):
        state.missing("No slide has been predicted with this run yet.", "cytoseg predict RECIPE SLIDE")
        st.stop()
    place = state.guarded(lambda: _place(run))
    if (said := st.session_state.pop("queue said", None)) is not None:
        (st.success if said[0] == "success" else st.error)(said[1])
    state.guarded(lambda: _waiting(place))
    ranking = state.guarded(lambda: _ranking(run, _stamps(place), place))
    for note in ranking.notes:
        st.caption(state.plain(note))
    if not ranking.chosen:
        state.missing("No disputed region is left to annotate. Predict more slides.", "cytoseg predict RECIPE SLIDE")
        st.stop()
    classes = place.rules.cutting.classes
    pairs = zip(classes.names, classes.colours, strict=True)
    st.html("&emsp;".join(f"<span>{state.swatch(colour)}{escape(name)}</span>" for name, colour in pairs))
    pages = -(-len(ranking.chosen) // PER_PAGE)
    page = st.pagination(pages) if pages > 1 else 1
    first = (page - 1) * PER_PAGE
    for number, chosen in enumerate(ranking.chosen[first : first + PER_PAGE], start=first):
        _card(number + 1, chosen, place, ranking, is_first=number == first)


main()
