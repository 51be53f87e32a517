"""Matrix products with images over their ink only: the few pixels that are not background.

Four fifths of MNIST's pixels are 0, so products with images, such as x W or x^T delta, skip them.
They use the list of an image's ink pixels, or the list of the images that have ink at a pixel or in
a group of GROUP adjacent pixels. Ink pixels are adjacent: the 9,800 ink pixels of 64 MNIST images
are in 3,600 groups of four.
"""

from typing import Any

import numba

from harness.nn.compiled.dense import COMPILED, KERNEL, F
from harness.nn.compiled.simd import GROUP, LANES, WIDE, add_narrow, add_wide


@numba.njit(**COMPILED)
def list_ink(words: Any, image: Any, index: Any, value: Any, scale: Any) -> Any:
    """List the ink of one image without a branch per pixel. Returns its count and the sum of a u.

    image: (D,) uint8. words: the same memory as uint64, without the last D % 8 pixels. Writes index
    and value (D + 1,), the positions of ink and a u.
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

    The number of columns of `out` and `rows` is a multiple of LANES.
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

    index, value: the lists of the examples, D + 1 apart. ends (B,): where each list ends. Writes
    who and much, the examples and values of all pixels, and starts (D + 2,): those of pixel p are
    at starts[p] up to starts[p + 1].
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


@numba.njit(**KERNEL)
def list_groups(
    images: Any, words: Any, scale: Any, who: Any, much: Any, counts: Any, active: Any,
    number: int, begin: int, end: int,
) -> None:  # fmt: skip
    """List the images that have ink in each group of GROUP pixels, for some words of 8 pixels.

    images: (B, D) uint8 or float32. words: the same memory as uint64, (B, D / 8) or (B, D / 2), or
    (B, 0). Writes, for group q and k < counts[q], the image who[q B + k] and its GROUP values a u
    from much[GROUP (q B + k)] on. who (P B + 1,), much (GROUP (P B + 1),), counts (P,) with P =
    D / GROUP rounded up. active (threads, B + 1) int32: scratch space.
    """
    batch, pixels = images.shape
    own, each = active[number], images.itemsize
    for w in range(begin, end):
        inked = 0
        if words.size:
            for i in range(batch):
                own[inked] = i
                bits = words[i, w * each]
                for part in range(1, each):
                    bits |= words[i, w * each + part]
                inked += bits != 0
        else:
            for i in range(batch):
                own[i] = i
            inked = batch
        for p in range(8 * w, min(8 * w + 8, pixels), GROUP):
            first = k = p // GROUP * batch
            for a in range(inked):
                i = own[a]
                who[k] = i
                is_ink = False
                for q in range(GROUP):
                    u = F(images[i, p + q]) if p + q < pixels else F(0)
                    much[GROUP * k + q] = scale * u
                    is_ink |= u != 0
                k += is_ink
            counts[p // GROUP] = k - first
