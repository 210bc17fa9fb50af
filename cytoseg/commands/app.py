"""``cytoseg app``: the same as ``cytoseg review``."""

from cytoseg.commands.review import run

__all__ = ["run"]
