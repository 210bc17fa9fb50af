"""Unreadable files and folders; skipped for root, who can read anything."""

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def shut(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Refuse to open a file, or to list and to enter a folder, as for mode 000, until the end of the test."""

    def refusing(real: Callable[..., Any], *, itself: bool) -> Callable[..., Any]:
        def asked(name: Any = ".", *rest: Any, **options: Any) -> Any:
            if isinstance(name, str | os.PathLike):
                place = Path(name)
                if path in place.parents or (itself and place == path):
                    raise PermissionError(13, "Permission denied", str(name))
            return real(name, *rest, **options)

        return asked

    for name in ("listdir", "scandir", "open"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), itself=True))
    for module in (io, builtins):
        monkeypatch.setattr(module, "open", refusing(module.open, itself=True))
    monkeypatch.setattr(os, "stat", refusing(os.stat, itself=False))
