"""What each device of a replica holds, as whole numbers of sequences and tokens: the sums behind bars and searches.

What a search asks again and again is remembered: passes by what decides them, whatever the device.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmprof.errors import InputError
from llmprof.planning.caches import Caches
from llmprof.planning.deployment import Deployment
from llmprof.planning.experts import dense_values, expert_values, hidden_states
from llmprof.planning.overheads import overhead_terms
from llmprof.planning.passes import Passes, Peaks, Spread
from llmprof.planning.sampler import sampling_bytes
from llmprof.planning.terms import MemoryBar, Term
from llmprof.predict.formats import float_format
from llmprof.sharding_stages import check_stages
from llmprof.spec.arch import ArchSpec, NoHead
from llmprof.units import number_of
from llmprof.workload import QUANTISED

WEIGHTS, CACHE, STATE, PAGES, SPARE = (
    "weights",
    "kv cache",
    "recurrent state",
    "kv pages",
    "page never given out",
)
ACTIVATIONS, LOGITS = "activations", "logits"


class Model:
    """One architecture, spread so, computing so many tokens in a pass: all that no device decides."""

    def __init__(self, arch: ArchSpec, spread: Spread, chunk: int, source: int | None) -> None:
        self.arch, self.spread = arch, spread
        self.passes = Passes(arch, spread, chunk, source)
        self.caches = Caches(self.passes)
        self._weights: Peaks | None = None
        self.experts = expert_values(arch, spread.sharding)
        self.dense = dense_values(arch, spread.sharding)

    def weights(self, tokens: int) -> Peaks:
        """Bytes of the parameters on a device of each stage, whatever `tokens`, a length that the model can take."""
        if self._weights is None:
            workload = self.passes.at_rest(tokens)
            if self.spread.alone:
                self._weights = (self.passes.predicted(workload).weight_bytes,)
            else:
                self._weights = tuple(rank.weight_bytes for rank in self.passes.ranks(workload))
        return self._weights


class Footprint:
    """A deployment of a model: what every term comes to."""

    def __init__(self, model: Model, deployment: Deployment) -> None:
        self.model, self.deployment = model, deployment
        self.arch, self.passes, self.caches = model.arch, model.passes, model.caches
        self.serves = deployment.engine == "vllm"
        self.stages = model.spread.stages
        self.capacity_bytes = deployment.capacity_bytes
        self.overheads = overhead_terms(
            deployment.overheads,
            deployment.device,
            self.capacity_bytes,
            rules=deployment.rules,
            communicates=deployment.communicates,
        )
        self._over = sum(term.bytes for term in self.overheads)
        self._size = float_format(deployment.dtypes.activations).bits // 8
        self._states = hidden_states(deployment.sharding)
        rules = deployment.rules
        self.experts = (0,) * self.stages if rules is None or not rules.expert_workspaces else model.experts

    def check(self, sequences: int, tokens: int) -> None:
        """Raise InputError for numbers below 1, and where the model cannot take so many tokens."""
        _at_least_one(sequences=sequences, tokens=tokens)
        self.passes.check(tokens)

    # --- sums -----------------------------------------------------------------------------------

    def free(self, sequences: int, tokens: int) -> int:
        """What is left on the fullest device; negative where it does not fit."""
        return min(self.free_of_each(sequences, tokens))

    def free_of_each(self, sequences: int, tokens: int) -> Peaks:
        """What is left on a device of each stage."""
        kept, live = self.kept(tokens), self.live(sequences, tokens)
        base = self.capacity_bytes - self._over
        return tuple(
            base - weights - sequences * each - always - transient
            for weights, each, always, transient in zip(self.model.weights(tokens), kept, self.spare, live, strict=True)
        )

    def kept(self, tokens: int) -> Peaks:
        """Bytes that each sequence of `tokens` keeps between passes."""
        if not self.serves:
            return tuple(map(sum, zip(self.caches.own(tokens), self.caches.state(), strict=True)))
        blocks = self.caches.blocks(tokens)
        return tuple(blocks * each for each in self.caches.block_bytes)

    @property
    def spare(self) -> Peaks:
        """The block that vLLM never gives out (vllm 0.33.0, vllm/v1/core/block_pool.py, `null_block`)."""
        return self.caches.block_bytes if self.serves else (0,) * self.stages

    def live(self, sequences: int, tokens: int) -> Peaks:
        """What is live at most while a pass is computed: in the layers, or while tokens are sampled behind them."""
        layers = self.layers(sequences, tokens)
        asked = self.passes.sampled(sequences), tokens
        if not self.serves and self.passes.within(*asked) and self.passes.headless(layers):
            return layers
        return tuple(map(max, layers, self.sampling(sequences, tokens)))

    def layers(self, sequences: int, tokens: int) -> Peaks:
        """What is live in the layers at most; in those of vLLM at least what its feed-forward holds."""
        reference = self.passes.peaks(sequences, tokens)
        if not self.serves:
            return reference
        rows, hidden = self.passes.rows(sequences, tokens), self._states * self.arch.d_model
        widest = map(max, self.experts, self.model.dense)
        return tuple(
            max(own, rows * self._size * (each and each + hidden)) for own, each in zip(reference, widest, strict=True)
        )

    def expert_bytes(self, sequences: int, tokens: int) -> Peaks:
        """The workspaces of vLLM's kernel of experts, which it keeps from its first pass on."""
        rows = self.passes.rows(sequences, tokens)
        return tuple(rows * each * self._size for each in self.experts)

    def sampling(self, sequences: int, tokens: int) -> Peaks:
        """What is live while the head's rows are sampled; on the last stage alone."""
        if not self.serves or self.arch.structure == "encoder":
            return self.passes.with_logits(sequences, tokens)
        if isinstance(self.arch.head, NoHead):
            return (0,) * self.stages
        rows = self.passes.sampled(sequences)
        size = self._size
        units = self.deployment.device.units
        held = sampling_bytes(
            rows,
            self.arch.vocab_size,
            size,
            self.deployment.vllm_version,
            None if units is None else units.value,
        )
        # The hidden state of the whole pass, the rows of it that the head reads, and a stand-in for them.
        hidden = (self.passes.rows(sequences, tokens) + 2 * rows) * self.arch.d_model * size
        return (*(0,) * (self.stages - 1), held + hidden + self.expert_bytes(sequences, tokens)[-1])

    def pool(self, sequences: int, tokens: int) -> Peaks:
        """What is left for caches where passes are as large as `sequences` make them."""
        base = self.capacity_bytes - self._over
        live = self.live(sequences, tokens)
        return tuple(
            base - weights - transient for weights, transient in zip(self.model.weights(tokens), live, strict=True)
        )

    def concurrent(self, sequences: int, tokens: int) -> float | None:
        """Requests of `tokens` that the pool has pages for, each at its most; None where they keep nothing."""
        rules = self.deployment.rules
        assert rules is not None
        left = self.pool(sequences, tokens)
        blocks = [pool // each for pool, each in zip(left, self.caches.block_bytes, strict=True) if each]
        if not blocks:
            return None
        return max(0, min(blocks)) / self.caches.blocks_at_most(tokens, self.stages + rules.further_batches)

    # --- the bar --------------------------------------------------------------------------------

    def bar(self, stage: int, sequences: int, tokens: int) -> MemoryBar:
        """The terms of a device of `stage`."""
        return MemoryBar(
            capacity_bytes=self.capacity_bytes,
            capacity_note=self.deployment.capacity_note,
            stage=stage,
            terms=(*self._model_terms(stage, sequences, tokens), *self.overheads),
        )

    def _model_terms(self, stage: int, sequences: int, tokens: int) -> Iterator[Term]:
        dtypes = self.deployment.dtypes
        layout = "the layout that the spec states" if dtypes.weights in QUANTISED else "as `llmprof count` has them"
        yield Term(name=WEIGHTS, bytes=self.model.weights(tokens)[stage], basis="confirmed", note=layout)
        yield from self._cache_terms(stage, sequences, tokens)
        layers = self.layers(sequences, tokens)[stage]
        of_engine = layers > self.passes.peaks(sequences, tokens)[stage]
        rows = self.passes.rows(sequences, tokens)
        yield Term(
            name=ACTIVATIONS,
            bytes=layers,
            basis="unconfirmed" if self.serves or dtypes.quantised else "confirmed",
            note=f"what vLLM's feed-forward holds in a pass of {rows:,} tokens"
            + (" of each replica" if self.deployment.sharding.sends_tokens else "")
            + " (docs/planning.md)"
            if of_engine
            else f"the reference execution of a pass of {rows:,} tokens, fused attention"
            + (", experts balanced" if any(self.model.experts) else "")
            + ("; vLLM's own kernels hold other amounts (docs/planning.md)" if self.serves else ""),
        )
        sampling = self.sampling(sequences, tokens)[stage]
        yield Term(
            name=LOGITS,
            bytes=max(0, sampling - layers),
            basis="unconfirmed" if self.serves or dtypes.quantised else "confirmed",
            note=f"of {sampling:,} bytes that are live while {self.passes.sampled(sequences):,} rows are sampled, "
            "what goes beyond the activations, which are gone by then",
        )

    def _cache_terms(self, stage: int, sequences: int, tokens: int) -> Iterator[Term]:
        own, state = self.caches.own(tokens)[stage], self.caches.state()[stage]
        length = f"{number_of(sequences, 'sequence')} of {number_of(tokens, 'token')}"
        yield Term(name=CACHE, bytes=sequences * own, basis="confirmed", note=f"{length}, as the architecture needs")
        if state:
            note = f"{sequences:,} sequences, whatever their length"
            yield Term(name=STATE, bytes=sequences * state, basis="confirmed", note=note)
        if self.serves:
            added = sequences * (self.kept(tokens)[stage] - own - state)
            yield Term(
                name=PAGES,
                bytes=added,
                basis="unconfirmed",
                note="what vLLM's pages hold more than the architecture needs (docs/engines.md)",
            )
            yield Term(
                name=SPARE,
                bytes=self.spare[stage],
                basis="unconfirmed",
                note="a block that stands for none (vllm 0.33.0, vllm/v1/core/block_pool.py)",
            )


MOST_KEPT = 4096
_models: dict[tuple[object, ...], tuple[ArchSpec, Model]] = {}


def footprint(arch: ArchSpec, deployment: Deployment, chunk_tokens: int, source_tokens: int | None) -> Footprint:
    """The sums of `deployment`; InputError where `chunk_tokens` or `source_tokens` is below 1 or means nothing."""
    _at_least_one(chunk_tokens=chunk_tokens, source_tokens=source_tokens)
    if source_tokens is not None and arch.structure != "encoder-decoder":
        raise InputError(f"source_tokens is {source_tokens}, but {arch.label} ({arch.structure}) reads no source")
    spread = deployment.spread
    check_stages(arch.label, arch.n_layers, spread.stages, spread.sharding.pipeline_layers)
    # By identity, because hashing an architecture costs more than its passes do; what is kept keeps it alive.
    key = (id(arch), spread, chunk_tokens, source_tokens)
    found = _models.get(key)
    if found is None:
        if len(_models) >= MOST_KEPT:
            _models.clear()
        found = _models[key] = arch, Model(arch, spread, chunk_tokens, source_tokens)
    return Footprint(found[1], deployment)


def _at_least_one(**numbers: int | None) -> None:
    """Raise InputError where one of `numbers` is no whole one or below 1."""
    for name, value in numbers.items():
        if value is not None and (isinstance(value, float) or value < 1):
            raise InputError(f"{name} is {value}; it must be at least 1, and a whole number")
