"""Where the bundles of a run are."""

from pathlib import Path

BUNDLE = Path("interpreter", "bundle")
"""Bundle folder within a run folder."""
TEACHER = Path("interpreter", "teacher")
"""Bundle folder of a student's teacher."""
