"""The bridge between Dr.Jit and torch: values, gradients against closed forms, memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from nextgenface.rendering.bridge import call, to_drjit, to_index, to_torch
from nextgenface.rendering.llvm import activate, select_variant

pytest.importorskip("mitsuba")


@pytest.fixture(autouse=True)
def variant() -> Iterator[str]:
    import mitsuba as mi

    previous = mi.variant()
    found = select_variant("cpu")
    if not found.differentiable:
        pytest.skip(f"no derivatives here: {found.reason}")
    activate(found)
    yield found.name
    if previous:
        mi.set_variant(previous)


def _weighted(x: Any, y: Any) -> Any:
    """sin(x_i) y_(i mod 3), a gather and a scatter in the backward pass."""
    import drjit as dr
    import mitsuba as mi

    index = dr.arange(mi.UInt32, len(x.array))
    return mi.TensorXf(dr.sin(x.array) * dr.gather(mi.Float, y.array, index % 3), x.shape)


def test_values_and_gradients_are_those_of_torch() -> None:
    x = torch.linspace(-1, 2, 12).view(4, 3).requires_grad_()
    y = torch.tensor([0.5, 2.0, -1.0], requires_grad=True)
    result = call(_weighted, x, y)
    expected = x.sin() * y
    assert result.shape == (4, 3) and torch.allclose(result, expected, atol=1e-6)
    weights = torch.arange(12.0).view(4, 3)
    found = torch.autograd.grad((result * weights).sum(), (x, y))
    wanted = torch.autograd.grad((expected * weights).sum(), (x, y))
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    x, y = torch.ones(2, 3), torch.ones(3, requires_grad=True)
    call(_weighted, x, y).sum().backward()
    assert x.grad is None and y.grad is not None
    assert torch.allclose(y.grad, 2 * torch.ones(1).sin().expand(3))
    with torch.no_grad():
        assert not call(_weighted, x, y).requires_grad


def test_the_past_does_not_change_with_the_parameters() -> None:
    """Optimisers change parameters in place; a kept graph must not see that."""
    x = torch.full((1, 3), 0.3, requires_grad=True)
    y = torch.ones(3, requires_grad=True)
    result = call(_weighted, x, y)
    with torch.no_grad():
        x.add_(1.0)
        y.mul_(5.0)
    result.sum().backward()
    assert x.grad is not None and y.grad is not None
    assert torch.allclose(x.grad, torch.full((1, 3), 0.3).cos())
    assert torch.allclose(y.grad, torch.full((3,), 0.3).sin())


def test_a_graph_serves_once() -> None:
    x, y = torch.ones(1, 3, requires_grad=True), torch.ones(3)
    result = call(_weighted, x, y).sum()
    result.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="draw it again"):
        result.backward()


def test_two_graphs_may_be_open_at_once() -> None:
    """Passes of one picture: each keeps its own graph until all are walked backwards."""
    y = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    parts = [call(_weighted, torch.full((1, 3), value), y) for value in (0.2, 0.9)]
    torch.cat(parts).sum().backward()
    assert y.grad is not None
    expected = torch.tensor([0.2, 0.9]).sin().sum().expand(3)
    assert torch.allclose(y.grad, expected, atol=1e-6)


def test_there_and_back() -> None:
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).T  # not contiguous
    assert torch.equal(to_torch(to_drjit(values), values.device), values)
    import mitsuba as mi

    index = to_index(torch.tensor([[3, 1], [2**31 - 1, 0]]))
    assert isinstance(index, mi.UInt32) and list(index) == [3, 1, 2**31 - 1, 0]


def test_a_variant_without_derivatives_is_refused() -> None:
    import mitsuba as mi

    mi.set_variant("scalar_rgb")
    with pytest.raises(RuntimeError, match="scalar_rgb"):
        call(_weighted, torch.ones(1, 3, requires_grad=True), torch.ones(3))
