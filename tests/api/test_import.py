"""Import time and public names of ``import cytoseg``."""

import subprocess
import sys

import pytest

import cytoseg

_LOADED = """
import sys
import cytoseg
heavy = {"torch", "numpy", "sklearn", "pydantic", "monai", "PIL", "typer"}
print(sorted(heavy & set(sys.modules)), sorted(m for m in sys.modules if m.startswith("cytoseg")))
"""


def test_importing_it_loads_no_library() -> None:
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['cytoseg']"


def test_opening_a_slide_loads_no_torch() -> None:
    code = (
        "import sys, cytoseg; cytoseg.open_slide, cytoseg.Region, cytoseg.CytosegError; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_is_there_and_described() -> None:
    assert dir(cytoseg) == sorted(cytoseg.__all__)
    for name in cytoseg.__all__:
        found = getattr(cytoseg, name)
        assert isinstance(found, int | str) or found.__doc__.strip(), name
    assert set(cytoseg._FILES) | {"__version__"} == set(cytoseg.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'cytoseg' has no attribute 'segment_everything'"):
        getattr(cytoseg, "segment_everything")  # noqa: B009 # the test is of a name that type checkers refuse
