"""The vector primitives of `ink.py`: sums of weighted rows, kept in registers.

They are written as LLVM instructions. A plain loop has a third of the speed: it stores and loads
the sums for every row, because the compiler cannot know that the two matrices do not overlap.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16  # floats in one vector; LLVM splits it where registers are shorter
WIDE = 8 * LANES  # columns whose sums stay in registers


VECTOR, INTEGER = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)
CONTRACT = ("contract", "nsz")


def row_adder(vectors: int) -> Any:
    """Make a compiled function for `vectors` * LANES columns, called with

        (out, line, start, first, rows, index, value, begin, end, column)

    out[line] = start[first] + sum over begin <= k < end of value[k] rows[index[k]], in the columns
    from `column` on. out (n, W), start (l, W) and rows (m, W) float32; index int32; value float32.
    `out` may be `start`.
    """

    @intrinsic
    def add(
        context: Any, out: Any, line: Any, start: Any, first: Any, rows: Any, index: Any,
        value: Any, begin: Any, end: Any, column: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        of_rows = rows, index, value, number, number, number
        signature = types.void(out, number, start, number, *of_rows)

        def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            out, start, rows, index, value = (
                argument(context, build, signature, arguments, a) for a in (0, 2, 4, 5, 6)
            )
            line, first = arguments[1], arguments[3]
            begin, end, column = arguments[7:]
            sums = [cgutils.alloca_once(build, VECTOR) for _ in range(vectors)]
            for total, address in zip(
                sums, _vectors(build, start, first, column, vectors), strict=True
            ):
                build.store(build.load(address, align=4), total)
            with cgutils.for_range_slice(build, begin, end, INTEGER(1)) as (k, _):
                row, factor = _pair(build, index, value, k)
                addresses = _vectors(build, rows, row, column, vectors)
                for total, address in zip(sums, addresses, strict=True):
                    product = build.fmul(build.load(address, align=4), factor, flags=CONTRACT)
                    build.store(build.fadd(build.load(total), product, flags=CONTRACT), total)
            for total, address in zip(
                sums, _vectors(build, out, line, column, vectors), strict=True
            ):
                build.store(build.load(total), address, align=4)
            return context.get_dummy_value()

        return signature, code

    return add


def row_spreader(vectors: int) -> Any:
    """Make a compiled function for `vectors` * LANES columns, called with

        (out, to, rows, row, column, index, value, begin, end)

    out[index[k]] += value[k] rows[row] for begin <= k < end: the columns of `out` from `to` on and
    those of `rows` from `column` on. out (n, W), rows (m, V) float32; index int32; value float32.
    """

    @intrinsic
    def spread(
        context: Any, out: Any, to: Any, rows: Any, row: Any, column: Any, index: Any, value: Any,
        begin: Any, end: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        of_rows = rows, number, number, index, value, number, number
        signature = types.void(out, number, *of_rows)

        def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            out, rows, index, value = (
                argument(context, build, signature, arguments, a) for a in (0, 2, 5, 6)
            )
            to, row, column, begin, end = (arguments[a] for a in (1, 3, 4, 7, 8))
            addresses = _vectors(build, rows, row, column, vectors)
            own = [build.load(address, align=4) for address in addresses]
            with cgutils.for_range_slice(build, begin, end, INTEGER(1)) as (k, _):
                line, factor = _pair(build, index, value, k)
                addresses = _vectors(build, out, line, to, vectors)
                for mine, address in zip(own, addresses, strict=True):
                    product = build.fmul(mine, factor, flags=CONTRACT)
                    total = build.fadd(build.load(address, align=4), product, flags=CONTRACT)
                    build.store(total, address, align=4)
            return context.get_dummy_value()

        return signature, code

    return spread


def argument(context: Any, build: Any, signature: Any, arguments: Any, number: int) -> Any:
    """An argument that is an array."""
    return context.make_array(signature.args[number])(context, build, arguments[number])


def _vectors(build: Any, array: Any, row: Any, column: Any, count: int) -> list[Any]:
    """The addresses of `count` adjacent vectors in a row of an array, from a column on."""
    width = cgutils.unpack_tuple(build, array.shape, 2)[1]
    begin = build.gep(array.data, [build.add(build.mul(row, width), column)])
    address = build.bitcast(begin, VECTOR.as_pointer())
    return [build.gep(address, [INTEGER(number)]) for number in range(count)]


def _pair(build: Any, index: Any, value: Any, k: Any) -> tuple[Any, Any]:
    """index[k] as an integer, and value[k] in all lanes of a vector."""
    row = build.zext(build.load(build.gep(index.data, [k])), INTEGER)
    one = build.load(build.gep(value.data, [k]))
    factor = ir.Constant(VECTOR, ir.Undefined)
    for lane in range(LANES):
        factor = build.insert_element(factor, one, ir.IntType(32)(lane))
    return row, factor


add_wide, add_narrow = row_adder(WIDE // LANES), row_adder(1)
spread_wide, spread_narrow = row_spreader(WIDE // LANES), row_spreader(1)
