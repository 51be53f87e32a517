"""The vector primitive of `ink.py`: a weighted sum of rows that stays in registers.

It is written as LLVM instructions. A plain loop has a third of the speed: it stores and loads the
sums for every row, because the compiler cannot know that the two matrices do not overlap.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16  # floats in one vector; LLVM splits it where registers are shorter
WIDE = 8 * LANES  # columns whose sums stay in registers


def row_adder(vectors: int) -> Any:
    """Make `add(out, line, rows, index, value, begin, end, column)` for `vectors` * LANES columns.

    out[line] += sum over begin <= k < end of value[k] rows[index[k]], in the columns from `column`
    on. out (n, W) and rows (m, W) float32, with W a multiple of LANES; index int32; value float32.
    """
    vector, integer = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)
    contract = ("contract", "nsz")

    @intrinsic
    def add(
        context: Any, out: Any, line: Any, rows: Any, index: Any, value: Any, begin: Any, end: Any,
        column: Any,
    ) -> Any:  # fmt: skip
        number = types.intp
        signature = types.void(out, number, rows, index, value, number, number, number)

        def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            out, rows, index, value = (
                context.make_array(kinds[a])(context, build, arguments[a]) for a in (0, 2, 3, 4)
            )
            _, line, _, _, _, begin, end, column = arguments
            width = cgutils.unpack_tuple(build, rows.shape, 2)[1]

            def vectors_of(array: Any, row: Any) -> list[Any]:
                start = build.gep(array.data, [build.add(build.mul(row, width), column)])
                first = build.bitcast(start, vector.as_pointer())
                return [build.gep(first, [integer(q)]) for q in range(vectors)]

            sums = [cgutils.alloca_once(build, vector) for _ in range(vectors)]
            for total, address in zip(sums, vectors_of(out, line), strict=True):
                build.store(build.load(address, align=4), total)
            with cgutils.for_range_slice(build, begin, end, integer(1)) as (k, _):
                row = build.zext(build.load(build.gep(index.data, [k])), integer)
                one = build.load(build.gep(value.data, [k]))
                factor = ir.Constant(vector, ir.Undefined)
                for lane in range(LANES):
                    factor = build.insert_element(factor, one, ir.IntType(32)(lane))
                for total, address in zip(sums, vectors_of(rows, row), strict=True):
                    product = build.fmul(build.load(address, align=4), factor, flags=contract)
                    build.store(build.fadd(build.load(total), product, flags=contract), total)
            for total, address in zip(sums, vectors_of(out, line), strict=True):
                build.store(build.load(total), address, align=4)
            return context.get_dummy_value()

        return signature, code

    return add


add_wide, add_narrow = row_adder(WIDE // LANES), row_adder(1)
