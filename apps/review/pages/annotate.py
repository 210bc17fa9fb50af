"""Annotate: mark crops with live predictions."""

from typing import TYPE_CHECKING

import state
import streamlit as st

HELP = (
    "A crop is a small square of a slide. A few strokes in each class are enough: unmarked pixels stay unknown. Each "
    "stroke is saved under your name at once. Crops of test slides only test the model; it never learns from them."
)
state.begin(max_width=state.PICTURE_WIDTH)
st.title("Annotate", help=HELP)
with state.loading():
    import annotate_state
    import crop_choice
    import editor
    import jobs_list
    import lazy_networks
    import people
    import reviews
    import show_me
    import training
    from annotate_state import Work

    from cytoseg.errors import CytosegError
    from cytoseg.review.assignments import in_order
    from cytoseg.workflows.annotating import Annotating, CropFile

    if TYPE_CHECKING:
        from cytoseg.interpreter.live import LiveView

LIVE = "After each stroke, small networks learn from all marked crops and show what they make of this one."
PROPOSE = "Shows what the supplied base model would mark, for you to take over, move or delete part by part."
KEYS = "Every tool and class has a key, and the whole page works without a mouse: ? lists the keys."


def _new_crop(annotating: Annotating) -> None:
    """Cut a random crop and choose it."""
    lazy_networks.announce()
    try:
        st.session_state["crop to annotate"] = lazy_networks.random_crops(annotating).cut().stem
    except CytosegError as error:
        st.session_state["job said"] = ("error", state.error_text(error))


def _cut(annotating: Annotating) -> None:
    """Cut the region that was chosen on the page Slides, and choose it; if that fails, say why there."""
    path, slide, region = st.session_state.pop("region to cut")
    try:
        st.session_state["crop to annotate"] = annotating.cut(path, slide, region).stem
    except CytosegError as error:
        st.session_state["cut refused"] = state.error_text(error)
        st.switch_page("pages/slides.py")


def _choose(annotating: Annotating, found: list[CropFile], author: str) -> CropFile:
    given = people.assigned(annotating.run)
    by_name = {crop.path.stem: crop for crop in found}
    names = in_order(list(by_name), given, author)
    titles = dict(zip(names, annotate_state.titles([by_name[name] for name in names], given, author), strict=True))
    key = "crop to annotate"
    if st.session_state.get(key) not in names:
        st.session_state[key] = next((name for name in names if by_name[name].drawn is None), names[0])
    name = st.selectbox("Crop", names, key=key, format_func=titles.__getitem__, persist_state="session")
    chosen = by_name[name]
    with st.container(horizontal=True):
        crop_choice.offer_beside(names, chosen.path.stem, key=key, shortcuts=("Shift+N", "N"))
        people.offer_taking(annotating.run, chosen, author, given.get(chosen.path.stem, ()))
        st.button("New random crop", icon=":material/casino:", on_click=_new_crop, args=(annotating,))
    marked = sum(crop.drawn is not None for crop in found)
    st.caption(f"{marked} of {len(names)} crops are marked; {sum(crop.is_test for crop in found)} for testing.")
    return chosen


def _propose(annotating: Annotating, crop: CropFile, author: str) -> None:
    """Show the base model's proposal."""
    lazy_networks.announce()
    try:
        work = annotate_state.work_on(annotating, crop, author)
        work.proposed = lazy_networks.live_results(annotating).propose(work.picture)
    except CytosegError as error:
        st.session_state["job said"] = ("error", state.error_text(error))


def _offer_uncertain(annotating: Annotating, others: list[CropFile], seen: "LiveView") -> None:
    """Offer the unmarked crop about which the MLPs of the last stroke disagree most."""
    try:
        crops = lazy_networks.live_results(annotating).most_uncertain(others, seen)
    except CytosegError as error:
        st.warning(state.error_text(error), icon=":material/info:")
        return
    if not crops:
        return
    name = crops[0].path.stem
    st.button(
        "Most uncertain crop",
        icon=":material/help:",
        key="most uncertain",
        on_click=st.session_state.__setitem__,
        args=("crop to annotate", name),
        help=f"{state.plain(name)}: the least certain of {len(crops)} unmarked crops; each stroke rates one more.",
    )
    if st.session_state.get("most uncertain"):
        st.rerun()  # the choice of the crop is outside this fragment


@st.fragment(run_every=1.0)
def _await_first(work: Work) -> None:
    """Say that the first result is being computed; show it as soon as it is there."""
    st.caption("Computing the first result. You can mark the crop meanwhile.")
    if annotate_state.is_ready(work):
        st.rerun()


@st.fragment
def _draw(annotating: Annotating, crop: CropFile, author: str, crops: list[CropFile], *, live: bool) -> None:
    """Draw the editor; save, predict and import after each stroke."""
    work = state.guarded(lambda: annotate_state.work_on(annotating, crop, author))
    problem, shown, seen = "", (), None
    try:
        annotate_state.save_strokes(annotating, work, author)
        if live:
            seen = annotate_state.live_view(annotating, work)
            shown = () if seen is None else tuple(annotate_state.layers(annotating, seen))
    except CytosegError as error:
        problem = state.error_text(error)
    with st.container(key="steady-editor"):
        editor.draw(
            work.picture,
            work.begun,
            annotating.classes,
            token=work.token,
            draft=work.draft,
            may_save=bool(author),
            saved_stroke=work.saved,
            layers=shown,
            proposed=work.proposed,
        )
    if live and work.first is not None:
        _await_first(work)
    if problem:
        st.warning(problem, icon=":material/info:")
    if seen is not None:  # after the editor, so that its result does not wait for the rating of other crops
        st.caption(f"Trained on {seen.crops} crop{'' if seen.crops == 1 else 's'} in {seen.seconds:.1f} s.")
        _offer_uncertain(annotating, [one for one in crops if one.path != crop.path], seen)
    try:
        annotate_state.import_strokes(annotating, work)
    except CytosegError as error:
        st.error(state.error_text(error), icon=":material/error:")
        return
    if work.saved and author not in (*crop.readers, crop.drawn.author if crop.drawn else ""):  # update the list
        st.rerun()


def _side(annotating: Annotating, crops: list[CropFile]) -> tuple[CropFile, str, bool]:
    author = reviews.reviewer()
    crop = _choose(annotating, crops, author)
    people.show_whose_marks(annotating, crop, author)
    if crop.is_test:
        st.warning(f"A crop of the test slide {state.plain(crop.slide)}: used for testing, never for training.")
    live = st.toggle("Live result", value=True, key="live box", help=LIVE, persist_state="session")
    with st.container(horizontal=True):
        propose = {"on_click": _propose, "args": (annotating, crop, author)}
        st.button("Propose marks", icon=":material/auto_fix_high:", help=PROPOSE, **propose)
        again = {"on_click": annotate_state.forget, "args": (crop,)}
        st.button("Reload marks", icon=":material/refresh:", help="Reads the saved marks again.", **again)
        show_me.button(crop, author)
    training.show_training(author)
    show_me.picture(annotating, crop)
    st.caption(KEYS)
    jobs_list.show(("train-interpreter", "train-ddpm", "evaluate", "edit"))
    return crop, author, live


def main() -> None:
    jobs_list.show_result()
    annotating = state.guarded(lambda: annotate_state.of_run(state.run_folder()))
    if "region to cut" in st.session_state:
        _cut(annotating)
    crops, problems = state.guarded(annotating.crops)
    for problem in problems[:3]:
        st.warning(state.error_text(problem))
    if not crops:
        st.info("There is no crop to annotate yet.", icon=":material/info:")
        st.button("Cut a random crop", type="primary", on_click=_new_crop, args=(annotating,))
        st.stop()
    large, side = st.columns([2, 1], gap="medium")
    with side:
        crop, author, live = _side(annotating, crops)
    with large:
        _draw(annotating, crop, author, crops, live=live)


main()
