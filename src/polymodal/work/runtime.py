"""Devices, precision and processes: the one room that knows them. accelerate prepares model and optimiser, no more."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
import torch.utils.deterministic
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.core.errors import UserError
from polymodal.core.schema import Json
from polymodal.core.settings import Train

PACKAGES = ("polymodal", "torch", "accelerate", "transformers", "tokenizers", "pillow", "numpy", "soundfile", "soxr")


class Runtime:
    """Where the work runs: device, precision, this process among `world`. Made when work starts, never on import."""

    def __init__(self, settings: Train) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        if settings.device not in ("auto", "cpu") and not getattr(torch, settings.device).is_available():
            raise UserError("train.device", "is not available here", given=settings.device, advice="auto or cpu")
        AcceleratorState._reset_state()  # accelerate keeps the first device of a process for ever
        unused = [DistributedDataParallelKwargs(find_unused_parameters=True)] if settings.turns == "one" else []
        self.accelerator = Accelerator(cpu=settings.device == "cpu", mixed_precision="no", kwargs_handlers=unused)
        self.device: torch.device = self.accelerator.device
        self.half, self.channels_last = settings.precision == "bf16", settings.channels_last
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.main = self.accelerator.is_main_process

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        return self.accelerator.prepare(model, optimizer)

    def again(self, model: nn.Module) -> Any:
        """The model prepared once more: between processes only those gradients are exchanged that there were then."""
        if self.world == 1:
            return model
        self.accelerator._models.clear()  # what was prepared before is let go
        return self.accelerator.prepare_model(model)

    def autocast(self) -> AbstractContextManager:
        """Our own: accelerate's would turn all that the model gives, feature maps too, into fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Sums in a fixed order on the CPU: by default its threads race in the gradient of an indexed tensor."""
        before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        switches: Any = torch.utils.deterministic
        fill = switches.fill_uninitialized_memory
        if self.device.type == "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
            switches.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            switches.fill_uninitialized_memory = fill

    def move(self, x: Tensor) -> Tensor:
        """To this device; pictures [N C H W] with the channels last in memory, when that is wished."""
        moved = x.to(self.device, non_blocking=True)
        return moved.contiguous(memory_format=torch.channels_last) if self.channels_last and x.ndim == 4 else moved

    def seed(self, value: int) -> None:
        """Set the global random state of the CPU and of this device.

        `torch.manual_seed` would do the same, but notes every call, with its stack, for a GPU that may come up later.
        """
        torch.default_generator.manual_seed(value)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(value)

    def between(self, model: nn.Module, last: bool) -> AbstractContextManager:
        """Gradients are exchanged with the other processes in the last micro-step only."""
        return nullcontext() if last else self.accelerator.no_sync(model)

    def total(self, x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The sum over all processes, without gradient."""
        return self.accelerator.reduce(x.detach(), "sum") if self.world > 1 else x.detach()

    def gather(self, x: Tensor) -> Tensor:
        """[B, ...] of this process -> the rows of all processes, in order of rank, with gradient."""
        if self.world == 1:
            return x
        from torch.distributed.nn.functional import all_gather

        parts = all_gather(x)
        for part in parts if x.requires_grad else ():
            part.register_hook(Tensor.contiguous)  # the way back sends memory as it lies
        return torch.cat(parts)

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self.total(torch.tensor([float(here)], device=self.device)) > 0) if self.world > 1 else here

    def agree(self, value: Any) -> Any:
        """The main process's value, in every process."""
        return broadcast_object_list([value])[0] if self.world > 1 else value

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def environment() -> dict[str, Json]:
    """What the numbers of a run depend on besides the spec and the data: versions, machine kind, threads."""
    found: dict[str, Json] = {"python": platform.python_version(), "system": platform.system()}
    found |= {"machine": platform.machine(), "threads": torch.get_num_threads()}
    found["capability"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
