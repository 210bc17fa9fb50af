"""What the words of the report and the review mean, for readers who do not program."""

GLOSSARY: dict[str, str] = {
    "IoU (intersection over union)": (
        "How well the predicted area of a class covers the true area: the area that both share, divided by the area "
        "that either marks. 1 is a perfect match, 0 is no overlap. It is strict with small things: a nucleus 9 pixels "
        "across, drawn half a pixel too wide all round, already falls to about 0.8."
    ),
    "Mean IoU": "The mean over the classes, each counted once, however rare it is.",
    "95 % interval": (
        "The test slides are drawn again and again at random; in 95 of 100 draws the number falls inside. "
        "Few test slides give a wide interval."
    ),
    "Dice": "Twice the shared area divided by the sum of both areas; a milder relative of IoU.",
    "Precision": "Of what was predicted as the class, the share that truly is.",
    "Recall": "Of what truly is the class, the share that was found.",
    "Uncertainty, disagreement": (
        "Two words for one measure: how much the members of the ensemble contradict each other at a pixel, in nats. "
        "0 where all say the same; bright places deserve a look by eye. For a whole crop it is the mean of its most "
        "disputed tenth."
    ),
    "Calibration error (ECE)": (
        "How far the stated probabilities are from what happens: of pixels predicted with 80 %, four of five should be "
        "right. 0 is perfect; 0.05 says that the probabilities are five points off on average."
    ),
    "AURC (area under the risk-coverage curve)": (
        "Whether it knows where it is wrong. Keep only the pixels it is most certain of, from few to all: AURC is the "
        "mean of the shares of errors among them. Low is good. Where it is as high as the share of all pixels that is "
        "wrong, its certainty says nothing; the best possible value has every wrong pixel among the last."
    ),
    "Errors in the least certain 5 %": (
        "Of all wrong pixels, the share that you would meet by looking at the 5 % it is least certain of. By chance it "
        "is 5 %."
    ),
    "Objects": (
        "Connected areas of a class, such as single nuclei, counted instead of pixels. A predicted object is right if "
        "it matches a true one: both share at least half of the area that either covers (IoU 0.5). The annotations do "
        "not tell touching cells apart, so true objects that touch count as one."
    ),
    "F1": "The harmonic mean of the precision and the recall of objects: how well they are found, not how well drawn.",
    "AJI (aggregated Jaccard index)": (
        "An IoU over all objects: each true one with the predicted one that fits best; what is left over counts "
        "against it."
    ),
    "PQ (panoptic quality)": "F1 of the objects times the mean IoU of those that match: found, and well drawn.",
    "Baseline": (
        "A simpler method, trained and tested on the same crops, for comparison: the ensemble is worth its effort only "
        "where it stands above."
    ),
    "n/a": "Not applicable: the class stands neither in the truth nor in the prediction, so there is nothing to score.",
    "Confusion matrix": (
        "Where the pixels of each true class (row) went (columns). What was right stands on the diagonal."
    ),
}

UNCERTAINTY = GLOSSARY["Uncertainty, disagreement"]
CALIBRATION = GLOSSARY["Calibration error (ECE)"]
AURC = GLOSSARY["AURC (area under the risk-coverage curve)"]
LEAST_CERTAIN = GLOSSARY["Errors in the least certain 5 %"]
