"""The memory budget of a streamed model: weights, activations and stored tensors share it."""

from __future__ import annotations

from typing import Protocol

from lga_fast.errors import ScoringError
from lga_fast.memory import Memory, ModelSizes, available, format_bytes

# What a process holds beside tensors: the interpreter and libraries take 0.2 to 0.3 GiB.
_PROCESS = 320 << 20


class StreamedSizes(ModelSizes, Protocol):
    """What `StreamedMemory` asks of a model; all in bytes."""

    name: str

    def block_bytes(self) -> int: ...
    def head_bytes(self) -> int: ...
    def rest_bytes(self) -> int: ...
    def conversion_bytes(self) -> int: ...


class StreamedMemory(Memory):
    """`Memory` of a model that has two blocks in memory at most, or a block and the head."""

    def __init__(self, model: StreamedSizes) -> None:
        super().__init__(model)
        self._sizes, self.active_blocks = model, 1

    @property
    def weights_bytes(self) -> int:
        """Bytes within the budget for weights, and on the CPU for the process itself."""
        sizes = self._sizes
        blocks = sizes.block_bytes() + max(sizes.block_bytes(), sizes.head_bytes())
        weights = blocks + sizes.rest_bytes() + sizes.conversion_bytes()
        return weights + (_PROCESS if self._device.type == "cpu" else 0)

    def describe_weights(self) -> str:
        """What `weights_bytes` are made up of."""
        sizes, on_cpu = self._sizes, self._device.type == "cpu"
        process = f", {format_bytes(_PROCESS)} of the process itself" if on_cpu else ""
        return (
            f"a block of {format_bytes(sizes.block_bytes())} and another or the head of "
            f"{format_bytes(sizes.head_bytes())}, {format_bytes(sizes.rest_bytes())} that stay, "
            f"{format_bytes(sizes.conversion_bytes())} while a tensor is converted{process}"
        )

    @property
    def activation_budget(self) -> int:
        """Bytes that activations may take; a quarter of what weights leave goes to the store.

        On CUDA, where the store is in CPU memory, that quarter is for what allocators lose.

        Raises:
            ScoringError: the budget does not hold the weights.
        """
        left = self.budget - self.weights_bytes
        if left <= 0:
            raise ScoringError(
                f"{self._sizes.name!r}: expected memory for streaming its weights, got "
                f"{format_bytes(self.budget)} for {format_bytes(self.weights_bytes)}: "
                f"{self.describe_weights()}. Give a larger memory_budget."
            )
        return left * 3 // 4

    @property
    def store_budget(self) -> int:
        """Bytes of CPU memory that tensors may take while they wait for their next block."""
        if self._device.type == "cuda":
            return available() // 4
        return max(0, self.budget - self.weights_bytes) // 4

    def step_bytes(self, recorded: float) -> float:
        """See `Memory`: what enters every block, one block at work, and the recorded cache."""
        return self.token_bytes(checkpointed=True) + recorded * self.cache_bytes
