"""What pages need of the networks, loaded at its first use: that takes seconds, and a crop can be drawn before."""

import sys
from functools import lru_cache
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, cast

import streamlit as st

from cytoseg.workflows.annotating import Annotating

if TYPE_CHECKING:
    from cytoseg.workflows.live_results import LiveResults
    from cytoseg.workflows.random_annotation_crops import RandomAnnotationCrops

_loading = Lock()


def announce() -> None:
    """Say that a button does nothing visible for some seconds, the first time that networks are loaded."""
    if "torch" not in sys.modules:
        st.toast("Loading the networks: this takes some seconds, only once.", icon=":material/hourglass:")


def live_results(annotating: Annotating) -> "LiveResults":
    """Return the live results of a run."""
    with _loading:
        return _live_results(annotating)


@lru_cache(maxsize=2)
def _live_results(annotating: Annotating) -> "LiveResults":
    return cast("LiveResults", import_module("cytoseg.workflows.live_results").LiveResults(annotating))


def random_crops(annotating: Annotating) -> "RandomAnnotationCrops":
    """Return the random crops of a run."""
    with _loading:
        return _random_crops(annotating)


@lru_cache(maxsize=2)
def _random_crops(annotating: Annotating) -> "RandomAnnotationCrops":
    module = import_module("cytoseg.workflows.random_annotation_crops")
    return cast("RandomAnnotationCrops", module.RandomAnnotationCrops(annotating))
