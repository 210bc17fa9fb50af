"""Two people: crops that two people annotated differently, and who annotates which crop."""

from collections.abc import Sequence

import state
import streamlit as st

HELP = (
    "Each person's marks of a crop are kept apart; training uses those that were saved first until a third person "
    "decides. Assign a crop to two people to learn how far they agree."
)
state.begin(max_width=state.PICTURE_WIDTH)
st.title("Two people", help=HELP)
with state.loading():
    import annotate_state
    import conflict_view
    import disputed_tests
    import jobs_list
    import pandas as pd
    import people
    import reviews
    import widgets

    from cytoseg.errors import CytosegError
    from cytoseg.evaluation.run_folder import time_text
    from cytoseg.labels.reviewer_names import clean_name
    from cytoseg.review.append_only import log_of
    from cytoseg.review.assignments import Entry as Assigned
    from cytoseg.review.assignments import assignees
    from cytoseg.review.conflicts import Comparison, Conflict, compare_people
    from cytoseg.review.inter_rater import Pair
    from cytoseg.review.judgement_conflicts import compare_judgements, read_judgement_resolutions
    from cytoseg.review.resolutions import Decision, Entry, read_resolutions, resolution_csv, resolve, resolved_pairs
    from cytoseg.review.review_log import read_entries
    from cytoseg.review.run_name import named_in_log
    from cytoseg.workflows.annotating import Annotating, CropFile


def _conflicts(annotating: Annotating, crops: Sequence[CropFile], author: str, marked: Comparison) -> None:
    found = marked.conflicts
    for problem in marked.problems[:3]:
        st.warning(state.error_text(problem), icon=":material/warning:")
    st.subheader(f"Conflicts ({len(found)})")
    if not found:
        st.info(
            "No two people have marked the same pixels of a crop differently. Assign a crop to two people below; each "
            "marks it on the page Annotate.",
            icon=":material/info:",
        )
        state.link_to("pages/annotate.py")
        return
    one = conflict_view.choose(found, key="conflict")
    conflict_view.show(annotating.classes, one)
    crop = next(crop for crop in crops if crop.path == one.picture)
    conflict_view.show_decisions(one, author, lambda conflict, said: _decide(annotating, crop, conflict, said))


def _decide(annotating: Annotating, crop: CropFile, conflict: Conflict, said: Decision) -> str:
    """Make one person's marks the label.

    Raises:
        CytosegError: If the decision cannot be recorded: nothing is changed then. Or if the marks that it made the
            label cannot be imported.
    """
    run = annotating.run
    resolve(log_of(run, state.log_url()), named_in_log(run), conflict, said, annotating.classes)
    annotate_state.forget(crop)
    if said.choice.startswith("drawn"):
        st.session_state.update({"crop to annotate": conflict.crop, conflict_view.OPEN: "pages/annotate.py"})
    told = f"{conflict.crop}: resolved by {said.author}."
    try:
        annotating.take_in(conflict.picture.with_suffix(".json"))
    except CytosegError as error:
        raise CytosegError(f"{told} Not imported: {error}") from error
    return state.plain(f"{told} Training uses these marks now.")


def _resolved(done: Sequence[Entry]) -> None:
    st.subheader(f"Resolved ({len(done)})")
    if not done:
        st.caption("No conflict has been resolved yet.")
        return
    rows = [
        (time_text(one.time), one.author, one.crop, _words(one), f"{one.first}, {one.second}", one.comment)
        for one in reversed(done)
    ]
    columns = ["When", "Who", "Crop", "Decision", "Between", "Comment"]
    st.dataframe(pd.DataFrame(rows, columns=columns), hide_index=True)
    widgets.offer_csv("Resolutions (CSV)", resolution_csv(done), what="resolutions")


def _agreement(annotating: Annotating, pairs: Sequence[Pair], judged: disputed_tests.Judged) -> None:
    """Show how far each two people agree, of any number of people."""
    verdicts = compare_judgements(judged.entries)
    if not pairs and not verdicts:
        return
    st.subheader("Agreement")
    if pairs:
        st.caption("Marks of crops to annotate, of each two people; those of corrected test crops are on Correct.")
        st.dataframe(reviews.agreement_table(pairs, annotating.classes), hide_index=True)
    if verdicts:
        st.caption("Test crops accepted or rejected by both.")
        st.dataframe(disputed_tests.agreement_table(verdicts), hide_index=True)


def _words(one: Entry) -> str:
    person = one.first if one.choice.endswith("first") else one.second
    return f"{'drawn from' if one.choice.startswith('drawn') else 'took'} {person}'s"


def _assign(annotating: Annotating, crops: Sequence[CropFile], author: str) -> None:
    given: list[Assigned] = people.assignments(annotating.run)
    now = assignees(given)
    st.subheader("Who annotates what")
    names = [crop.path.stem for crop in crops]
    left, right = st.columns([2, 1], gap="medium", vertical_alignment="bottom")
    kept = {"key": f"crops to assign of {annotating.run}", "persist_state": "session"}
    chosen = left.multiselect("Crops", names, placeholder="Choose crops", **kept)
    kept = {"key": "person to assign", "persist_state": "session"}
    person = clean_name(right.text_input("Person", max_chars=80, placeholder="As the person types it", **kept))
    ready = bool(author and person and chosen)
    told = None if ready else "Type your name and the person's, and choose crops."
    with st.container(horizontal=True):
        for title, word, icon in (("Assign", "assigned", "person_add"), ("Withdraw", "withdrawn", "person_remove")):
            args = (annotating.run, chosen, author, person, word)
            st.button(
                title,
                icon=f":material/{icon}:",
                on_click=people.record_assignments,
                args=args,
                disabled=not ready,
                help=told,
            )
    if now:
        rows = [(crop, ", ".join(names)) for crop, names in now.items()]
        st.dataframe(pd.DataFrame(rows, columns=["Crop", "Assigned to"]), hide_index=True)
    else:
        st.caption("No crop is assigned: all are free to take.")


def main() -> None:
    if page := st.session_state.pop(conflict_view.OPEN, None):
        st.switch_page(page)
    jobs_list.show_result()
    annotating = state.guarded(lambda: annotate_state.of_run(state.run_folder()))
    crops, problems = state.guarded(annotating.crops)
    for problem in problems[:3]:
        st.warning(state.error_text(problem))
    if not crops:
        st.info("There is no crop to annotate yet.", icon=":material/info:")
        state.link_to("pages/annotate.py")
    author = reviews.reviewer()
    run = annotating.run
    log, shared = log_of(run, state.log_url()), {} if state.log_url() is None else {"run": reviews.name_of(run)}
    try:
        done = read_resolutions(log, **shared)
        judged = disputed_tests.Judged(read_entries(log, **shared), read_judgement_resolutions(log, **shared))
    except CytosegError as error:
        st.error(reviews.sentence(state.error_text(error)), icon=":material/error:")
        return
    marked = compare_people([crop.path for crop in crops], annotating.classes, resolved_pairs(done))
    if crops:
        _conflicts(annotating, crops, author, marked)
    disputed_tests.show(annotating.classes, author, done, judged)
    _agreement(annotating, marked.pairs, judged)
    _resolved(done)
    disputed_tests.show_resolved(judged.resolved)
    if crops:
        _assign(annotating, crops, author)


main()
