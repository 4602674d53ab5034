"""Large objects, kept as Git LFS keeps them: a pointer in the tree, the bytes in a file named by their SHA-256."""

from gitstore.lfs.objects import Objects, Sink
from gitstore.lfs.pointer import POINTER_MAX, Pointer

__all__ = ["POINTER_MAX", "Objects", "Pointer", "Sink"]
