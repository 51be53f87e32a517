"""Sums over the ink of images: the pixels that are not background, which are few.

Four fifths of MNIST's pixels are 0. Of a product with images, as x W or x^T delta, only the ink is
computed: the list of an image's ink, and the list of the images that have ink at a pixel.
"""

from typing import Any

import numba

from harness.nn.compiled.dense import COMPILED, F
from harness.nn.compiled.simd import LANES, WIDE, add_narrow, add_wide


@numba.njit(**COMPILED)
def list_ink(words: Any, image: Any, index: Any, value: Any, scale: Any) -> Any:
    """List the ink of one image without a branch per pixel. Returns its count and the sum of a u.

    image: (D,) uint8, and words: the same memory as uint64, without the last D % 8 pixels. Written:
    index and value (D + 1,), the positions of ink and a u.
    """
    n, total = 0, 0
    for w in range(words.size):
        if words[w] != 0:
            for p in range(8 * w, 8 * w + 8):
                u = image[p]
                index[n] = p
                value[n] = scale * F(u)
                n += u != 0
                total += u
    for p in range(8 * words.size, image.size):
        u = image[p]
        index[n] = p
        value[n] = scale * F(u)
        n += u != 0
        total += u
    return n, scale * F(total)


@numba.njit(**COMPILED)
def add_rows(out: Any, line: int, rows: Any, index: Any, value: Any, begin: int, end: int) -> None:
    """out[line] += sum over begin <= k < end of value[k] rows[index[k]].

    The columns of `out` and `rows` are a multiple of LANES.
    """
    column = 0
    while column + WIDE <= out.shape[1]:
        add_wide(out, line, out, line, rows, index, value, begin, end, column)
        column += WIDE
    while column < out.shape[1]:
        add_narrow(out, line, out, line, rows, index, value, begin, end, column)
        column += LANES


@numba.njit(**COMPILED)
def by_pixel(index: Any, value: Any, ends: Any, starts: Any, who: Any, much: Any) -> None:
    """Turn each example's list of ink into each pixel's list of examples (a counting sort).

    index, value: the lists of the examples, D + 1 apart; ends (B,): where each list ends. Written:
    who and much, the examples and values of all pixels; those of pixel p are at starts[p] up to
    starts[p + 1]; starts: (D + 2,).
    """
    room = index.size // ends.size
    starts[:] = 0
    for i in range(ends.size):
        for k in range(i * room, ends[i]):
            starts[index[k] + 2] += 1
    for p in range(2, starts.size):
        starts[p] += starts[p - 1]
    for i in range(ends.size):
        for k in range(i * room, ends[i]):
            p = index[k] + 1
            who[starts[p]] = i
            much[starts[p]] = value[k]
            starts[p] += 1


@numba.njit(**COMPILED)
def list_pixels(
    images: Any, words: Any, scale: Any, who: Any, much: Any, counts: Any, active: Any
) -> None:
    """List the images that have ink at each pixel.

    images (B, D) uint8, and words (B, D / 8): the same memory as uint64, or (B, 0). Written: of
    pixel p, who[p B + k] and much[p B + k] for k < counts[p], the images and a u; who, much (D B +
    1,), counts (D,). active (B + 1,) int32: scratch.
    """
    batch, pixels = images.shape
    full = words.shape[1]
    for w in range(full):
        inked = 0
        for i in range(batch):
            active[inked] = i
            inked += words[i, w] != 0
        for p in range(8 * w, 8 * w + 8):
            k = p * batch
            for a in range(inked):
                i = active[a]
                u = images[i, p]
                who[k] = i
                much[k] = scale * F(u)
                k += u != 0
            counts[p] = k - p * batch
    for p in range(8 * full, pixels):
        k = p * batch
        for i in range(batch):
            u = images[i, p]
            who[k] = i
            much[k] = scale * F(u)
            k += u != 0
        counts[p] = k - p * batch
