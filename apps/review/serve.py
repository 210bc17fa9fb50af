"""What ``cytoseg review`` starts: the pages of app.py, and beside them the tiles of slides."""

import details  # noqa: F401 - with what it imports: the first visitor need not wait for it
import reviews  # noqa: F401 - likewise
import streamlit as st
import tiles

import cytoseg.commands.queueing  # noqa: F401 - likewise

app = st.App("app.py", routes=tiles.ROUTES)
