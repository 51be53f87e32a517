"""Matrix products inside compiled kernels, with the BLAS that NumPy loaded.

A kernel that calls BLAS itself computes several layers without returning to Python. If NumPy's BLAS
exports no `cblas_sgemm`, such as Apple's Accelerate, products are plain loops: the same numbers up
to rounding, several times slower.
"""

import ctypes
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from harness.nn.compiled.dense import COMPILED, F

PREFIXES, SUFFIXES = ("", "scipy_"), ("", "64_", "_64_", "_64")
ROW_MAJOR = 101  # of CBLAS_ORDER
# Values of CBLAS_TRANSPOSE, as NumPy integers: Python constants would recompile `product`.
AS_IS, TURNED = np.int64(111), np.int64(112)


@cache
def sgemm() -> int:
    """The address of `cblas_sgemm` of the BLAS that NumPy uses; 0 if there is none."""
    from threadpoolctl import ThreadpoolController

    assert np.dot is not None  # loads BLAS
    libraries = [one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"]
    for library in sorted(libraries, key=lambda one: "numpy" not in one.filepath):
        for name in (f"{prefix}cblas_sgemm{suffix}" for prefix in PREFIXES for suffix in SUFFIXES):
            function = getattr(library.dynlib, name, None)
            if function is not None:
                return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


@intrinsic
def _call(
    context: Any, address: Any, turned_a: Any, turned_b: Any, m: Any, n: Any, k: Any, alpha: Any,
    a: Any, at_a: Any, lda: Any, b: Any, at_b: Any, ldb: Any, beta: Any, c: Any, at_c: Any,
    ldc: Any,
) -> Any:  # fmt: skip
    """Call cblas_sgemm with 64-bit integers; a library with 32-bit integers reads half of each."""
    number, real = types.int64, types.float32
    signature = types.void(
        number, number, number, number, number, number, real,
        a, number, number, b, number, number, real, c, number, number,
    )  # fmt: skip

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        (address, turned_a, turned_b, m, n, k, alpha, _, at_a, lda, _, at_b, ldb, beta, _, at_c,
         ldc) = arguments  # fmt: skip
        long, single = ir.IntType(64), ir.FloatType()
        pointers = []
        for number, at in ((7, at_a), (10, at_b), (14, at_c)):
            array = context.make_array(signature.args[number])(context, build, arguments[number])
            pointers.append(build.gep(array.data, [at]))
        pointer = single.as_pointer()
        kinds = (long, long, long, long, long, long, single, pointer, long, pointer, long, single,
                 pointer, long)  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), kinds)
        function = build.inttoptr(address, kind.as_pointer())
        build.call(function, [
            long(ROW_MAJOR), turned_a, turned_b, m, n, k, alpha, pointers[0], lda, pointers[1], ldb,
            beta, pointers[2], ldc,
        ])  # fmt: skip
        return context.get_dummy_value()

    return signature, code


call: Any = _call  # typed as compiled code calls it, without the context


@numba.njit(**COMPILED)
def product(
    address: int, of_a: int, of_b: int, m: int, n: int, k: int, alpha: Any, a: Any,
    at_a: int, lda: int, b: Any, at_b: int, ldb: int, beta: Any, c: Any, at_c: int, ldc: int,
) -> None:  # fmt: skip
    """C = alpha A B + beta C with A (m, k), B (k, n) and C (m, n), all float32.

    address: the result of `sgemm`. Each matrix is in an array of one dimension, beginning at at_...
    with rows ld... apart. of_a, of_b: AS_IS, or TURNED if the matrix is stored transposed.
    """
    if address != 0:
        call(address, of_a, of_b, m, n, k, alpha, a, at_a, lda, b, at_b, ldb, beta, c,
             at_c, ldc)  # fmt: skip
        return
    for i in range(m):
        row = c[at_c + i * ldc : at_c + i * ldc + n]
        for j in range(n):
            row[j] = beta * row[j] if beta != 0 else F(0)
        for q in range(k):
            x = alpha * (a[at_a + q * lda + i] if of_a == TURNED else a[at_a + i * lda + q])
            if of_b == TURNED:
                for j in range(n):
                    row[j] += x * b[at_b + j * ldb + q]
            else:
                for j in range(n):
                    row[j] += x * b[at_b + q * ldb + j]
