"""A bounded memory of the values made last, shared by threads: what the gate remembers between calls."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any


class Memory:
    """The longest unused values are forgotten over ``size_max``."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._values: OrderedDict[Any, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Any) -> Any:
        """The value of a key, or None."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Any, value: Any) -> None:
        """Remember a value; the one that was longest unused goes where there are too many."""
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size_max:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._values.clear()
