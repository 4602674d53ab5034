"""Waiting for descriptors, also for those with a number that select(2) does not take."""

from __future__ import annotations

import fcntl
import os
import resource
import socket

import pytest

from gitstore.search.ready import ready


def test_what_is_ready_and_what_has_ended() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            assert ready([ours], [], 0) == ([], [])
            assert ready([ours], [ours], 0) == ([], [ours])
            theirs.sendall(b"x")
            assert ready([ours, theirs], [], 1.0) == ([ours], [])
        ours.recv(1)
        assert ready([ours], [], 1.0)[0] == [ours]


def test_a_descriptor_beyond_what_select_takes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this machine does not let a process open 4,096 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 2000)
    try:
        assert high >= 2000
        assert ready([high], [], 0) == ([], [])
        os.write(writer, b"x")
        assert ready([high], [], 1.0) == ([high], [])
    finally:
        for one in (reader, writer, high):
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
