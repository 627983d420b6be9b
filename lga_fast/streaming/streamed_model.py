"""A model whose blocks are read from their files when they run, and then dropped.

Where there are many batches, blocks are the outer loop and batches the inner one: a pass over all
blocks reads each of them once. The model's own forward runs too, with one reading of the
blocks for each, and one for its backward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import memory
from lga_fast.errors import LgaFastError, UnsupportedModel
from lga_fast.forward.layer_major import layer_major_logits, run_layer_major
from lga_fast.models import families, fingerprint
from lga_fast.models.block_runner import BlockRunner
from lga_fast.models.editable import EditableModel, ForwardJob
from lga_fast.streaming.block_loader import BlockLoader, assign
from lga_fast.streaming.checkpoint import Checkpoint
from lga_fast.streaming.edit_overlay import Overlays
from lga_fast.streaming.lazy_embedding import LazyEmbedding
from lga_fast.streaming.meta_model import fill_buffers
from lga_fast.streaming.on_demand_forward import OnDemandWeights
from lga_fast.streaming.skeleton import skeleton
from lga_fast.streaming.streamed_memory import StreamedMemory
from lga_fast.undo import undone


class StreamedModel(EditableModel):
    """A model of any size: two blocks are in memory at most, or a block and the head.

    Of the embedding, only the rows of tokens seen so far. An edit is an overlay, added each time
    its block is read.

    Args:
        hf: the model on `meta`.
        tokenizer: its tokenizer.
        name: what to call it in results.
        shards: where its weights come from.
        device: where the model runs.
        memory_budget: bytes that a run may use, weights included; None: half of what is free.
        editing: see `EditableModel`.

    Raises:
        LgaFastError: the checkpoint lacks a tensor.
        UnsupportedModel: as for `EditableModel`, or a buffer cannot be computed.
    """

    streamed = recomputes = True

    def __init__(
        self,
        hf: Any,
        tokenizer: Any,
        name: str,
        shards: Checkpoint,
        device: torch.device,
        memory_budget: int | None = None,
        editing: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.shards, self._device = shards, device
        self._shapes = {name: p.shape for name, p in hf.named_parameters()}
        paths = {module: path for path, module in hf.named_modules()}
        embedding = hf.get_input_embeddings()
        embedding_name = self._source(f"{paths[embedding]}.weight")
        LazyEmbedding(embedding, partial(shards.rows, embedding_name), device)
        known = families.find(hf.config)
        runs = nullcontext() if known else skeleton(hf, shards, device, memory_budget)
        with runs:
            super().__init__(hf, tokenizer, name, memory_budget, editing)
        if not self.restarts:
            raise UnsupportedModel(
                f"{name!r}: blocks of {self.family_name!r} read more of earlier ones than hidden "
                "states, so they cannot run one at a time; load it with weights='resident'"
            )
        self._edit_stack = self._overlays = Overlays(self.family.orientation, self.loaded)
        self._base_samples: dict[str, Tensor] = {}  # of the fingerprint, without edits
        self._runner = BlockRunner(self, self._walk, self.head)
        decoder = self.family.blocks.rpartition(".")[0]
        fill_buffers(hf, decoder, device)
        self._head = hf.get_output_embeddings()
        heads = {n: f"{paths[self._head]}.{n}" for n in self._head.state_dict()}
        self._head_names = {n: self._source(name) for n, name in heads.items()}
        for name in hf.get_submodule(decoder).state_dict(prefix=f"{decoder}."):
            self._source(name)
        self._loader = BlockLoader(
            shards, self._blocks, self.family.blocks, device, self._overlays.add
        )
        self._block_names = self._loader.names
        on_demand = {embedding_name, *self._head_names.values(), *chain(*self._block_names)}
        names = shards.names(f"{decoder}.")
        self._resident_names = [name for name in names if name not in on_demand]
        assign(hf, self._to_device(shards.read(self._resident_names)), strict=False)
        OnDemandWeights(hf, self._blocks, self._loader, self.head, self._overlays.in_effect)

    def _source(self, name: str) -> str:
        source = self.shards.source(name)
        if source is None:
            raise LgaFastError(
                f"{self.shards.files[0].parent}: expected {name}, which config.json asks for; none "
                f"of its {len(self.shards.files)} safetensors files has it"
            )
        return source

    # -- facts ---------------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        """Where blocks run, and so where token ids go."""
        return self._device

    @property
    def memory(self) -> StreamedMemory:
        """What a run may hold, weights included."""
        return StreamedMemory(self)

    def block_bytes(self) -> int:
        """Bytes of the largest block in memory."""
        return max(self.shards.loaded_bytes(names) for names in self._block_names)

    def head_bytes(self) -> int:
        """Bytes of the head in memory."""
        return self.shards.loaded_bytes(self._head_names.values())

    def rest_bytes(self) -> int:
        """Bytes that stay in memory: norms, position embeddings and computed buffers."""
        buffers = sum(b.nbytes for b in self.hf.buffers() if not b.is_meta)
        return self.shards.loaded_bytes(self._resident_names) + buffers

    def conversion_bytes(self) -> int:
        """Peak bytes beside all this while a tensor is converted to the model's layout or dtype."""
        return self.shards.conversion_bytes(chain(*self._block_names, self._head_names.values()))

    def sweep_bytes(self, first: int = 0) -> int:
        """Bytes that one pass over all blocks reads, or over those from `first` on."""
        return sum(self.shards.stored_bytes(names) for names in self._block_names[first:])

    def head_read_bytes(self) -> int:
        """Bytes that are read for the head."""
        return self.shards.stored_bytes(self._head_names.values())

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """See `EditableModel`; read from the files, without edits."""
        for name in self.shards.names(""):
            yield from self.shards.read([name]).items()

    def fingerprint_bytes(self) -> int:
        """Bytes still to be read for the fingerprint: a few samples of each tensor."""
        if self._base_samples:
            return 0
        sources = [self.shards.source(name) for name in self._shapes]
        return sum(
            self.shards.sample_bytes(source, fingerprint.SAMPLED) for source in sources if source
        )

    def _samples(self, count: int) -> Iterator[fingerprint.Sample]:
        for name, shape in self._shapes.items():
            if name not in self._base_samples:
                source = self.shards.source(name)  # None: it is of a part that does not run
                samples = self.shards.sample(source, count) if source else torch.empty(0)
                self._base_samples[name] = samples
            edited = self._overlays.sampled(name)
            yield name, shape, self._base_samples[name] if edited is None else edited

    # -- running -------------------------------------------------------------------------------
    @contextmanager
    def loaded(self, layer: int) -> Iterator[None]:
        """A block's weights, edits included, are in memory while inside."""
        with self._loader.loaded(layer):
            yield

    @contextmanager
    def head(self) -> Iterator[None]:
        """The head's weights are in memory while inside."""
        if not self._head.weight.is_meta:
            yield
            return
        empty = dict(self._head.state_dict())
        with undone((self._head,), partial(assign, self._head, empty)):
            assign(self._head, self._to_device(self._loader.take_head() or self._read_head()))
            yield

    def block_runner(self) -> BlockRunner:
        """Runs the model one block at a time; each is read while the one before runs."""
        return self._runner

    def groups(self, sizes: Sequence[int], limit: int) -> list[list[int]]:
        """See `EditableModel`: all batches of a group share each reading of the blocks."""
        return memory.chunk_by_size(sizes, limit)

    def run_batches(self, jobs: Sequence[ForwardJob], layers: int | None = None) -> None:
        """See `EditableModel`; each block is read once."""
        run_layer_major(self._runner, jobs, self.layers if layers is None else layers)

    def logits_of(
        self, jobs: Sequence[ForwardJob]
    ) -> Iterator[tuple[Float[Tensor, "position vocab"], Any]]:
        """See `EditableModel`; each block is read once."""
        yield from layer_major_logits(self, self._runner, jobs)

    # -- within --------------------------------------------------------------------------------
    def _read_head(self) -> dict[str, Tensor]:
        read = self.shards.read(dict.fromkeys(self._head_names.values()))
        return {name: read[source] for name, source in self._head_names.items()}

    def _walk(self, layers: Iterable[int], to_head: bool) -> Iterator[int]:
        """Each of these layers while its weights are in memory; the next one is read meanwhile."""
        reads_head = to_head and self._head.weight.is_meta
        return self._loader.walk(layers, self._read_head if reads_head else None)

    def _to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}
