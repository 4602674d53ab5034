"""The answer to a change that is on its way to the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

_lock = threading.Lock()  # held for a few instructions at a time: one for all is enough


class Pending(Generic[T]):
    """Settled once: with a value when the change is durable, or with the error that kept it from being so."""

    __slots__ = ("_callbacks", "_error", "_settled", "_value")

    def __init__(self) -> None:
        self._settled = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Pending[T]], None]] = []

    @classmethod
    def of(cls, value: T) -> Pending[T]:
        """One that is settled already."""
        self = cls()
        self.settle(value)
        return self

    def settle(self, value: T) -> None:
        """It is durable."""
        self._value = value
        self._finish()

    def fail(self, error: BaseException) -> None:
        """It is not, and will not be."""
        self._error = error
        self._finish()

    def _finish(self) -> None:
        with _lock:
            self._settled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    @property
    def settled(self) -> bool:
        """Whether the outcome is known."""
        return self._settled

    def add_done_callback(self, callback: Callable[[Pending[T]], None]) -> None:
        """Calls back once settled: at once if it is, else from the thread that settles it."""
        with _lock:
            if not self._settled:
                self._callbacks.append(callback)
                return
        callback(self)

    def result(self, timeout: float | None = None) -> T:
        """Waits; `timeout` in seconds (TimeoutError). Raises the error that kept the change from being durable."""
        if not self._settled:
            event = threading.Event()
            self.add_done_callback(lambda _: event.set())
            if not event.wait(timeout):
                raise TimeoutError("the change is not durable yet")
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # settled without an error: it was given

    def then(self, make: Callable[[T], U]) -> Pending[U]:
        """The same moment, another value."""
        after: Pending[U] = Pending()

        def settle(before: Pending[T]) -> None:
            if before._error is not None:
                after.fail(before._error)
                return
            try:
                value = make(before._value)  # type: ignore[arg-type]
            except BaseException as error:  # noqa: BLE001  (whatever it is, it is raised again by result())
                after.fail(error)
            else:
                after.settle(value)

        self.add_done_callback(settle)
        return after
