"""What ``cytoseg review`` starts: the pages of app.py, and beside them the tiles of slides."""

import streamlit as st
import tiles

app = st.App("app.py", routes=tiles.ROUTES)
