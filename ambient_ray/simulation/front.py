"""A front that grows point by point, with its hypervolume."""

from bisect import bisect_left


class Front:
    """A front of two objectives that grows point by point.

    Args:
        reference: bounds the hypervolume; points that do not beat it on both counts are no part of the front.
    """

    def __init__(self, reference: tuple[float, float]) -> None:
        self._reference = reference
        self.points: list[tuple[float, float]] = []
        self.hypervolume = 0.0

    def add(self, point: tuple[float, float]) -> None:
        """Take in a point, both objectives minimised."""
        if not (point[0] < self._reference[0] and point[1] < self._reference[1]):
            return
        at = bisect_left(self.points, point)
        if (at and self.points[at - 1][1] <= point[1]) or (at < len(self.points) and self.points[at] == point):
            return
        beyond = at
        while beyond < len(self.points) and self.points[beyond][1] >= point[1]:
            beyond += 1
        self.points[at:beyond] = [point]
        ends = [x for x, _ in self.points[1:]] + [self._reference[0]]
        self.hypervolume = sum(
            (end - x) * (self._reference[1] - y) for (x, y), end in zip(self.points, ends, strict=True)
        )
