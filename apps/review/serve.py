"""What ``cytoseg review`` starts: the pages of app.py, and beside them the tiles of slides."""

import os

import details  # noqa: F401 - with what it imports: the first visitor need not wait for it
import reviews  # noqa: F401 - likewise
import state
import streamlit as st
import tiles
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

import cytoseg.commands.queueing  # noqa: F401 - likewise

# Streamlit was started among the app's own files. Relative paths in a recipe, and in the address of the log, start from
# where `cytoseg review` was.
os.chdir(state.base_folder())

LOCAL = ("127.0.0.1", "localhost", "::1")
ASKED = ("127.0.0.1", "localhost", "[::1]")
"""As browsers name them."""

# Who listens on this machine only is asked for by its own name. A page somewhere in the net whose name was made to lead
# here (DNS rebinding) asks by that name, and would else be let in by the browser of whoever visits it.
names = ASKED if st.get_option("server.address") in LOCAL else ("*",)
app = st.App("app.py", routes=tiles.ROUTES, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=names)])
