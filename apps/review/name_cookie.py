"""The typed name as a cookie, so that a reload does not ask for it again.

It says who a person claims to be, as the text field does; access is decided by the token alone.
"""

from urllib.parse import unquote

import streamlit as st
from scripts import text_of

from cytoseg.labels.reviewer_names import clean_name

_component = st.components.v2.component("typed_name", js=text_of("name_cookie.js"))


def _cookie() -> str:
    """Return the cookie's name, with the port because browsers share cookies between ports."""
    return f"cytoseg_name_{st.get_option('server.port')}"


def kept_name() -> str:
    """Return the name that this browser kept when the page was opened; empty if none."""
    return clean_name(unquote(st.context.cookies.get(_cookie(), ""), errors="replace"))


def keep_name(name: str) -> None:
    """Let the browser keep a name until it is closed, or forget it if empty."""
    _component(key="typed name", data={"cookie": _cookie(), "name": name})
