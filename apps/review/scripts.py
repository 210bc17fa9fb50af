"""JavaScript of components, joined from modules."""

import re
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).parent
_IMPORT = re.compile(r"^import [^;]*;\n|^export (?!default)", re.MULTILINE)


def text_of(name: str) -> str:
    """Read a file of the app's folder."""
    return (_HERE / name).read_text(encoding="utf-8")


def joined(name: str, modules: Sequence[str]) -> str:
    """Join the modules of a component into one, because Streamlit loads a component from a single one.

    Args:
        name: Name of the component; NAME.js is its main module.
        modules: Parts of its other modules' names (NAME_PART.js), each after those that it imports.
    """
    files = [*(f"{name}_{part}.js" for part in modules), f"{name}.js"]
    return "\n".join(_IMPORT.sub("", text_of(file)) for file in files)
