from cytoseg.metrics.results import Score
from cytoseg.studies.robustness_text import Kept, Robust, as_markdown, safe_sentences

NAMES = ("glass", "nucleus")


def _kept(corruption: str, severity: int, nucleus: Score) -> Kept:
    whole = Score(1.0, 1.0, 1.0)
    return Kept(corruption, severity, f"{corruption} of {severity}", (whole, nucleus), (whole, nucleus))


METHOD = Robust(
    "ensemble",
    "MLPs",
    (Score(1.0), Score(0.75)),
    (
        _kept("blur", 5, Score(0.40, 0.30, 0.50)),  # listed before milder ones on purpose
        _kept("blur", 1, Score(0.97, 0.93, 0.99)),
        _kept("blur", 3, Score(0.93, 0.89, 0.99)),
        _kept("dust", 1, Score(0.89)),
        _kept("dust", 3, Score(0.95)),
        _kept("light", 1, Score(0.90)),
        _kept("light", 3, Score(None)),
    ),
)


def test_a_strength_is_safe_only_if_every_milder_one_is() -> None:
    assert safe_sentences(METHOD, NAMES)[:4] == [
        "MLPs:",
        "Safe at every strength tested, up to light of 3.",
        "Safe up to blur of 1 (not blur of 3: nucleus keeps 0.93).",
        "Not safe even at dust of 1 (nucleus keeps 0.89).",
    ]


def test_the_class_that_makes_a_strength_unsafe_is_named_even_if_another_keeps_less() -> None:
    kept = (Score(0.92, 0.91, 0.99), Score(0.95, 0.80, 1.0))
    method = Robust("a", "A", kept, (Kept("blur", 1, "blur of 1", kept, kept),))
    assert safe_sentences(method, NAMES)[1] == "Not safe even at blur of 1 (nucleus keeps 0.95)."


def test_nothing_is_said_without_corruptions() -> None:
    assert safe_sentences(Robust("a", "A", (Score(1.0),), ()), ("glass",)) == []


def test_the_mean_over_corruptions_stands_above_the_rows() -> None:
    lines = as_markdown([METHOD], NAMES, of_class="nucleus", told=["Told."]).splitlines()
    assert lines[:9] == [
        "Told.",
        "",
        "| nucleus | MLPs |",
        "|---|---|",
        "| IoU on clean crops | 0.75 |",
        "| **kept at severity 1, mean** | 0.92 |",
        "| **kept at severity 3, mean** | 0.94 |",
        "| **kept at severity 5, mean** | 0.40 |",
        "| blur of 5 (5) | 0.40 (0.30-0.50) |",
    ]
