"""Repositories on other hosts: whether one can be read, asked in the way that gives a hostile host nothing.

`verify_access` is the door; `AccessReport` its answer; `Ssh` says how ssh addresses are to be reached.
"""

from gitstore.remotes.access import verify_access
from gitstore.remotes.report import REASONS, AccessReport, Reason
from gitstore.remotes.ssh import Ssh
from gitstore.remotes.url import same_server

__all__ = ["REASONS", "AccessReport", "Reason", "Ssh", "same_server", "verify_access"]
