"""How long the parts of an operation take."""

import time


class Stopwatch:
    """Names the parts of a stretch of time as they end."""

    def __init__(self) -> None:
        """Starts now."""
        self.phases_ns: dict[str, int] = {}
        self._last_ns = time.monotonic_ns()

    def mark(self, name: str) -> None:
        """The part that ends now."""
        now_ns = time.monotonic_ns()
        self.phases_ns[name] = now_ns - self._last_ns
        self._last_ns = now_ns
