"""Server of the app: the pages of app.py, slide tiles, outlines and downloads."""

import os
import secrets

import details  # noqa: F401 - with what it imports: the first visitor need not wait for it
import exports
import outlines
import reviews  # noqa: F401 - likewise
import state
import streamlit as st
import tiles
from access_check import Guard
from starlette.middleware import Middleware

import cytoseg.active_learning.queue  # noqa: F401 - likewise
from cytoseg.interrupts import PARENT_VARIABLE, exit_with_parent

TOKEN, HOSTS = "CYTOSEG_REVIEW_TOKEN", "CYTOSEG_REVIEW_HOSTS"
"""Environment variables with access rules; see cytoseg/workflows/review_links.py."""

# Streamlit was started among the app's own files. Relative paths in a recipe, and in the address of the log, start from
# where `cytoseg review` was.
os.chdir(state.base_folder())

if PARENT_VARIABLE in os.environ:
    exit_with_parent(int(os.environ[PARENT_VARIABLE]))

port = int(st.get_option("server.port"))
hosts = os.environ.get(HOSTS, f"127.0.0.1:{port},localhost:{port},[::1]:{port}").split(",")
# Without a token from `cytoseg review` no request is answered.
token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
guard = Middleware(Guard, token=token, hosts=hosts, port=port)
app = st.App("app.py", routes=[*tiles.ROUTES, *exports.ROUTES, *outlines.ROUTES], middleware=[guard])
