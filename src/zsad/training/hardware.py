"""Devices, precision and processes of a training, by accelerate."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from zsad.errors import ZsadError
from zsad.methods.recipe import Recipe, clip_gradients

NAMES = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}  # of precisions, as accelerate calls them


class Hardware:
    """Where a training runs: one device of this process, and all processes together.

    Gradients are averaged by hand, in one message: what a method learns is small, and a stage's loss is no forward pass
    that a wrapper of the module could follow.

    Args:
        device: Where the method is.
        precision: One of :data:`NAMES`.

    Raises:
        ZsadError: If the device cannot do that, or accelerate was started for another one.
    """

    def __init__(self, device: torch.device, precision: str = "float32") -> None:
        if precision == "fp16" and device.type == "cpu":
            raise ZsadError("fp16 needs a GPU; on the CPU use precision bf16, or float32")
        AcceleratorState._reset_state(not torch.distributed.is_initialized())  # else the first training decides for all
        self._accelerator = Accelerator(mixed_precision=NAMES[precision], cpu=device.type == "cpu")
        if self._accelerator.device.type != device.type:
            raise ZsadError(
                f"the method is on {device}, but accelerate was started for {self._accelerator.device}; "
                f"use --device {self._accelerator.device.type}"
            )
        self.device, self.precision = device, precision
        self.rank, self.processes = self._accelerator.process_index, self._accelerator.num_processes

    @property
    def main(self) -> bool:
        """Whether this process writes and tells."""
        return bool(self.rank == 0)

    def wait(self) -> None:
        """Until every process has come here."""
        self._accelerator.wait_for_everyone()

    def from_main(self, number: int) -> int:
        """What the main process says."""
        return int(self.summed(torch.tensor(number if self.main else 0, device=self.device)))

    def computing(self) -> AbstractContextManager[object]:
        """A context that computes in the chosen precision what can do with less than float32."""
        return self._accelerator.autocast()  # type: ignore[no-any-return]

    def prepared(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer as :meth:`step` wants it: with fp16 it skips a step whose gradients are not finite."""
        return self._accelerator.prepare_optimizer(optimizer)  # type: ignore[no-any-return]

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part of the loss."""
        self._accelerator.backward(loss)

    def step(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], recipe: Recipe, clip: float
    ) -> None:
        """A step on the gradients of all processes together, cut as the recipe says, and to the norm `clip` if any."""
        self._summed([p.grad for p in parameters.values() if p.grad is not None])
        self._accelerator.unscale_gradients(optimizer)
        clip_gradients(parameters, recipe)
        if clip:
            nn.utils.clip_grad_norm_(parameters.values(), clip)
        optimizer.step()

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        return self._accelerator.reduce(values, "sum")  # type: ignore[no-any-return]

    def _summed(self, gradients: list[Tensor]) -> None:
        if self.processes == 1 or not gradients:
            return
        together = self.summed(torch.cat([gradient.flatten() for gradient in gradients]))
        totals = torch.split(together, [gradient.numel() for gradient in gradients])
        for gradient, total in zip(gradients, totals, strict=True):
            gradient.copy_(total.view_as(gradient))

    def scaler_state(self) -> dict[str, object]:
        """What a resumed training needs of the scaling of fp16."""
        scaler = self._accelerator.scaler
        return scaler.state_dict() if scaler is not None else {}

    def restore_scaler(self, state: dict[str, object]) -> None:
        """Take what :meth:`scaler_state` gave."""
        if state and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state)
