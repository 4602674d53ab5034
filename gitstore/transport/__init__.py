"""Git's protocol as a server speaks it, without HTTP: what a fetch is sent, and what becomes of a push.

`Git` is the git program of this machine, or none; `fetch` serves what a clone, fetch or pull asks for; `push` takes
in what is pushed. Both are fed with the bytes of a request and give the bytes of an answer.
"""

from gitstore.transport.git import Git, Limits
from gitstore.transport.lines import error

__all__ = ["Git", "Limits", "error"]
