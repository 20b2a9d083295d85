"""Sixteen float32 values as one number inside a numba function.

A kernel that is written over `Lanes` compiles to the widest vector instructions of the machine (one AVX-512
register, two of AVX2, four of NEON) without depending on what a compiler can prove about its loops, and rounds
in the same way whatever the instructions are. Arithmetic is `+ - * /` and the functions below.

Numba keeps compiled kernels on disk and renews them when the kernel's own file changes. It does not watch
this file: after an edit here, save the files that use it anew.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16
"""Values in one `Lanes`."""

_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
_INTS = ir.VectorType(ir.IntType(32), WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)

# 2^r = 1 + r p(r) on [-1/2, 1/2]: relative error 9e-9. That it is exact at 0 keeps the error of a decay that is
# nearly 1 in proportion to what it lacks, so that it does not add up over a long memory.
_EXP2 = (0.6931471824645996, 0.24022650718688965, 0.05550356954336166, 0.009618083015084267, 0.0013390863314270973,
         0.00015453163359779865)  # fmt: skip
# log(1 + e) = s q(s^2), s = e / (2 + e), for e in [0, 1]: relative error 8e-9.
_LOG1P = (2.0, 0.6666632294654846, 0.4002459645271301, 0.27965158224105835, 0.28157779574394226)
# Adding this number to one of small magnitude leaves its nearest integer in the low bits.
_ROUNDER = 1.5 * 2.0**23
_LEAST_EXPONENT = -126.0

Function = TypeVar("Function", bound=Callable[..., Any])


# Products and sums may be fused; nothing may be reassociated, because rounding is used on purpose here.
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": {"contract", "nsz"}, "error_model": "numpy"}


def compiled(function: Function) -> Function:
    """A numba function that is compiled once a machine and runs without Python's lock."""
    kernel: Function = numba.njit(**_OPTIONS)(function)
    return kernel


def part(function: Function) -> Function:
    """A piece of a kernel: as `compiled`, but it does not count its references to arrays, which its kernel holds.

    Numba's counters are atomic. Some fifty of them a call took as long as the arithmetic of the states of a chunk, and
    longer on several threads, which count the same arrays.
    """
    piece: Function = numba.njit(**_OPTIONS, _nrt=False)(function)
    return piece


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    # Inside a kernel it is called without the first argument, numba's typing context.
    made: Callable[..., Any] = intrinsic(function)
    return made


class LanesType(types.Type):
    """Numba's type of sixteen float32 values."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, _FLOATS)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [value] * WIDTH)


def _call(builder: Any, name: str, result: ir.Type, *arguments: Any) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, f"llvm.fmuladd.v{WIDTH}f32", _FLOATS, a, b, c)


def _operator(symbol: Callable[..., Any], instruction: str) -> None:
    """Teach numba an arithmetic operator between two `Lanes`."""

    def apply(context: Any, a: Any, b: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return getattr(builder, instruction)(*values)

        return lanes(lanes, lanes), emit

    instance = _intrinsic(apply)

    def resolve(a: Any, b: Any) -> Any:
        def implementation(a: Any, b: Any) -> Any:
            return instance(a, b)

        return implementation if isinstance(a, LanesType) and isinstance(b, LanesType) else None

    overload(symbol)(resolve)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_symbol, _instruction)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Pointer to sixteen values from `array[index]` on; the array is flat."""
    struct = context.make_array(kind)(context, builder, array)
    element = builder.gep(struct.data, [index])
    return builder.bitcast(element, _FLOATS.as_pointer())


def _flat_float32(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C" and array.dtype == types.float32


@_intrinsic
def load(context: Any, array: Any, index: Any) -> Any:
    """`array[index : index + 16]` of a flat float32 array."""
    if not _flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *values), align=4)

    return lanes(array, types.intp), emit


@_intrinsic
def store(context: Any, array: Any, index: Any, value: Any) -> Any:
    """`array[index : index + 16] = value`."""
    if not _flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], _address(context, builder, signature.args[0], values[0], values[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), emit


@_intrinsic
def ask_for(context: Any, array: Any, index: Any) -> Any:
    """Have the cache line of `array[index]`, or of where that would be, brought in; nothing waits for it."""
    if not _flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], *values)
        numbers = [ir.Constant(ir.IntType(32), number) for number in (0, 3, 1)]  # to read, into every cache, data
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, *numbers)
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


def _first(builder: Any, count: Any) -> Any:
    """Mask of the lanes below `count`."""
    wanted = builder.trunc(count, ir.IntType(32))
    zero = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(_INTS, ir.Undefined), wanted, zero)
    everywhere = builder.shuffle_vector(one, ir.Constant(_INTS, ir.Undefined), ir.Constant(_INTS, [0] * WIDTH))
    return builder.icmp_signed("<", ir.Constant(_INTS, list(range(WIDTH))), everywhere)


@_intrinsic
def load_some(context: Any, array: Any, index: Any, count: Any) -> Any:
    """`array[index : index + count]`, count <= 16, and zeros in the other lanes."""
    if not _flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], values[0], values[1])
        name = f"llvm.masked.load.v{WIDTH}f32.p0"
        return _call(
            builder, name, _FLOATS, pointer, ir.Constant(ir.IntType(32), 4), _first(builder, values[2]), _constant(0)
        )

    return lanes(array, types.intp, types.intp), emit


@_intrinsic
def store_some(context: Any, array: Any, index: Any, count: Any, value: Any) -> Any:
    """`array[index : index + count] = value[:count]`, count <= 16."""
    if not _flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], values[0], values[1])
        name = f"llvm.masked.store.v{WIDTH}f32.p0"
        align = ir.Constant(ir.IntType(32), 4)
        _call(builder, name, ir.VoidType(), values[3], pointer, align, _first(builder, values[2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), emit


@_intrinsic
def fill(context: Any, value: Any) -> Any:
    """One float32 in all lanes."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        one = builder.insert_element(undefined, values[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, undefined, ir.Constant(_INTS, [0] * WIDTH))

    return lanes(types.float32), emit


@_intrinsic
def multiply_add(context: Any, a: Any, b: Any, c: Any) -> Any:
    """Product of a and b plus c, rounded once where the machine can."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _multiply_add(builder, *values)

    return lanes(lanes, lanes, lanes), emit


@_intrinsic
def lane_sum(context: Any, value: Any) -> Any:
    """Sum of the sixteen values, float32, in one fixed order."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (part,) = values
        width = WIDTH
        while width > 1:
            width //= 2
            low, high = (
                ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(at, at + width))) for at in (0, width)
            )
            undefined = ir.Constant(part.type, ir.Undefined)
            part = builder.fadd(
                builder.shuffle_vector(part, undefined, low), builder.shuffle_vector(part, undefined, high)
            )
        return builder.extract_element(part, ir.Constant(ir.IntType(32), 0))

    return types.float32(lanes), emit


def _sums_of(builder: Any, parts: dict[int, Any]) -> Any:
    """One vector with the sum of parts[k] in lane k, each in the order of `lane_sum`."""
    # Which part a lane of a vector belongs to decides where the next shuffle puts it: labels are carried along.
    vectors = [([k] * WIDTH, part) for k, part in parts.items()]
    width = WIDTH
    while width > 1:
        half, merged = width // 2, []
        for (labels, a), (other_labels, b) in zip(vectors[::2], vectors[1::2], strict=True):
            low = [begin + i for begin in range(0, 2 * WIDTH, width) for i in range(half)]
            high = [index + half for index in low]
            masks = (ir.Constant(_INTS, low), ir.Constant(_INTS, high))
            total = builder.fadd(*(builder.shuffle_vector(a, b, mask) for mask in masks))
            merged.append(([(labels + other_labels)[index] for index in low], total))
        vectors, width = merged, half
    ((labels, total),) = vectors
    back = ir.Constant(_INTS, [labels.index(k) for k in range(WIDTH)])
    return builder.shuffle_vector(total, ir.Constant(_FLOATS, ir.Undefined), back)


@_intrinsic
def lane_sums(context: Any, array: Any, index: Any, stride: Any) -> Any:
    """Sums of sixteen vectors at array[index], array[index + stride], ..., each as `lane_sum` would have it."""
    if not _flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, at, stride = values
        parts = {}
        for k in range(WIDTH):
            parts[k] = builder.load(_address(context, builder, signature.args[0], source, at), align=4)
            at = builder.add(at, stride)
        return _sums_of(builder, parts)

    return lanes(array, types.intp, types.intp), emit


@_intrinsic
def magnitude(context: Any, value: Any) -> Any:
    """Absolute value."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _call(builder, f"llvm.fabs.v{WIDTH}f32", _FLOATS, values[0])

    return lanes(lanes), emit


@_intrinsic
def where_negative(context: Any, value: Any, then: Any, otherwise: Any) -> Any:
    """`then` in the lanes where value < 0, `otherwise` in the others."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", values[0], _constant(0)), values[1], values[2])

    return lanes(lanes, lanes, lanes), emit


@_intrinsic
def exp2(context: Any, exponent: Any) -> Any:
    """2^exponent for exponent <= 127; below -126 it is 2^-126, the least that needs no denormal."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        least = _constant(_LEAST_EXPONENT)
        x = builder.select(builder.fcmp_ordered(">", values[0], least), values[0], least)
        shifted = builder.fadd(x, _constant(_ROUNDER))
        whole = builder.fsub(shifted, _constant(_ROUNDER))
        r = builder.fsub(x, whole)
        power = _constant(_EXP2[-1])
        for coefficient in (*_EXP2[-2::-1], 1.0):
            power = _multiply_add(builder, power, r, _constant(coefficient))
        exponent_bits = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * WIDTH))
        return builder.bitcast(builder.add(builder.bitcast(power, _INTS), exponent_bits), _FLOATS)

    return lanes(lanes), emit


LOG2_E = np.float32(1.0 / math.log(2.0))
_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_Q0, _Q1, _Q2, _Q3, _Q4 = (np.float32(coefficient) for coefficient in _LOG1P)


@part
def exp_of_minus_magnitude(x: Any) -> Any:
    """exp(-|x|), in (0, 1]."""
    return exp2(fill(-LOG2_E) * magnitude(x))


@part
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), accurate on both sides."""
    small = exp_of_minus_magnitude(x)
    ratio = fill(_ONE) / (fill(_ONE) + small)
    return where_negative(x, small * ratio, ratio)


@part
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), with small relative error for very negative x too."""
    small = exp_of_minus_magnitude(x)
    s = small / (fill(_TWO) + small)
    square = s * s
    q = multiply_add(fill(_Q4), square, fill(_Q3))
    q = multiply_add(q, square, fill(_Q2))
    q = multiply_add(q, square, fill(_Q1))
    q = multiply_add(q, square, fill(_Q0))
    return multiply_add(s, q, where_negative(x, fill(_ZERO), x))


@compiled
def aligned_zeros(size: int) -> Any:
    """Flat float32 zeros that start on a cache line, so that no vector straddles two."""
    room = np.zeros(size + WIDTH, dtype=np.float32)
    skipped = (-room.ctypes.data % 64) // 4
    return room[skipped : skipped + size]
