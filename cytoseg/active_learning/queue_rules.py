"""What of a recipe decides the queue."""

from dataclasses import dataclass

from cytoseg.active_learning.cut_crops import Cutting


@dataclass(frozen=True)
class QueueRules:
    """What of a recipe decides the queue.

    Attributes:
        cutting: Size and resolution of the regions, and the classes.
        test_slides: Patterns of test slides; empty leaves them to chance.
        test_fraction: Share of the slides that chance puts on the test side.
        seed: Seed of the choice.
        kind: Of the interpreter, whose curve estimates the gain.
    """

    cutting: Cutting
    test_slides: tuple[str, ...]
    test_fraction: float
    seed: int
    kind: str
