"""Queries about processes through psutil, for systems without /proc."""

import psutil


def exists(pid: int) -> bool:
    """Return whether a process exists. On Windows ``os.kill(pid, 0)`` would send it a Ctrl-C instead."""
    return bool(psutil.pid_exists(pid))


def start_time(pid: int) -> str | None:
    """Return the start time of a process in seconds since 1970; None if it does not exist or has ended."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def command_line(pid: int) -> list[str]:
    """Return program and arguments of a process; empty if it does not exist or access is denied."""
    try:
        return list(psutil.Process(pid).cmdline())
    except psutil.Error:
        return []
