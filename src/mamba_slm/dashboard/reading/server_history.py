"""What a server told while somebody looked: kept in memory for the curves of its page, and forgotten with it."""

from __future__ import annotations

from collections import deque
from typing import Any

from mamba_slm.dashboard.reading.server_metrics import Moment, between

MOST_POINTS = 1200
WINDOW_SECONDS = 60.0
"""What "now" means for rates."""
POINT_SECONDS = 10.0
"""What a point of a curve is about, at least."""


class ServerHistory:
    """Moments of one server, in order."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque()
        self._points: deque[dict[str, Any]] = deque(maxlen=MOST_POINTS)

    @property
    def last(self) -> Moment | None:
        """The latest moment."""
        return self._moments[-1] if self._moments else None

    def add(self, moment: Moment) -> None:
        """One more. Counts that are smaller than before belong to another process: what was before is dropped."""
        if self.last is not None and not moment.is_after(self.last):
            self._moments.clear()
            self._points.clear()
        while len(self._moments) > 1 and self._moments[1].at < moment.at - WINDOW_SECONDS:
            self._moments.popleft()
        earlier = self.before(moment.at - POINT_SECONDS)
        self._moments.append(moment)
        row = between(moment, earlier) if earlier is not None else None
        point = {"at": moment.at, "running": moment.gauges["running"], "waiting": moment.gauges["waiting"]}
        point["requests_per_minute"] = row and row["requests_per_minute"]
        point["new_tokens_per_second"] = row and row["new_tokens_per_second"]
        for name in ("first_token", "token_gap"):
            point[name] = row and row["times"][name]["p95"]
        self._points.append(point)

    def before(self, at: float) -> Moment | None:
        """The latest moment that is not after a time, else the earliest there is."""
        found = None
        for moment in self._moments:
            if found is None or moment.at <= at:
                found = moment
        return found

    def now(self, *, after: float = 0.0) -> dict[str, Any]:
        """The figures of the latest moment, of the last minute and since the start, and the points after a time."""
        last = self.last
        if last is None:
            return {"gauges": None, "minute": None, "start": None, "points": []}
        earlier = self._moments[0]
        return {
            "gauges": dict(last.gauges),
            "minute": between(last, earlier) if earlier is not last else None,
            "start": between(last, None),
            "points": [point for point in self._points if point["at"] > after],
        }
