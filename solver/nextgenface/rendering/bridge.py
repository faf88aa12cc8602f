"""Dr.Jit inside PyTorch: one function call whose gradients torch can use.

The function runs once. Its computation graph is kept until torch asks for gradients and is then walked
backwards; nothing is rendered a second time to find them. Tensors stay on their device: on CUDA both
libraries see the same memory.

Dr.Jit works on a stream of its own, and its arrays may be windows onto torch's memory. So every tensor that
goes over is a copy (an optimiser that changes its parameters in place must not change the past), and each
side waits for the other before it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .mitsuba_scene import mitsuba

Function = Callable[..., Any]


def to_drjit(tensor: Tensor) -> Any:
    """A Dr.Jit tensor (`TensorXf`) with a copy of a float tensor, without gradients."""
    mi = mitsuba()
    copy = tensor.detach().to(torch.float32).contiguous().clone()
    if copy.is_cuda:
        torch.cuda.current_stream(copy.device).synchronize()
    return mi.TensorXf(copy)


def to_index(tensor: Tensor) -> Any:
    """A flat Dr.Jit array (`UInt32`) of a tensor of non-negative whole numbers."""
    mi = mitsuba()
    copy = tensor.detach().to(torch.int32).reshape(-1).contiguous().clone()
    if copy.is_cuda:
        torch.cuda.current_stream(copy.device).synchronize()
    return mi.UInt32(mi.Int32(copy))


def to_floats(tensor: Tensor) -> Any:
    """A flat Dr.Jit array (`Float`) with a copy of a float tensor."""
    return to_drjit(tensor.reshape(-1)).array


def to_torch(array: Any, device: torch.device) -> Tensor:
    """A torch tensor with a copy of a Dr.Jit tensor, on `device`, without gradients."""
    import drjit as dr

    dr.eval(array)
    dr.sync_thread()
    return array.torch().to(device).clone()


def call(function: Function, *tensors: Tensor) -> Tensor:
    """`function` of torch tensors, computed by Dr.Jit, differentiable in torch.

    `function` takes as many `TensorXf` as there are tensors (float, any shape) and returns one `TensorXf`.
    Those whose tensor requires gradients have them enabled. Raises EnvironmentProblem when no Mitsuba
    variant is active, and what `function` raises; asking a variant without derivatives (scalar) for
    gradients is a RuntimeError.
    """
    result: Tensor = _Call.apply(function, *tensors)
    return result


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, *tensors: Tensor) -> Tensor:
        import drjit as dr

        wanted = ctx.needs_input_grad[1:]
        if any(wanted) and "_ad_" not in mitsuba().variant():
            raise RuntimeError(f"The Mitsuba variant {mitsuba().variant()} computes no gradients.")
        inputs = [to_drjit(tensor) for tensor in tensors]
        for array, needed in zip(inputs, wanted, strict=True):
            if needed:
                dr.enable_grad(array)
        if any(wanted):
            with dr.resume_grad():
                output = function(*inputs)
        else:
            with dr.suspend_grad():
                output = function(*inputs)
        ctx.inputs, ctx.output = inputs, output
        ctx.devices = [tensor.device for tensor in tensors]
        return to_torch(dr.detach(output), tensors[0].device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        import drjit as dr

        inputs, output = ctx.inputs, ctx.output
        if output is None:
            raise RuntimeError("The gradients of this picture were taken already; draw it again.")
        ctx.inputs = ctx.output = None  # the graph is large: let go of it as soon as it has served
        found: list[Tensor | None] = [None] * len(inputs)
        if dr.grad_enabled(output):
            dr.set_grad(output, to_drjit(gradient))
            dr.enqueue(dr.ADMode.Backward, output)
            dr.traverse(dr.ADMode.Backward)
        gradients = [dr.grad(array) if dr.grad_enabled(array) else None for array in inputs]
        dr.eval([one for one in gradients if one is not None])
        for k, (one, device) in enumerate(zip(gradients, ctx.devices, strict=True)):
            if one is not None:
                found[k] = to_torch(one, device)
        return (None, *found)
