"""Glossary entries of uncertainty and calibration."""

from cytoseg.reporting.glossary import CALIBRATION, GLOSSARY, UNCERTAINTY


def test_one_text_explains_uncertainty_and_disagreement() -> None:
    (word,) = (word for word in GLOSSARY if "ncertainty" in word)
    assert word == "Uncertainty, disagreement"
    assert GLOSSARY[word] == UNCERTAINTY
    for part in ("disagree", "in nats", "0 where all agree", "most uncertain tenth"):
        assert part in UNCERTAINTY


def test_calibration_is_explained_by_an_example() -> None:
    (word,) = (word for word in GLOSSARY if word.startswith("Calibration"))
    assert GLOSSARY[word] == CALIBRATION
    for part in ("predicted with 80 %, four in five should be right", "0 is perfect", "off by five points on average"):
        assert part in CALIBRATION
