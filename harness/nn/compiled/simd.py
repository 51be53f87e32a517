"""The vector primitives of `ink.py` and `ink_layer.py`: sums of weighted rows, kept in registers.

They are written as LLVM instructions. A plain loop runs at a third of the speed: it stores and
loads the sums for every row, because the compiler cannot know that the two matrices do not overlap.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16  # floats in one vector; LLVM splits it if registers are shorter
WIDE = 8 * LANES  # columns whose sums stay in registers
GROUP = 4  # adjacent pixels (rows of weights) that are processed at a time
BLOCK = 4 * LANES  # columns of GROUP rows whose sums stay in registers


VECTOR, INTEGER = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)
CONTRACT = ("contract", "nsz")


def row_adder(vectors: int, lines: int) -> Any:
    """Make a compiled function for `vectors` * LANES columns, called with

        (out, line, start, first, rows, index, value, begin, end, column)

    out[line + q] = start[first] + sum over begin <= k < end of value[lines k + q] rows[index[k]]
    for q < lines, in the columns from `column` on. out (n, W), start (l, W) and rows (m, W)
    float32; index int32; value float32. `out` may be `start`.
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
            initial = [
                build.load(address, align=4)
                for address in _vectors(build, start, first, column, vectors)
            ]
            sums = [[cgutils.alloca_once(build, VECTOR) for _ in initial] for _ in range(lines)]
            for group in sums:
                for total, one in zip(group, initial, strict=True):
                    build.store(one, total)
            with cgutils.for_range_slice(build, begin, end, INTEGER(1)) as (k, _):
                row, factors = _terms(build, index, value, k, lines)
                for v, address in enumerate(_vectors(build, rows, row, column, vectors)):
                    term = build.load(address, align=4)
                    for group, factor in zip(sums, factors, strict=True):
                        product = build.fmul(term, factor, flags=CONTRACT)
                        total = build.fadd(build.load(group[v]), product, flags=CONTRACT)
                        build.store(total, group[v])
            for q, group in enumerate(sums):
                addresses = _vectors(build, out, build.add(line, INTEGER(q)), column, vectors)
                for total, address in zip(group, addresses, strict=True):
                    build.store(build.load(total), address, align=4)
            return context.get_dummy_value()

        return signature, code

    return add


def row_spreader(vectors: int, lines: int) -> Any:
    """Make a compiled function for `vectors` * LANES columns, called with

        (out, to, rows, first, column, index, value, begin, end)

    out[index[k]] += sum over q < lines of value[lines k + q] rows[first + q], for begin <= k < end,
    in the columns of `out` from `to` on and of `rows` from `column` on. out (n, W), rows (m, V)
    float32; index int32; value float32. The last row is used in place of rows beyond the end.
    """

    @intrinsic
    def spread(
        context: Any, out: Any, to: Any, rows: Any, first: Any, column: Any, index: Any,
        value: Any, begin: Any, end: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        of_rows = rows, number, number, index, value, number, number
        signature = types.void(out, number, *of_rows)

        def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            out, rows, index, value = (
                argument(context, build, signature, arguments, a) for a in (0, 2, 5, 6)
            )
            to, first, column, begin, end = (arguments[a] for a in (1, 3, 4, 7, 8))
            last = build.sub(cgutils.unpack_tuple(build, rows.shape, 2)[0], INTEGER(1))
            terms = []
            for q in range(lines):
                row = build.add(first, INTEGER(q))
                row = build.select(build.icmp_signed("<", row, last), row, last)
                addresses = _vectors(build, rows, row, column, vectors)
                terms.append([build.load(address, align=4) for address in addresses])
            with cgutils.for_range_slice(build, begin, end, INTEGER(1)) as (k, _):
                line, factors = _terms(build, index, value, k, lines)
                for v, address in enumerate(_vectors(build, out, line, to, vectors)):
                    total = build.load(address, align=4)
                    for own, factor in zip(terms, factors, strict=True):
                        product = build.fmul(own[v], factor, flags=CONTRACT)
                        total = build.fadd(total, product, flags=CONTRACT)
                    build.store(total, address, align=4)
            return context.get_dummy_value()

        return signature, code

    return spread


def argument(context: Any, build: Any, signature: Any, arguments: Any, number: int) -> Any:
    """The argument with this number, which is an array."""
    return context.make_array(signature.args[number])(context, build, arguments[number])


def _vectors(build: Any, array: Any, row: Any, column: Any, count: int) -> list[Any]:
    """The addresses of `count` adjacent vectors in a row of an array, from a column on."""
    width = cgutils.unpack_tuple(build, array.shape, 2)[1]
    begin = build.gep(array.data, [build.add(build.mul(row, width), column)])
    address = build.bitcast(begin, VECTOR.as_pointer())
    return [build.gep(address, [INTEGER(number)]) for number in range(count)]


def _terms(build: Any, index: Any, value: Any, k: Any, count: int) -> tuple[Any, list[Any]]:
    """index[k] as an integer, and value[count k + q] in all lanes of a vector for q < count."""
    row = build.zext(build.load(build.gep(index.data, [k])), INTEGER)
    begin = build.mul(k, INTEGER(count))
    factors = []
    for q in range(count):
        one = build.load(build.gep(value.data, [build.add(begin, INTEGER(q))]))
        factor = ir.Constant(VECTOR, ir.Undefined)
        for lane in range(LANES):
            factor = build.insert_element(factor, one, ir.IntType(32)(lane))
        factors.append(factor)
    return row, factors


add_wide, add_narrow = row_adder(WIDE // LANES, 1), row_adder(1, 1)
add_row = row_adder(BLOCK // LANES, 1)
add_group, add_group_narrow = row_adder(BLOCK // LANES, GROUP), row_adder(1, GROUP)
spread_group, spread_group_narrow = row_spreader(BLOCK // LANES, GROUP), row_spreader(1, GROUP)
