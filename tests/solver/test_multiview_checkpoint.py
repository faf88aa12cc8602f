"""Checkpoints of the methods for many views: whole, readable without code, of this run or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.errors import CheckpointError
from nextgenface.multiview import checkpoint as checkpoints
from nextgenface.multiview.checkpoint import Checkpoint, fingerprint, load, save


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    arrays = {"vertices": np.arange(6.0).reshape(2, 3), "adam/0/step": np.array(3.0)}
    save(tmp_path, Checkpoint("mesh", 7, "abc", arrays, {"faces": 12, "name": "ä"}))
    found = load(tmp_path, "mesh", "abc")
    assert found is not None and (found.step, found.info) == (7, {"faces": 12, "name": "ä"})
    assert set(found.arrays) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], value)
    assert load(tmp_path, "texture", "abc") is None
    checkpoints.remove(tmp_path, "mesh")
    assert load(tmp_path, "mesh", "abc") is None


def test_other_runs_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, Checkpoint("mesh", 7, "abc"))
    with pytest.raises(CheckpointError, match="other settings"):
        load(tmp_path, "mesh", "abd")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path, "mesh", "abc")
    np.savez(path, nextgenface=np.array([{"a": 1}], dtype=object))  # a pickle inside is never opened
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path, "mesh", "abc")


def test_fingerprints_tell_options_and_data_apart() -> None:
    a = np.arange(4.0)
    assert fingerprint({"x": 1, "y": 2}, [a]) == fingerprint({"y": 2, "x": 1}, [a.copy()])
    others = [fingerprint({"x": 2}, [a]), fingerprint({"x": 1}, [a + 1]), fingerprint({"x": 1}, [a[None]])]
    assert len({fingerprint({"x": 1}, [a]), *others}) == 4


def test_an_optimiser_goes_on_as_if_nothing_had_happened() -> None:
    def run(steps: int, value: torch.Tensor, adam: torch.optim.Adam) -> None:
        for _ in range(steps):
            adam.zero_grad()
            ((value - torch.tensor([1.0, -2.0])) ** 2).sum().backward()
            adam.step()

    straight = torch.zeros(2, requires_grad=True)
    adam = torch.optim.Adam([straight], lr=0.1)
    run(3, straight, adam)
    kept, value = checkpoints.optimiser_arrays(adam), straight.detach().clone()
    run(4, straight, adam)
    resumed = value.requires_grad_()
    other = torch.optim.Adam([resumed], lr=0.1)
    checkpoints.restore_optimiser(other, kept)
    run(4, resumed, other)
    assert torch.equal(resumed, straight)
    with pytest.raises(CheckpointError, match="fit"):
        checkpoints.restore_optimiser(torch.optim.Adam([torch.zeros(5)]), kept)
