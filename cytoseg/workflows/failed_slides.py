"""Reporting the slides of a command that failed."""

from collections.abc import Sequence
from typing import NoReturn

import typer


def report_failed_slides(command: str, errors: Sequence[str], *, of: int) -> NoReturn:
    """List the failed slides on standard error, and exit with status 1.

    Args:
        command: Name of the command.
        errors: One sentence for each failed slide.
        of: Number of slides.
    """
    others = ", the others are done" if len(errors) < of else ""
    typer.echo(f"cytoseg: {command}: {len(errors)} of {of} slides failed{others}.", err=True)
    for error in errors:
        typer.echo(f"  {error}", err=True)
    raise SystemExit(1)
