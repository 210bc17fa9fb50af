"""Glossary of the terms in the report and the app."""

GLOSSARY: dict[str, str] = {
    "IoU (intersection over union)": (
        "How well the predicted area of a class covers the true area: the area that both share, divided by the area "
        "that either marks. 1 is a perfect match, 0 is no overlap. It is strict with small objects: a nucleus 9 "
        "pixels across, drawn half a pixel too wide all round, already drops to about 0.8."
    ),
    "Mean IoU": "The mean over the classes; each counts once, however rare.",
    "95 % interval": (
        "The test slides are resampled many times (bootstrap); 95 of 100 resamples give a number inside. "
        "Few test slides give a wide interval."
    ),
    "Dice": "Twice the shared area divided by the sum of both areas; more lenient than IoU.",
    "Precision": "The fraction of the predicted area that truly is the class.",
    "Recall": "The fraction of the true area that was found.",
    "Uncertainty, disagreement": (
        "Two words for one measure: how much the members of the ensemble disagree at a "
        "pixel, in nats. 0 where all agree; look at bright places. For a whole crop it is the mean of its most "
        "uncertain tenth."
    ),
    "Calibration error (ECE)": (
        "How far the stated probabilities are from the observed accuracy: of pixels predicted with 80 %, four in five "
        "should be right. 0 is perfect; 0.05 means that the probabilities are off by five points on average."
    ),
    "AURC (area under the risk-coverage curve)": (
        "Whether the uncertainty finds the errors. Keep only the most certain pixels, from few to all: "
        "AURC is the mean error rate among them. Lower is better. If it equals the overall error rate, the "
        "uncertainty is uninformative; at the best possible value all wrong pixels are the least certain ones."
    ),
    "Errors in the least certain 5 %": (
        "The fraction of all wrong pixels found among the 5 % least certain ones. By chance it is 5 %."
    ),
    "Objects": (
        "Connected areas of a class, such as single nuclei, counted instead of pixels. A predicted object is right if "
        "it matches a true one: both share at least half of the area that either covers (IoU 0.5). The annotations "
        "do not separate touching cells, so true objects that touch count as one."
    ),
    "F1": "The harmonic mean of the precision and the recall of objects: how well objects are found, not how "
    "well they are outlined.",
    "AJI (aggregated Jaccard index)": (
        "An IoU over all objects: each true object with the best-matching prediction; unmatched "
        "objects count against it."
    ),
    "PQ (panoptic quality)": "F1 of the objects times the mean IoU of those that match: found, and well outlined.",
    "Backbone features": (
        "Some hundred numbers by which a network describes each pixel and its surroundings. The "
        "backbone is a base model that is shipped, or a diffusion model trained on your own slides without labels; "
        "the MLPs, small networks, learn from your labels which numbers belong to which class."
    ),
    "Baseline": (
        "A simpler method, trained and tested on the same crops, for comparison: the ensemble is worth its "
        "effort only where it scores higher."
    ),
    "n/a": "Not applicable: the class occurs neither in the truth nor in the prediction, so there is nothing to score.",
    "Confusion matrix": (
        "Where the pixels of each true class (row) went (columns). Correct pixels are on the diagonal."
    ),
}

UNCERTAINTY = GLOSSARY["Uncertainty, disagreement"]
CALIBRATION = GLOSSARY["Calibration error (ECE)"]
AURC = GLOSSARY["AURC (area under the risk-coverage curve)"]
LEAST_CERTAIN = GLOSSARY["Errors in the least certain 5 %"]
