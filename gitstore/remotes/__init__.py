"""Repositories on other hosts, asked and exchanged with in the way that gives a hostile host nothing.

`verify_access` finds out whether one can be read; `AccessReport` is its answer. `exchange` fetches and pushes; `Means`
says with what, `Ssh` how ssh addresses are to be reached.
"""

from gitstore.remotes.access import verify_access
from gitstore.remotes.exchange import Means
from gitstore.remotes.report import REASONS, AccessReport, Reason
from gitstore.remotes.ssh import Ssh
from gitstore.remotes.url import same_server

__all__ = ["REASONS", "AccessReport", "Means", "Reason", "Ssh", "same_server", "verify_access"]
