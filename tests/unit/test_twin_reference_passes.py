"""Passes under the named unfused references: masks, results, lifetimes, refusals (docs/reference-unfused.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from twin_archs import GQA, MHA, MQA, T5, bare, decoder, encoder_decoder, layer
from twin_attending import FP32, arch_of, workload

from llmprof.errors import InputError
from llmprof.measure.live import LiveBytes
from llmprof.measure.run import measure
from llmprof.measure.trace import Launch, tracing
from llmprof.spec.arch import Alibi, ArchSpec, Gqa, Linear, TalkingHeads
from llmprof.twin import core
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.twin.unfused import NoReference
from llmprof.workload import Dtypes, Execution, UnfusedReference, Workload


def on(reference: UnfusedReference, device: str = "meta") -> Execution:
    return Execution(attention="unfused", kernels="cpu" if device == "cpu" else "cuda", reference=reference)


class TestMasks:
    """The constant mask of `hf-eager` is what transformers' own functions make for eager attention."""

    @pytest.mark.parametrize("batch", [1, 2])
    @pytest.mark.parametrize(("new", "context"), [(5, 5), (1, 6), (3, 7), (1, 1)])
    @pytest.mark.parametrize("window", [None, 3])
    def test_of_a_causal_stack(self, batch: int, new: int, context: int, window: int | None) -> None:
        from transformers import LlamaConfig
        from transformers.cache_utils import DynamicCache
        from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

        config = LlamaConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
        config.sliding_window = window
        config._attn_implementation = "eager"
        cache = DynamicCache()
        past = context - new
        if past:
            cache.update(torch.zeros(batch, 2, past, 8), torch.zeros(batch, 2, past, 8), 0)
        make = create_causal_mask if window is None else create_sliding_window_causal_mask
        real = make(
            config=config,
            inputs_embeds=torch.zeros(batch, new, 16),
            attention_mask=None,
            past_key_values=cache,
            position_ids=torch.arange(past, context)[None],
        )
        arch = arch_of(Gqa(n_heads=2, n_kv_heads=2, head_dim=8, window=window), "causal")
        session = Session(
            build(arch, dtypes=FP32, device="cpu"), workload(context, new=new, batch=batch), on("hf-eager", "cpu")
        )
        (ours,) = [constant for constant in session.constants if constant.dim() == 4]
        assert isinstance(real, Tensor)
        # transformers' cache keeps the past that no row sees any more, ours does not: the keys are the last ones.
        # In a ring the slots are the keys' order; sorted, rows of 0 and the lowest number are equal.
        real = real[..., real.shape[-1] - ours.shape[-1] :]
        assert ours.is_contiguous()
        assert torch.equal(ours.sort(-1).values, real.sort(-1).values)
        if new > 1:
            assert torch.equal(ours, real)

    @pytest.mark.parametrize(("window", "exists"), [(None, False), (4, True), (40, False)])
    def test_of_a_bidirectional_stack(self, window: int | None, exists: bool) -> None:
        arch = arch_of(Gqa(n_heads=2, n_kv_heads=2, head_dim=8, window=window), "bidirectional")
        session = Session(build(arch, dtypes=FP32), workload(6, batch=2), on("hf-eager"))
        assert [tuple(c.shape) for c in session.constants if c.dim() == 4] == ([(2, 1, 6, 6)] if exists else [])

    def test_of_a_bidirectional_stack_in_transformers(self) -> None:
        from transformers import LlamaConfig
        from transformers.masking_utils import create_bidirectional_mask

        config = LlamaConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
        config._attn_implementation = "eager"
        assert (
            create_bidirectional_mask(config=config, inputs_embeds=torch.zeros(2, 5, 16), attention_mask=None) is None
        )

    def test_of_a_prefix_that_hides_nothing(self) -> None:
        """Only bidirectional masks are left out."""
        session = Session(build(arch_of(GQA, "prefix"), dtypes=FP32), workload(6, batch=2, prefix=6), on("hf-eager"))
        assert [tuple(c.shape) for c in session.constants if c.dim() == 4] == [(2, 1, 6, 6)]

    def test_layers_that_see_alike_share_it(self) -> None:
        windowed = bare(attention=Gqa(n_heads=4, n_kv_heads=2, head_dim=8, window=3))
        wide = bare(attention=Gqa(n_heads=4, n_kv_heads=2, head_dim=8, window=30))
        arch = decoder(bare(), windowed, bare(), wide, windowed)
        session = Session(build(arch, dtypes=FP32), workload(6, batch=2), on("hf-eager"))
        assert sum(c.dim() == 4 for c in session.constants) == 2

    def test_cross_attention_has_none(self) -> None:
        arch = encoder_decoder(bare(), bare(), depth=1)
        load = replace(workload(6, batch=2), source_tokens=4)
        session = Session(build(arch, dtypes=FP32), load, on("hf-eager"))
        assert [tuple(c.shape) for c in session.constants if c.dim() == 4] == [(2, 1, 6, 6)]  # the decoder's own


class TestPasses:
    ARCHS: ClassVar[dict[str, ArchSpec]] = {
        "mha": decoder(*[layer(attention=MHA)] * 2),
        "gqa": decoder(*[layer(attention=GQA)] * 2),
        "mqa, window": decoder(*[layer(attention=replace(MQA, window=3))] * 2),
        "scale of 1": decoder(layer(attention=replace(GQA, scale=1.0))),
        "prefix": arch_of(GQA, "prefix"),
        "encoder": arch_of(replace(GQA, window=4), "bidirectional"),
        "encoder-decoder": encoder_decoder(bare(), bare(), depth=1),
    }

    @pytest.mark.parametrize("name", ARCHS)
    @pytest.mark.parametrize("reference", ["hf-eager", "sdpa-math"])
    def test_a_pass_computes_what_lean_eager_computes(self, name: str, reference: UnfusedReference) -> None:
        arch = self.ARCHS[name]
        loads = [workload(6, batch=2, prefix=2 if name == "prefix" else 0)]
        if name != "encoder":
            loads.append(workload(6, new=1, batch=2, decode=True, prefix=2 if name == "prefix" else 0))
        for load in loads:
            if name == "encoder-decoder":
                load = replace(load, source_tokens=4)
            twin = build(arch, dtypes=FP32, device="cpu", seed=3)
            lean = Session(twin, load, on("lean-eager", "cpu"), seed=5).run().logits
            named = measure(twin, load, on(reference, "cpu"), seed=5, keep_output=True)
            assert lean is not None
            assert named.output is not None
            assert named.output.logits is not None
            torch.testing.assert_close(named.output.logits, lean)
            assert set(named.kernels.values()) == {reference}

    @pytest.mark.parametrize("reference", ["hf-eager", "sdpa-math"])
    def test_meta_is_the_cpu(self, reference: UnfusedReference) -> None:
        """Bytes and peak of every path, in bf16 and fp32, in prefill, after a past, and in decode."""
        for dtypes in (Dtypes(), FP32):
            for arch in (self.ARCHS["gqa"], self.ARCHS["mqa, window"], self.ARCHS["mha"]):
                for new in (6, 3, 1):
                    load = workload(6, new=new, batch=2, dtypes=dtypes)
                    found = [
                        measure(build(arch, dtypes=dtypes, device=device), load, on(reference, device)).ledger
                        for device in ("meta", "cpu")
                    ]
                    assert [(e.path, e.quantity, e.value) for e in found[0]] == [
                        (e.path, e.quantity, e.value) for e in found[1]
                    ]

    def test_a_fused_kernel_that_decomposes_is_found_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What ran is told by its ops: MATH in the place of flash is sdpa-math, and was not planned."""
        monkeypatch.setattr(core, "flash", _decomposed)
        with pytest.raises(RuntimeError, match=r"planned kernels .*'flash'.*, but saw .*'sdpa-math'"):
            measure(
                build(decoder(layer()), dtypes=Dtypes()), workload(6, dtypes=Dtypes()), Execution(attention="fused")
            )


def _decomposed(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float, **rest: Any) -> Tensor:
    return F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=causal, scale=scale, enable_gqa=True)


class TestLifetimes:
    """Bytes that live at the end of the core's kernels beside what it was given, B = 2, T = S = 6, in bf16.

    4 heads of 8 over 2 of keys and values: q of 384 elements, k and v of 192 each, 384 with their heads repeated, 288
    scores in 48 rows.
    """

    def core_of(self, reference: UnfusedReference) -> list[tuple[str, int]]:
        load = workload(6, batch=2, dtypes=Dtypes())
        twin = build(decoder(layer()), dtypes=Dtypes())
        session = Session(twin, load, on(reference))
        live = LiveBytes(excluded=[*twin.parameters(), *session.caches.values()], constants=session.constants)
        seen: list[tuple[str, int]] = []
        entered = 0

        class Seen:
            def observe(self, launch: Launch) -> None:
                if launch.path == "layers.0.attn.core" and launch.is_kernel:
                    seen.append((launch.op._schema.name.removeprefix("aten::"), live.live - entered))

        def enter(module: Any, args: Any) -> None:
            nonlocal entered
            entered = live.live

        hook = twin.get_submodule("layers.0.attn.core").register_forward_pre_hook(enter)
        try:
            with tracing(twin, (live, Seen())):
                session.run()
        finally:
            hook.remove()
        return seen

    def test_hf_eager(self) -> None:
        q, kv, w = 2 * 384, 2 * 384, 2 * 288
        assert self.core_of("hf-eager") == [
            ("clone", kv),
            ("clone", 2 * kv),
            ("clone", 2 * kv + q),
            ("bmm", 2 * kv + q + w),
            ("mul", 2 * kv + 2 * w),
            ("add", 2 * kv + 2 * w),
            ("_to_copy", 2 * kv + w + 2 * w),  # the scores stay until the name has its next value
            ("_softmax", 2 * kv + w + 2 * w + 2 * w),
            ("_to_copy", 2 * kv + w + 2 * w + w),
            ("bmm", 2 * kv + w + q),
            ("clone", 2 * kv + w + 2 * q),
        ]

    def test_sdpa_math(self) -> None:
        """fp32: q 1536, k and v 768 each, 1536 with their heads repeated, the mask 144, scores 1152, rows 48."""
        q, kv, x, w, rows = 4 * 384, 4 * 192, 4 * 384, 4 * 288, 48
        scaled = q + 2 * kv + q  # q, k and v in fp32, and q scaled
        held = scaled + 144 + 2 * x  # with the mask, and the heads repeated
        assert self.core_of("sdpa-math") == [
            ("_to_copy", q),
            ("_to_copy", q + kv),
            ("_to_copy", q + 2 * kv),
            ("mul", scaled),
            ("ones", scaled + 36),
            ("tril", scaled + 72),
            ("scalar_tensor", scaled + 36 + 4),
            ("scalar_tensor", scaled + 36 + 8),
            ("where", scaled + 36 + 8 + 144),
            ("clone", scaled + 144 + x),
            ("clone", held),
            ("mul", held + x),
            ("clone", held + x + q),
            ("bmm", held + x + q + w),
            ("add", held + 2 * w),
            ("_softmax", held + 2 * w),
            ("isneginf", held + 2 * w + 288),
            ("all", held + 2 * w + 288 + rows),
            ("scalar_tensor", held + 2 * w + 288 + rows + 4),
            ("where", held + 2 * w + 288 + rows + 4),
            ("_to_copy", held + w + w // 2),
            ("bmm", held + w + w // 2 + q),
            ("_to_copy", held + w + w // 2 + q + q // 2),
            ("clone", q // 2 + q // 2),
        ]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arch", "reference", "path", "lacks"),
        [
            (decoder(bare(Alibi())), "hf-eager", "layers.0.attn.core", "position alibi"),
            (decoder(bare(T5)), "hf-eager", "layers.0.attn.core", "position t5-bias"),
            (decoder(layer(attention=replace(GQA, softcap=30.0))), "sdpa-math", "layers.0.attn.core", "capped at 30"),
            (decoder(layer(attention=replace(GQA, sinks=True))), "sdpa-math", "layers.0.attn.core", "attention sinks"),
            (decoder(layer(), bare(attention=TalkingHeads(n_heads=4, head_dim=8))), "hf-eager", "layers.1.attn", "kind talking-heads"),
            (decoder(bare(attention=Linear(n_heads=4, head_dim=8, chunk=4))), "sdpa-math", "layers", "no attention of kind gqa"),
        ],
    )  # fmt: skip
    def test_what_a_reference_has_no_list_for(
        self, arch: ArchSpec, reference: UnfusedReference, path: str, lacks: str
    ) -> None:
        with pytest.raises(NoReference, match=lacks) as raised:
            Session(build(arch, dtypes=FP32), workload(6), on(reference))
        assert raised.value.path == path
        assert reference in str(raised.value)
        Session(build(arch, dtypes=FP32), workload(6), on("lean-eager"))

    def test_sdpa_math_takes_biases(self) -> None:
        for position in (Alibi(), T5):
            twin = build(decoder(bare(position)), dtypes=FP32, device="cpu")
            outputs = [Session(twin, workload(6), on(name, "cpu")).run().logits for name in ("lean-eager", "sdpa-math")]
            torch.testing.assert_close(outputs[0], outputs[1])

    def test_training(self) -> None:
        load = Workload(
            phase="train", batch=1, new_tokens=6, context=6, objective="causal-lm", loss_tokens=5, dtypes=FP32
        )
        with pytest.raises(InputError, match="a training pass runs lean-eager"):
            Session(build(decoder(layer()), dtypes=FP32), load, on("hf-eager"))
