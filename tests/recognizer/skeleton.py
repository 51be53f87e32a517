"""MNIST digits as pen strokes along their center lines (thinning: Zhang and Suen, 1984)."""

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
AROUND = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]


def thinned(digit: NDArray[np.uint8]) -> set[Point]:
    """The pixels (row, column) of the center lines of a digit (28, 28)."""
    ink = {(int(r), int(c)) for r, c in np.argwhere(digit > 100)}
    while True:
        before = len(ink)
        for first, second in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            gone = []
            for r, c in ink:
                ring = [(r + y, c + x) in ink for y, x in AROUND]
                edges = sum(not a and b for a, b in zip(ring, ring[1:] + ring[:1], strict=True))
                if (
                    2 <= sum(ring) <= 6
                    and edges == 1
                    and not all(ring[i] for i in first)
                    and not all(ring[i] for i in second)
                ):
                    gone.append((r, c))
            ink -= set(gone)
        if len(ink) == before:
            return ink


def strokes(digit: NDArray[np.uint8]) -> list[list[Point]]:
    """The center lines as paths from pixel to pixel; at the end of a branch, the pen goes back."""
    left, paths = thinned(digit), []
    while left:
        ends = [p for p in left if sum((p[0] + y, p[1] + x) in left for y, x in AROUND) == 1]
        path = _walk(min(ends or left), left)
        if len(path) > 1:
            paths.append(path)
    return paths


def _walk(start: Point, left: set[Point]) -> list[Point]:
    path, stack = [start], [start]
    left.discard(start)
    while stack:
        r, c = stack[-1]
        nearest = sorted(AROUND, key=lambda step: abs(step[0]) + abs(step[1]))
        following = next(((r + y, c + x) for y, x in nearest if (r + y, c + x) in left), None)
        if following is None:
            stack.pop()
            if stack and left:
                path.append(stack[-1])
        else:
            left.discard(following)
            stack.append(following)
            path.append(following)
    return path
