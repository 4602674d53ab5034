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
    """When the process that has this number now was started, seconds since 1970; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return None
    return booted() + ticks / os.sysconf("SC_CLK_TCK")
