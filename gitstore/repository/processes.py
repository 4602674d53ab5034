"""When the machine and its processes began (proc(5)): what tells a process from a later one with the same number."""

from __future__ import annotations

import os


def booted() -> float:
    """When the machine was started, seconds since 1970; 0 where the system does not say."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return next((float(line.split()[1]) for line in file if line.startswith("btime ")), 0.0)
    except OSError:
        return 0.0


def began(pid: int) -> float | None:
    """When the process that has this number now was started, seconds since 1970; None where there is none, or it has
    ended and only nobody asked yet how.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return booted() + int(fields[18]) / os.sysconf("SC_CLK_TCK") if state not in (b"Z", b"X") else None
