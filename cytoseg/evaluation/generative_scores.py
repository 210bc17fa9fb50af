"""Scores of generated samples: FID, sFID, KID, precision, recall, copies.

The features are chosen separately (``generative_features``): a score is meaningful only together with the name of the
feature network, and compared with the score of other real images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from cytoseg.errors import CytosegError

NEIGHBOURS = 3
"""The ball around an image reaches its third neighbour, as in the paper on precision and recall."""
MAX_SPLITS, MIN_PER_SPLIT = 10, 500
_TINY = 1e-30
MAX_NEIGHBOURS, COPY_RATIO = 50, 1 / 3
_TOGETHER = 256
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
FEWEST = 2 * (NEIGHBOURS + 1)
"""With fewer images the third neighbour is far away, and covariances are meaningless."""

Features = NDArray[np.floating]


@dataclass(frozen=True)
class Scores:
    """Scores of samples against real crops.

    Attributes:
        fid: Frechet distance of the features, 0 for equal distributions; biased upwards for few images.
        sfid: The same for spatial features.
        kid: Unbiased kernel distance: around 0 for equal distributions with any number of images.
        precision: Fraction of samples within the manifold of real crops.
        recall: Fraction of real crops within the manifold of samples.
    """

    fid: float
    sfid: float
    kid: float
    precision: float
    recall: float


def score(made: tuple[Features, Features], real: tuple[Features, Features], *, seed: int) -> Scores:
    """Compute all scores.

    Args:
        made: Features and spatial features of N samples, (N, D) and (N, E).
        real: The same for M real crops, M at least N.
        seed: Of the subsets of ``kid``.

    Raises:
        CytosegError: If there are too few images, or fewer real ones than made ones.
    """
    check_counts(len(made[0]), len(real[0]))
    precision, recall = precision_recall(made[0], real[0])
    return Scores(
        fid=frechet_distance(made[0], real[0]),
        sfid=frechet_distance(made[1], real[1]),
        kid=kernel_distance(made[0], real[0], seed=seed),
        precision=precision,
        recall=recall,
    )


def check_counts(made: int, real: int) -> None:
    """Check that there are enough images.

    Raises:
        CytosegError: If there are too few images, or fewer real ones than made ones.
    """
    if made < FEWEST:
        raise CytosegError(f"{made} samples are too few to be scored: at least {FEWEST} are needed. Draw more.")
    if real < made:
        raise CytosegError(
            f"{real} real crops are fewer than the {made} samples they should be compared with. "
            "Name more slides, or score fewer samples."
        )


def frechet_distance(made: Features, real: Features) -> float:
    """Compute the Frechet distance between two normal distributions fitted to features (FID).

    The trace of the square root of the product of both covariances is the nuclear norm of the product of the centred
    rows, which needs no matrix square root and is exact even with fewer images than features.

    Args:
        made: (N, D), N at least 2.
        real: (M, D), M at least 2.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017.
    """
    rows = [features.astype(np.float64) for features in (made, real)]
    means = [features.mean(0) for features in rows]
    centred = [(f - mean) / np.sqrt(len(f) - 1) for f, mean in zip(rows, means, strict=True)]
    root = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    spread = sum(float((c**2).sum()) for c in centred)
    return float(((means[0] - means[1]) ** 2).sum() + spread - 2.0 * root)


def kernel_distance(made: Features, real: Features, *, seed: int) -> float:
    """Compute the kernel distance (KID): the unbiased squared MMD with the kernel (x.y / D + 1)^3.

    Args:
        made: (N, D), N at least 2.
        real: (M, D), M at least 2.
        seed: Seed of the subsets of 1,000 that are averaged; fewer images are used whole.

    Source: Binkowski et al., Demystifying MMD GANs, ICLR 2018.
    """
    size = min(KID_SUBSET_SIZE, len(made), len(real))
    if size == len(made) == len(real):
        return _unbiased_mmd(made.astype(np.float64), real.astype(np.float64))
    random = np.random.default_rng(seed)
    draws = [
        _unbiased_mmd(*(f[random.choice(len(f), size, replace=False)].astype(np.float64) for f in (made, real)))
        for _ in range(KID_SUBSETS)
    ]
    return float(np.mean(draws))


def _unbiased_mmd(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        cubed: NDArray[np.float64] = (a @ b.T / a.shape[1] + 1.0) ** 3
        return cubed

    within = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y)))
    return float(within - 2.0 * kernel(x, y).mean())


def precision_recall(made: Features, real: Features) -> tuple[float, float]:
    """Compute the fraction of samples within the manifold of real crops, and vice versa.

    An image is within a manifold if it lies in the ball around one of its images that reaches the third neighbour.

    Args:
        made: (N, D), N at least 4.
        real: (M, D), M at least 4.

    Source: Kynkaanniemi et al., Improved Precision and Recall, NeurIPS 2019.
    """
    between = cdist(made, real)
    precision = (between <= _radii(real)[None, :]).any(1).mean()
    recall = (between <= _radii(made)[:, None]).any(0).mean()
    return float(precision), float(recall)


def _radii(features: Features) -> NDArray[np.float64]:
    """Compute the distance to the third neighbour of each image, not counting itself."""
    radii: NDArray[np.float64] = np.partition(cdist(features, features), NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    return radii


def count_copies(made: Features, trained: Features) -> int:
    """Count samples that are far closer to one training crop than to its neighbours.

    The distance to the nearest crop is compared with the mean distance to the nearest hundredth of all crops, 2 to 50,
    so that a kind of image that is common in training, such as empty glass, does not count.

    Args:
        made: (N, D).
        trained: (M, D) of training crops, M at least 1; a single one has no neighbours, so nothing is its copy.

    Source: Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023, section 5.
    """
    near = min(len(trained), MAX_NEIGHBOURS, max(2, len(trained) // 100))
    found = 0
    for part in np.array_split(made, -(-len(made) // _TOGETHER)):
        nearest = np.partition(cdist(part, trained), near - 1, axis=1)[:, :near]
        found += int((nearest.min(1) < COPY_RATIO * nearest.mean(1)).sum())
    return found


def inception_score(probabilities: Features) -> float:
    """Compute the Inception score: how sure a classifier is of each sample, and how different its answers are.

    Args:
        probabilities: (N, K) of a classifier; each row sums to 1.

    Returns:
        1 to K, the mean over up to ten parts of at least 500 samples.

    Source: Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016.
    """
    splits = min(MAX_SPLITS, max(1, len(probabilities) // MIN_PER_SPLIT))
    scores = []
    for part in np.array_split(probabilities.astype(np.float64), splits):
        mean = part.mean(0, keepdims=True)
        divergence = part * (np.log(np.maximum(part, _TINY)) - np.log(np.maximum(mean, _TINY)))
        scores.append(np.exp(divergence.sum(1).mean()))
    return float(np.mean(scores))
