"""Annotate next: accept or skip regions where the ensemble disagrees."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import state
import streamlit as st
import tiles
import viewer
import widgets

from cytoseg.active_learning.choose_regions import SelectedCandidate
from cytoseg.active_learning.queue import Ranking, accept, draw_region, gains, rank, skip
from cytoseg.active_learning.queue_slides import QUEUE_FOLDER, QueuePlace
from cytoseg.errors import CytosegError
from cytoseg.evaluation.run_folder import predictions
from cytoseg.labels.index import INDEX_NAME
from cytoseg.labels.queue_file import QUEUE_NAME
from cytoseg.predict.finished_maps import CLASS_MAP, UNCERTAINTY
from cytoseg.predict.summary import SUMMARY_NAME
from cytoseg.recipe import labels_of_run, recipe_of_run
from cytoseg.viewer.deep_zoom import jpeg
from cytoseg.workflows.queue_rules import queue_rules

LISTED = 40
PER_PAGE = 5
Packed = tuple[str, str, list[tuple[str, bytes]]]
PANEL_WIDTHS = [1, 1, 1, 1.3]
DECIDING = (SUMMARY_NAME, CLASS_MAP, UNCERTAINTY)
"""Files of a prediction that determine which of its regions are proposed."""
HELP = (
    "Several networks vote on the class of every pixel. Where they disagree, a few minutes of your time teach them "
    "most. Their disagreement is measured in nats: 0 where all agree, 0.69 where half vote for one class and half for "
    "another."
)


def _place(run: Path) -> QueuePlace:
    return QueuePlace(queue_rules(recipe_of_run(run)), run, labels_of_run(run, state.base_folder()), run / QUEUE_FOLDER)


def _stamps(place: QueuePlace) -> tuple[int, ...]:
    """Return a key that changes with anything that affects the ranking."""
    parent = place.run / "predictions"
    files = [path for name in DECIDING for path in sorted(parent.glob(f"*/{name}"))]
    return _written(
        [*files, parent, place.run / "recipe.yaml", place.queue / QUEUE_NAME, place.queue, place.labels / INDEX_NAME]
    )


def _written(files: Iterable[Path]) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)


@st.cache_data(show_spinner=False, max_entries=8)
def _ranking(run: Path, stamps: tuple[int, ...], _place: QueuePlace) -> Ranking:
    bar = st.progress(0.0, "Looking through the predicted slides")
    try:
        return rank(_place, LISTED, on_part=lambda name, done, total: bar.progress(done / total, state.plain(name)))
    finally:
        bar.empty()


@st.cache_data(show_spinner=False, max_entries=256)
def _picture(
    run: Path, written: tuple[int, ...], _chosen: SelectedCandidate, key: str, _place: QueuePlace, _ranking: Ranking
) -> Packed:
    """Return title, reason and panels; as JPEG files, because the pixels of 256 regions take hundreds of MB."""
    slide = _chosen.candidate.slide
    region = tiles.LANES.wait(("queue", run, slide), lambda: draw_region(_place, _chosen, _ranking.slides))
    return region.title, region.reason, [(title, jpeg(pixels)) for title, pixels in region.panels]


def _decide(decide: Callable[[], str]) -> None:
    """Execute a button's action, and store the result for the next run of the page."""
    try:
        st.session_state["queue said"] = ("success", state.plain(decide()))
    except CytosegError as error:
        st.session_state["queue said"] = ("error", state.error_text(error))
    except OSError as error:
        why = state.plain(error.strerror or type(error).__name__)
        st.session_state["queue said"] = ("error", f"The queue cannot be written ({why}).")


def _accepted(place: QueuePlace, chosen: SelectedCandidate, ranking: Ranking) -> str:
    path = accept(place, chosen, ranking.slides)
    if path is None:
        return "Someone else has already decided on this region."
    st.session_state["crop accepted"] = path.stem
    return f"{path.stem} waits in the queue to be corrected."


def _skipped(place: QueuePlace, chosen: SelectedCandidate) -> str:
    skip(place, chosen)
    return "Skipped: it will not be proposed again."


def _card(number: int, chosen: SelectedCandidate, place: QueuePlace, ranking: Ranking, *, is_first: bool) -> None:
    region, slide = chosen.candidate.region, chosen.candidate.slide
    key = f"{slide} {region.x} {region.y}"
    with st.container(border=True):
        *columns, side = st.columns(PANEL_WIDTHS, gap="small")
        try:
            written = _written(place.run / "predictions" / slide / name for name in DECIDING)
            place_in_list = f"{key} {chosen.of_slide} {chosen.distance}"  # part of the reason
            title, reason, panels = _picture(place.run, written, chosen, place_in_list, place, ranking)
        except CytosegError as error:
            side.warning(state.error_text(error))
            return
        for column, (caption, packed) in zip(columns, panels, strict=True):
            widgets.show(column, packed, caption=caption)
        with side:
            st.markdown(f"**{number}. {state.plain(title)}**")
            st.markdown(state.plain(reason))
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
                if st.button("On the slide", key=f"see {key}"):
                    viewer.go_to(slide, x=region.x, y=region.y, width=region.width)


def _waiting(place: QueuePlace, ranking: Ranking) -> None:
    """Lead to the queued regions: the one that was accepted last, or the oldest."""
    if ranking.waiting:
        many = "region waits" if len(ranking.waiting) == 1 else "regions wait"
        accepted = st.session_state.get("crop accepted")
        crop = accepted if accepted in ranking.waiting else ranking.waiting[0]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{len(ranking.waiting)}** queued {many} to be annotated.", width="content")
            if st.button(f"Annotate {state.plain(crop)}", key="annotate queued", icon=":material/brush:"):
                st.session_state["crop to annotate"] = crop
                st.switch_page("pages/annotate.py")
        st.caption(
            f"Or correct and save them in labelme (folder `{QUEUE_FOLDER}` of the run), then import them on Jobs."
        )
    if sentences := gains(place):
        with st.expander("Gain of the queued regions", expanded=True):
            st.markdown("  \n".join(state.plain(sentence) for sentence in sentences))


def main() -> None:
    state.begin(max_width=state.PICTURE_WIDTH)
    st.title("Annotate next", help=HELP)
    run = state.run_folder().resolve()
    if not predictions(run):
        state.missing("No slide has been predicted with this run yet.", "cytoseg predict RECIPE SLIDE")
        st.stop()
    place = state.guarded(lambda: _place(run))
    if (said := st.session_state.pop("queue said", None)) is not None:
        (st.success if said[0] == "success" else st.error)(said[1])
    ranking = state.guarded(lambda: _ranking(run, _stamps(place), place))
    state.guarded(lambda: _waiting(place, ranking))
    for note in ranking.notes:
        (st.caption if ranking.slides else st.warning)(state.error_text(note))
    if not ranking.slides:
        state.missing("None of the predicted slides can be used. Predict a slide.", "cytoseg predict RECIPE SLIDE")
        st.stop()
    if not ranking.chosen:
        state.missing("No uncertain region is left to annotate. Predict more slides.", "cytoseg predict RECIPE SLIDE")
        st.stop()
    classes = place.rules.cutting.classes
    widgets.legend(classes.names, classes.colours)
    pages = -(-len(ranking.chosen) // PER_PAGE)
    page = st.pagination(pages, key=f"page of queue {run}", persist_state="session") if pages > 1 else 1
    first = (page - 1) * PER_PAGE
    for number, chosen in enumerate(ranking.chosen[first : first + PER_PAGE], start=first):
        _card(number + 1, chosen, place, ranking, is_first=number == first)


main()
