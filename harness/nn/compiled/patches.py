"""The vector primitives of `convolution.py`, written as LLVM instructions like those of `simd.py`.

Images are arrays of one dimension here. A patch is given by the offset of its first number; the
other numbers are at fixed distances from it. Vectors are parts of rows: HALF or FULL channels, or
HALF numbers of a patch.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from harness.nn.compiled.simd import CONTRACT, INTEGER, argument

TILE = 8  # positions whose sums stay in registers
HALF, FULL = 8, 16  # floats in one vector
REAL, INDEX = ir.FloatType(), ir.IntType(32)


def tiler(lanes: int) -> Any:
    """Make a compiled function for `lanes` channels and TILE positions, called with

        (out, images, weights, bias, positions, first, distances, column)

    out[n] = bias + sum over t of images[positions[n] + distances[t]] weights[t], for first <= n <
    first + TILE, in the columns from `column` on. out (n, W), weights (t, W), bias (W,).
    """

    @intrinsic
    def tile(
        context: Any, out: Any, images: Any, weights: Any, bias: Any, positions: Any, first: Any,
        distances: Any, column: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        arrays = out, images, weights, bias, positions
        signature = types.void(*arrays, number, distances, number)

        def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            out, images, weights, bias, positions, distances = (
                argument(context, build, signature, arguments, a) for a in (0, 1, 2, 3, 4, 6)
            )
            first, column = arguments[5], arguments[7]
            kind = ir.VectorType(REAL, lanes)
            numbers = [build.add(first, INTEGER(n)) for n in range(TILE)]
            patches = [
                build.gep(images.data, [_load(build, positions, number)]) for number in numbers
            ]
            sums = [cgutils.alloca_once(build, kind) for _ in numbers]
            start = build.load(_vector(build, bias.data, column, kind), align=4)
            for total in sums:
                build.store(start, total)
            width = cgutils.unpack_tuple(build, weights.shape, 2)[1]
            count = cgutils.unpack_tuple(build, distances.shape, 1)[0]
            with cgutils.for_range_slice(build, INTEGER(0), count, INTEGER(1)) as (t, _):
                distance = _load(build, distances, t)
                place = build.add(build.mul(t, width), column)
                weight = build.load(_vector(build, weights.data, place, kind), align=4)
                for patch, total in zip(patches, sums, strict=True):
                    one = build.load(build.gep(patch, [distance]))
                    _add_product(build, total, _spread(build, one, kind), weight)
            for number, total in zip(numbers, sums, strict=True):
                place = build.add(build.mul(number, width), column)
                build.store(build.load(total), _vector(build, out.data, place, kind), align=4)
            return context.get_dummy_value()

        return signature, code

    return tile


def pooler(lanes: int) -> Any:
    """Make a compiled function for `lanes` channels, called with

        (out, where, line, rows, positions, first, count, column)

    out[line] = the largest of `count` rows from `first` on, and where[line] the position of the
    first largest one, in the columns from `column` on. out, where and rows (n, W).
    """

    @intrinsic
    def pool(
        context: Any, out: Any, where: Any, line: Any, rows: Any, positions: Any, first: Any,
        count: Any, column: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        signature = types.void(out, where, number, rows, positions, number, number, number)

        def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            out, where, rows, positions = (
                argument(context, build, signature, arguments, a) for a in (0, 1, 3, 4)
            )
            line, first, count, column = (arguments[a] for a in (2, 5, 6, 7))
            width = cgutils.unpack_tuple(build, rows.shape, 2)[1]
            kind, places = ir.VectorType(REAL, lanes), ir.VectorType(INDEX, lanes)
            top, place = cgutils.alloca_once(build, kind), cgutils.alloca_once(build, places)

            def row(n: Any) -> tuple[Any, Any]:
                begin = build.add(build.mul(n, width), column)
                values = build.load(_vector(build, rows.data, begin, kind), align=4)
                position = build.load(build.gep(positions.data, [n]))
                return values, _spread(build, position, places)

            for value, memory in zip(row(first), (top, place), strict=True):
                build.store(value, memory)
            end = build.add(first, count)
            second = build.add(first, INTEGER(1))
            with cgutils.for_range_slice(build, second, end, INTEGER(1)) as (n, _):
                values, position = row(n)
                larger = build.fcmp_ordered(">", values, build.load(top))
                build.store(build.select(larger, values, build.load(top)), top)
                build.store(build.select(larger, position, build.load(place)), place)
            begin = build.add(build.mul(line, width), column)
            build.store(build.load(top), _vector(build, out.data, begin, kind), align=4)
            build.store(build.load(place), _vector(build, where.data, begin, places), align=4)
            return context.get_dummy_value()

        return signature, code

    return pool


def gatherer(vectors: int, channels: int) -> Any:
    """Make a compiled function for `vectors` parts of a patch and `channels` channels, called with

        (out, images, where, values, channel, distances, part)

    out[channel, part] += sum over n of values[n, channel] times the vector at where[n, channel] +
    distances[part], for each of the parts and channels from `part` and `channel` on. out has rows
    of as many vectors as `distances`; where and values (n, W).
    """

    @intrinsic
    def gather(
        context: Any, out: Any, images: Any, where: Any, values: Any, channel: Any,
        distances: Any, part: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        signature = types.void(out, images, where, values, number, distances, number)

        def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            out, images, where, values, distances = (
                argument(context, build, signature, arguments, a) for a in (0, 1, 2, 3, 5)
            )
            channel, part = arguments[4], arguments[6]
            kind = ir.VectorType(REAL, HALF)
            own = [build.add(channel, INTEGER(number)) for number in range(channels)]
            own_parts = [build.add(part, INTEGER(number)) for number in range(vectors)]
            places = [_load(build, distances, each) for each in own_parts]
            columns = cgutils.unpack_tuple(build, out.shape, 2)[1]
            count, width = cgutils.unpack_tuple(build, values.shape, 2)
            addresses = [
                _vector(
                    build, out.data,
                    build.add(build.mul(each, columns), build.mul(one, INTEGER(HALF))), kind,
                )
                for each in own
                for one in own_parts
            ]  # fmt: skip
            sums = [cgutils.alloca_once(build, kind) for _ in addresses]
            for address, total in zip(addresses, sums, strict=True):
                build.store(build.load(address, align=4), total)
            with cgutils.for_range_slice(build, INTEGER(0), count, INTEGER(1)) as (n, _):
                rest = iter(sums)
                for each in own:
                    place = build.add(build.mul(n, width), each)
                    value = _spread(build, build.load(build.gep(values.data, [place])), kind)
                    patch = build.gep(images.data, [_load(build, where, place)])
                    for distance in places:
                        vector = build.load(_vector(build, patch, distance, kind), align=4)
                        _add_product(build, next(rest), value, vector)
            for address, total in zip(addresses, sums, strict=True):
                build.store(build.load(total), address, align=4)
            return context.get_dummy_value()

        return signature, code

    return gather


def scatterer(vectors: int) -> Any:
    """Make a compiled function for `vectors` parts of a patch, called with

        (images, where, values, channel, weights, distances, part)

    The vector at where[n, channel] + distances[part] += values[n, channel] weights[channel, part],
    for all n and each of the parts from `part` on. weights has rows of as many vectors as
    `distances`; where and values (n, W).
    """

    @intrinsic
    def scatter(
        context: Any, images: Any, where: Any, values: Any, channel: Any, weights: Any,
        distances: Any, part: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        signature = types.void(images, where, values, number, weights, distances, number)

        def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            images, where, values, weights, distances = (
                argument(context, build, signature, arguments, a) for a in (0, 1, 2, 4, 5)
            )
            channel, part = arguments[3], arguments[6]
            kind = ir.VectorType(REAL, HALF)
            parts = [build.add(part, INTEGER(number)) for number in range(vectors)]
            places = [_load(build, distances, each) for each in parts]
            columns = cgutils.unpack_tuple(build, weights.shape, 2)[1]
            count, width = cgutils.unpack_tuple(build, values.shape, 2)
            row = build.mul(channel, columns)
            own = [
                build.load(
                    _vector(
                        build, weights.data, build.add(row, build.mul(each, INTEGER(HALF))), kind
                    ),
                    align=4,
                )
                for each in parts
            ]
            with cgutils.for_range_slice(build, INTEGER(0), count, INTEGER(1)) as (n, _):
                place = build.add(build.mul(n, width), channel)
                value = _spread(build, build.load(build.gep(values.data, [place])), kind)
                patch = build.gep(images.data, [_load(build, where, place)])
                for distance, weight in zip(places, own, strict=True):
                    address = _vector(build, patch, distance, kind)
                    product = build.fmul(value, weight, flags=CONTRACT)
                    total = build.fadd(build.load(address, align=4), product, flags=CONTRACT)
                    build.store(total, address, align=4)
            return context.get_dummy_value()

        return signature, code

    return scatter


def _load(build: Any, array: Any, number: Any) -> Any:
    """Load a number of an int32 array as an index."""
    return build.sext(build.load(build.gep(array.data, [number])), INTEGER)


def _vector(build: Any, data: Any, place: Any, kind: Any) -> Any:
    """The address of a vector that begins at a place of `data`."""
    return build.bitcast(build.gep(data, [place]), kind.as_pointer())


def _spread(build: Any, one: Any, kind: Any) -> Any:
    """A number in all lanes of a vector."""
    vector = ir.Constant(kind, ir.Undefined)
    for lane in range(kind.count):
        vector = build.insert_element(vector, one, INDEX(lane))
    return vector


def _add_product(build: Any, total: Any, left: Any, right: Any) -> None:
    """Add a product of vectors to a sum in memory, which the compiler keeps in a register."""
    product = build.fmul(left, right, flags=CONTRACT)
    build.store(build.fadd(build.load(total), product, flags=CONTRACT), total)


tile_half, tile_full = tiler(HALF), tiler(FULL)
pool_half, pool_full = pooler(HALF), pooler(FULL)
gather3, gather9 = gatherer(3, 4), gatherer(9, 1)
scatter3, scatter9 = scatterer(3), scatterer(9)
