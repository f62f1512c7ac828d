"""Faults planted in what each half knows of latent attention, of experts and of the options of layers.

Each must come back as DIFFERS at the module that it touches, on the smallest model that has what it is planted in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest

from llmprof import confirm
from llmprof.ledger import Verdict
from llmprof.measure.bytes import kernel_bytes
from llmprof.measure.trace import Launch, tracing
from llmprof.predict import (
    audio,
    constants,
    experts,
    ffn,
    fused,
    head,
    indexer,
    latent,
    latent_core,
    masks,
    mtp,
    norms,
    router,
    unfused,
)
from llmprof.predict import layer as predicted_layer
from llmprof.predict import leaves as predicted_leaves
from llmprof.predict.gqa import GqaLowering
from llmprof.predict.leaf import Parameter
from llmprof.predict.leaves import model_leaves
from llmprof.predict.mla import MlaLowering
from llmprof.predict.tape import Tape
from llmprof.routing import Routing
from llmprof.spec.arch import ArchSpec, Attention, Ffn, Gaussian
from llmprof.twin import latent as twin_latent
from llmprof.twin import routes
from llmprof.twin import sinks as twin_sinks
from llmprof.twin.attention import SelfAttention, _GroupedQueries
from llmprof.twin.audio import _Convolution
from llmprof.twin.block import OutputNormLayer
from llmprof.twin.build import build
from llmprof.twin.cache import prepare_cache
from llmprof.twin.clip import QkvClip
from llmprof.twin.experts import Experts, Mixture
from llmprof.twin.ffn import Glu
from llmprof.twin.heads import HeadProjection
from llmprof.twin.indexer import Indexer, Select
from llmprof.twin.latent import LatentCache
from llmprof.twin.latent_core import LatentCore
from llmprof.twin.mla import LatentAttention
from llmprof.twin.model import Twin
from llmprof.twin.mtp import Join
from llmprof.twin.norms import RmsNorm
from llmprof.twin.output_gate import OutputGate
from llmprof.twin.router import Router
from llmprof.twin.session import Session
from llmprof.twin.xielu import Xielu
from llmprof.workload import Execution
from tests import test_planted_faults_attention as beyond_gqa
from tests import test_planted_faults_mixers as mixers
from tests.confirming import BF16, workload
from tests.faults import planted
from tests.modern import modern
from tests.planting import Fault, check, planted_for

CORE, PEAK = "attn.core", ""
CONCENTRATED = Routing("concentrated")

with_past = partial(Fault, spec=modern("mla"), past=9)
indexed = partial(Fault, spec=modern("mla-indexer"))

PREDICTED = [
    # --- latent attention
    Fault("mla: a latent without its rotated key", MlaLowering.kept, "lr=spec.kv_rank + spec.rope_dim", "lr=spec.kv_rank",
          "kv_cache_bytes", "attn.cache.latent", spec=modern("mla")),
    Fault("mla: absorbed scores over the latents alone", latent_core.absorbed_core, "scores(tape, turned, keys, ",
          'scores(tape, *(x.leading("lr", spec.kv_rank, "latent") for x in (turned, keys)), ',
          "matmul_flops", CORE, spec=modern("mla"), phase="decode"),
    with_past("mla: keys and values of the new rows alone", MlaLowering.attend, "if rows is not None and side.tokens < side.context", "if False",
              "matmul_flops", "attn.kv_up", latent="expanded"),
    Fault("mla: values that are taken for those of heads", MlaLowering.attend,
          "unabsorb(tape, side, spec, core.absorbed_core(tape, side, spec, q, rows, choice))",
          'core.absorbed_core(tape, side, spec, q, rows, choice).sliced("latent", 8, "hv").seen_as(**side.rows, o=24)',
          "matmul_flops", "attn.unabsorb", spec=modern("mla"), phase="decode"),
    Fault("mla: a matrix that counts where it is borrowed", MlaLowering.leaves, "owned=False", "owned=True",
          "params", "attn.absorb", spec=modern("mla-one-head")),
    with_past("mla: queries that are not moved before they are absorbed", latent.absorb, 'nope = tape.run("clone", nope)', "pass",
              "hbm_bytes", "attn.absorb"),
    # --- the indexer
    indexed("indexer: all keys are read where some were chosen", latent.read, "if places is not None", "if False",
            "hbm_bytes", CORE, phase="decode"),
    indexed("indexer: keys of every head are kept", indexer.index_kept, "ih=spec.head_dim", "ih=spec.n_heads * spec.head_dim",
            "kv_cache_bytes", "attn.indexer.cache.index"),
    indexed("indexer: what was not chosen is visible", latent_core.sight_of, "if choice.mask is None or spec.indexer is None", "if True",
            "matmul_flops_causal", CORE),
    indexed("indexer: what is hidden is not hidden again", indexer._select, 'tape.in_place("add_", m, constants.mask(side, sight))', "pass",
            "hbm_bytes", "attn.indexer.select"),
    # --- experts
    Fault("moe: a router of as many as a token takes", router.router_parameters, '"experts", spec.n_experts', '"experts", spec.top_k',
          "matmul_flops", "ffn.router", spec=modern("moe")),
    Fault("moe: experts without tokens run", experts.loads_of, " if load})", "})",
          "hbm_bytes", "ffn.experts", spec=modern("moe"), routing=CONCENTRATED),
    Fault("moe: no shared expert", experts.beside_shared, "if spec.shared is None", "if True",
          "matmul_flops", "ffn.shared.up", spec=modern("moe-shared")),
    Fault("moe: what is added to is not read", Tape.scatter, "(index, source, touched), ", "(index, source), ",
          "hbm_bytes", "ffn.experts", spec=modern("moe")),
    Fault("moe: all experts are read for each", experts._parameters_of_one, 'parameter.without("experts")', "parameter.axes",
          "hbm_bytes", "ffn.experts", spec=modern("moe")),
    Fault("moe: an expert is counted once", Parameter.count.fget, "prod(self.axes.values())", 'prod(n for name, n in self.axes.items() if name != "experts")',  # type: ignore[attr-defined]
          "params", "ffn.experts", spec=modern("moe-shared-gate")),
    Fault("moe: experts that see the width of the model", experts._routed, "if spec.latent is None", "if True",
          "matmul_flops", "ffn.latent_down", spec=modern("moe-latent")),
    Fault("moe: a bias behind a latent", experts.moe_leaves, 'matrix("d", d, "elatent", spec.latent, bias=False)', 'matrix("d", d, "elatent", spec.latent, bias=True)',
          "params", "ffn.latent_up", spec=modern("moe-latent")),
    # --- a token table of its own width
    Fault("embedding width: a table as wide as the layers", predicted_leaves._table_row, "if arch.embedding_width is None", "if True",
          "params", "embed", spec=modern("embedding-width")),
    Fault("embedding width: nothing before the logits", head.logits, "setting.arch.embedding_width is not None", "False",
          "matmul_flops", "head.proj", spec=modern("embedding-width")),
    # --- options of gqa
    Fault("sinks: no column of their own", unfused._softmax, "keys + 1}", "keys}",
          "hbm_bytes", CORE, spec=modern("sinks")),
    Fault("sinks: no share of the sinks", fused._drain, 'tape.in_place("mul_", o, share)', "pass",
          "hbm_bytes", CORE, spec=modern("sinks"), attention="fused"),
    Fault("chunk: a row of every token", GqaLowering.kept, "spec.window or spec.chunk", "spec.window",
          "kv_cache_bytes", "attn.cache.k", spec=modern("chunk")),
    Fault("chunk: rows of the past count again", masks._chunked, " - _sum_of(1, first[1])", "",
          "matmul_flops_causal", CORE, spec=modern("chunk"), past=9),
    Fault("shared_kv: a borrower with a cache of its own", GqaLowering.kept, "if spec.shared_kv", "if False",
          "kv_cache_bytes", "layers.1.attn.cache.k", spec=modern("shared-kv"), verdict=Verdict.UNMEASURED,
          also=((GqaLowering.leaves, "if cached and not spec.shared_kv", "if cached"),)),
    Fault("shared_kv: a borrower that turns no queries", GqaLowering.attend_over, "q = rotate_queries(tape, side, position, q)", "pass",
          "hbm_bytes", "layers.1.attn.rope", spec=modern("shared-kv")),
    Fault("qkv_clip: values that are not cut", QkvClip.forward, "clipped(v, self.limit)", "v",
          "hbm_bytes", "attn.clip", spec=modern("qkv-clip")),
    Fault("qkv_clip: values that are not cut", GqaLowering.attend_over, "self._clipped(tape, q, *own)", "*self._clipped(tape, q, own[0]), own[1]",
          "hbm_bytes", "attn.clip", spec=modern("qkv-clip")),
    Fault("output gate: no sigmoid", GqaLowering._gated, 'tape.run("sigmoid", gate)', "gate",
          "hbm_bytes", "attn.gate", spec=modern("gate-value")),
    Fault("output gate: of heads, with a value for each of theirs", GqaLowering.leaves, 'matrix("n", spec.n_heads, "d"', 'matrix("n", q, "d"',
          "params", "attn.gate_proj", spec=modern("gate-head")),
    Fault("sparsemixer: a first choice that may come again", router._one_after_another, 'scores = tape.run("clone", logits, fmt=FP32)', "continue",
          "hbm_bytes", "ffn.router", spec=modern("moe-sparsemixer")),
    Fault("down_bias: none", ffn.expert_leaves, "bias=spec.has_down_bias", "bias=spec.bias",
          "params", "ffn.down", spec=modern("down-bias")),
    Fault("xielu: a square of half as many", ffn._xielu, 'tape.run("square", x)', "x",
          "hbm_bytes", "ffn.act", spec=modern("xielu")),
    Fault("t5 per layer: one column for all heads", GqaLowering.leaves, '{"buckets": position.n_buckets, "n": spec.n_heads}', '{"buckets": position.n_buckets}',
          "params", "attn.rel_bias", spec=modern("t5-per-layer")),
    # --- norms, further tokens, sound
    Fault("unit_offset: a weight in the dtype of activations", norms.offset_rms_norm, "tape.cast(parameter, FP32)", "tape.cast(parameter)",
          "hbm_bytes", "ffn_norm", spec=modern("unit-offset")),
    Fault("reordered: no norm on the output", predicted_layer._serial, "if norm_on_output(layer)", "if False",
          "hbm_bytes", "attn_post_norm", spec=modern("reordered")),
    Fault("mtp: the last norms have no weight", mtp.leaves_around, '{f"{PREFIX}norms.{index}": of_norm}', '{f"{PREFIX}norms.{index}": ()}',
          "params", "mtp.norms.1", spec=modern("mtp"), mtp=True),
    Fault("mtp: one list of tokens for all", constants.next_ids, "side.stack.prefix, index, ", "side.stack.prefix, ",
          "peak_live_bytes", PEAK, spec=modern("mtp"), mtp=True),
    Fault("audio: no stride", audio.listen, "_convolve(tape, x, side.row, m)", "_convolve(tape, x, side.row, 2 * m)",
          "matmul_flops", "encoder.conv2", spec=modern("audio")),
]  # fmt: skip

MEASURED = [
    # --- latent attention
    Fault("mla: a rotated key for every head", LatentAttention.prepare, "self.spec.kv_rank + self.spec.rope_dim", "self.spec.kv_rank + self.spec.n_heads * self.spec.rope_dim",
          "kv_cache_bytes", "attn.cache.latent", spec=modern("mla"),
          also=((LatentCache.forward, "key.squeeze(2)", "key.expand(-1, -1, 3, -1).flatten(2)"),)),
    Fault("mla: absorbed scores over the latents alone", LatentCore._absorbed, "torch.bmm(queries, rows.transpose(1, 2))",
          "torch.bmm(queries[..., : self.kv_rank], rows[..., : self.kv_rank].transpose(1, 2))",
          "matmul_flops", CORE, spec=modern("mla"), phase="decode"),
    Fault("mla: keys and values of the new rows alone", LatentAttention.forward, "self.kv_up(rows, None, chosen)", "self.kv_up(rows[:, -x.shape[1] :], None, chosen)",
          "matmul_flops", "attn.kv_up", spec=modern("mla"), phase="decode", latent="expanded"),
    Fault("mla: values that are taken for those of heads", LatentAttention.forward, "o = self.unabsorb(o, self.kv_up.weight)", "o = o.flatten(2)[..., :24]",
          "matmul_flops", "attn.unabsorb", spec=modern("mla"), phase="decode"),
    Fault("mla: a mask beside the kernel's own", LatentAttention.prepare, 'see.kind == "causal" and not past', 'see.kind == "none"',
          "hbm_bytes", CORE, spec=modern("mla"), attention="fused"),
    # --- the indexer
    indexed("indexer: all keys are read where some were chosen", twin_latent.picked, "if chosen is None", "if True",
            "hbm_bytes", CORE, phase="decode"),
    indexed("indexer: what is hidden is not hidden again", Select.forward, "shown if mask is None else shown.add_(mask)", "shown",
            "hbm_bytes", "attn.indexer.select"),
    indexed("indexer: scores of everything", Indexer.prepare, 'desk.runs_over(f"{self.path}.score", Pairs.all_of(see))', "pass",
            "matmul_flops_causal", "attn.indexer.score"),
    # --- experts
    Fault("moe: a router of twice as many", Router.__init__, "material.parameter(spec.n_experts, d_model)", "material.parameter(2 * spec.n_experts, d_model)",
          "matmul_flops", "ffn.router", spec=modern("moe")),
    Fault("moe: a correction that is learned", Router.__init__, 'self.register_buffer("correction", zeros if', 'self.register_parameter("correction", torch.nn.Parameter(zeros) if',
          "params", "ffn.router", spec=modern("moe-sigmoid-groups")),
    Fault("moe: experts without tokens run", routes.runs_of, "if count", "if True",
          "hbm_bytes", "ffn.experts", spec=modern("moe"), routing=CONCENTRATED),
    Fault("moe: no shared expert", Mixture.forward, "s = self.shared(rows, run)", "s = rows",
          "matmul_flops", "ffn.shared.up", spec=modern("moe-shared")),
    Fault("moe: what is added to is not read", kernel_bytes, "3 * unique_bytes(rows)", "2 * unique_bytes(rows)",
          "hbm_bytes", "ffn.experts", spec=modern("moe")),
    Fault("moe: inputs are weighted, and outputs too", Experts.forward, "None if self.weighs_input else weights", "weights",
          "hbm_bytes", "ffn.experts", spec=modern("moe-input-weights")),
    Fault("moe: latents that are made twice", Mixture.forward, "else self.latent_down(rows)", "else self.latent_down(rows.expand(2, -1, -1))[0]",
          "matmul_flops", "ffn.latent_down", spec=modern("moe-latent")),
    Fault("moe: a bias behind a latent", Mixture.__init__, "layer_matrix(latent, d, bias=False", "layer_matrix(latent, d, bias=True",
          "params", "ffn.latent_up", spec=modern("moe-latent")),
    # --- a token table of its own width
    Fault("embedding width: a bias of the matrix behind the table", Twin.__init__, "layer_matrix(width, d, bias=False", "layer_matrix(width, d, bias=True",
          "params", "embed_proj", spec=modern("embedding-width")),
    Fault("embedding width: rows that are projected twice", HeadProjection.forward, "F.linear(_rows_of(x, logits), weight)", "F.linear(torch.cat((x, x)), weight)[: len(x)]",
          "matmul_flops", "head.proj", spec=modern("embedding-width")),
    # --- options of gqa
    Fault("sinks: no column of their own", twin_sinks._unfused, "scores = torch.cat((scores, sinks.view(1, heads, 1, 1).expand(b, heads, t, 1)), dim=-1)", "pass",
          "hbm_bytes", CORE, spec=modern("sinks")),
    Fault("sinks: no share of the sinks", twin_sinks.SinkCore.forward, "multiplied(out.transpose(1, 2), _by_row(share))", "out.transpose(1, 2)",
          "hbm_bytes", CORE, spec=modern("sinks"), attention="fused"),
    Fault("chunk: a row of every token", prepare_cache, "slots, past = chunk, first % chunk", "past = first % chunk",
          "kv_cache_bytes", "attn.cache.k", spec=modern("chunk")),
    Fault("chunk: every row is written", prepare_cache, "(desk.context - 1) % chunk + 1", "None",
          "hbm_bytes", "attn.cache", spec=modern("chunk"), tokens=14),
    Fault("shared_kv: a borrower with a cache of its own", _GroupedQueries.__init__, "if cached and not spec.shared_kv", "if cached",
          "kv_cache_bytes", "layers.1.attn.cache.k", spec=modern("shared-kv"), verdict=Verdict.UNPREDICTED),
    Fault("shared_kv: a borrower that turns no queries", SelfAttention.forward, "q = self.rope(q, *now.rotation)", "pass",
          "hbm_bytes", "layers.1.attn.rope", spec=modern("shared-kv")),
    Fault("output gate: no sigmoid", OutputGate.forward, "o * torch.sigmoid(g)\n", "o * g\n",
          "hbm_bytes", "attn.gate", spec=modern("gate-value")),
    Fault("output gate: of heads, with a value for each of theirs", SelfAttention.__init__, 'spec.head_dim if spec.output_gate == "value" else 1', "spec.head_dim",
          "params", "attn.gate_proj", spec=modern("gate-head")),
    Fault("sparsemixer: no threshold", Router._one_after_another, 'scores.masked_fill(far, float("-inf"))', "scores",
          "hbm_bytes", "ffn.router", spec=modern("moe-sparsemixer")),
    Fault("down_bias: one of all matrices", Glu.__init__, "self.gate = layer_matrix(d, spec.d_ff, bias=spec.bias", "self.gate = layer_matrix(d, spec.d_ff, bias=spec.has_down_bias",
          "params", "ffn.gate", spec=modern("down-bias")),
    Fault("xielu: one number for both sides", Xielu.__init__, "self.alpha_n = material.parameter(1)", "self.alpha_n = self.alpha_p",
          "params", "ffn.act", spec=modern("xielu")),
    Fault("t5 per layer: no mask in the bias", SelfAttention.forward, "self.rel_bias(run.buckets, run.buckets_mask)", "self.rel_bias(run.buckets, None)",
          "hbm_bytes", "decoder.layers.0.attn.rel_bias", spec=modern("t5-per-layer")),
    # --- norms, further tokens, sound
    Fault("unit_offset: a weight in the dtype of activations", RmsNorm.forward, "torch.float32 if self.unit_offset else x.dtype", "x.dtype",
          "hbm_bytes", "ffn_norm", spec=modern("unit-offset")),
    Fault("reordered: no norm on the output", OutputNormLayer.through, "f = _behind(self.attn_post_norm, f)", "pass",
          "hbm_bytes", "attn_post_norm", spec=modern("reordered")),
    Fault("mtp: a bias of the projection", Join.__init__, "bias=False", "bias=True",
          "params", "mtp.join.1.proj", spec=modern("mtp"), mtp=True),
    Fault("mtp: embeddings that are not scaled", Twin._further, "if main.embed_scale is not None", "if False",
          "hbm_bytes", "embed_scale", spec=modern("mtp"), mtp=True),
    Fault("audio: every second position is thrown away", _Convolution.convolved, "stride=self.stride, padding=weight.shape[-1] // 2)", "padding=weight.shape[-1] // 2)[..., :: self.stride]",
          "matmul_flops", "encoder.conv2", spec=modern("audio")),
]  # fmt: skip


@pytest.mark.parametrize("fault", PREDICTED, ids=lambda f: f"predicted: {f.name}")
def test_a_fault_in_the_prediction_differs(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("fault", MEASURED, ids=lambda f: f"measured: {f.name}")
def test_a_fault_in_the_measurement_differs(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("half", ["PREDICTED", "MEASURED"])
def test_every_kind_has_two_faults_in_each_half(half: str) -> None:
    """A kind that is added to the language is missed here until faults are planted in it."""
    faults = [fault for module in (beyond_gqa, mixers) for fault in getattr(module, half)]
    faults += {"PREDICTED": PREDICTED, "MEASURED": MEASURED}[half]
    planted_in = Counter(kind for fault in faults for kind in planted_for(fault))
    for kind in (*get_args(Attention), *get_args(Ffn), Gaussian):
        assert planted_in[kind] >= 2, kind


@pytest.mark.parametrize("name", ["moe-shared-gate", "moe-latent"])
@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        pytest.param(Parameter.active_axes.fget, "if self.chosen is None", "if True", id="predicted: all experts"),  # type: ignore[attr-defined]
        pytest.param(Parameter.active_axes.fget, '("top_k", chosen)', '("top_k", 1)', id="predicted: one expert"),  # type: ignore[attr-defined]
        pytest.param(routes.runs_of, "if count", "if True", id="measured: experts without tokens"),
    ],
)
def test_a_fault_in_the_active_parameters_differs(function: Callable[..., Any], old: str, new: str, name: str) -> None:
    """No ledger has a row for them: the parameters of a feed-forward that one token reads are counted here."""
    spec = modern(name)
    assert confirm.compare(active(spec), read_by_one_token(spec)) is Verdict.AGREES
    with planted(function, old, new):
        assert confirm.compare(active(spec), read_by_one_token(spec)) is Verdict.DIFFERS


def active(spec: ArchSpec) -> int:
    """The active parameters of all feed-forwards, as they are predicted."""
    leaves = model_leaves(spec)
    return sum(parameter.active for path in leaves if ".ffn." in path for parameter in leaves[path])


class WeightsRead:
    """Counts the values of the parameters of feed-forwards that kernels read, each once."""

    def __init__(self, twin: Twin) -> None:
        self._owned = {parameter.untyped_storage()._cdata for parameter in twin.parameters()}
        self._parts: dict[tuple[int, Any], int] = {}

    @property
    def values(self) -> int:
        return sum(self._parts.values())

    def observe(self, launch: Launch) -> None:
        for read in launch.inputs if launch.is_kernel and ".ffn." in launch.path else ():
            if read.untyped_storage()._cdata in self._owned:
                self._parts[read.untyped_storage()._cdata, read.storage_offset()] = read.numel()


def read_by_one_token(spec: ArchSpec) -> int:
    """The same as a decode step of the twin reads them."""
    twin = build(spec, dtypes=BF16, device="meta", seed=0)
    session, read = Session(twin, workload(spec, "decode"), Execution(attention="unfused")), WeightsRead(twin)
    with tracing(twin, (read,)):
        session.run()
    return read.values
