"""Known errors of a referee: what a class of transformers does otherwise than its architecture, to the last unit.

A difference between transformers and a prediction is explained where the known errors of the class, each worked out
from the spec, the pass and the config, sum to exactly that difference. Anything else stays a difference. Classes are
meant, never models. Files and functions are those of transformers 5.23.0 (https://pypi.org/project/transformers/5.23.0/,
read 2026-11-30), below ``models/`` where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmprof.conformance import formulas
from llmprof.conformance.rows import Quantity
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a witness was asked: an architecture, a pass of it, and the config that its class was built from."""

    arch: ArchSpec
    workload: Workload
    config: Mapping[str, Any]

    @property
    def model_type(self) -> str:
        """The class, by the name that configs call it."""
        return str(self.config.get("model_type"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One known error: `difference` is what the witness has beyond the prediction.

    `classes` are model_types, and empty where the error is of all but `not_of`. `path` is the module where a
    difference of parameters stands. `evidence` names the file and the function that show it.
    """

    key: str
    quantity: Quantity
    classes: frozenset[str]
    difference: Callable[[Case], int]
    formula: str
    why: str
    evidence: str
    path: str = ""
    not_of: frozenset[str] = frozenset()

    def at(self, case: Case) -> int:
        """The difference that this error makes in a case: 0 for a class that does not have it."""
        if case.model_type in self.not_of or (self.classes and case.model_type not in self.classes):
            return 0
        return self.difference(case)


READ_IN = "5.23.0"
"""The release of transformers that the errors below were read in and seen with."""

T5 = frozenset({"t5", "mt5", "umt5"})
WHOLE_CACHE = frozenset({"gpt_neo"})
MAMBA1 = frozenset({"mamba", "falcon_mamba", "jamba"})
SHORT = frozenset({"lfm2", "lfm2_moe"})
DELTA = frozenset({"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "olmo_hybrid"})
GRIFFIN = frozenset({"recurrent_gemma"})
MAMBA2 = frozenset({"mamba2", "nemotron_h", "falcon_h1", "granitemoehybrid", "bamba", "zamba2"})

KNOWN: tuple[Known, ...] = (
    Known(
        key="t5-forced-tying",
        quantity="params_total",
        classes=T5,
        difference=lambda case: -formulas.output_matrix(case.arch),
        formula="- V D where the architecture's output matrix is untied",
        why="the class ties the output matrix to the token table whatever the config says; the releases of T5 1.1, "
        "Flan-T5 and mT5 have both",
        evidence="t5/configuration_t5.py, mt5/configuration_mt5.py and umt5/configuration_umt5.py, __post_init__: "
        "tie_word_embeddings = True",
        path="lm_head",
    ),
    Known(
        key="latents-expanded",
        quantity="matmul_flops",
        classes=frozenset(),
        difference=lambda case: formulas.expanded_beyond_absorbed(case.arch, case.workload),
        formula="FLOPs with --latent expanded of all tokens, less those with --latent absorbed of the chosen ones",
        why="each step makes all heads' keys and values of all past latents anew, and masks those that an indexer has "
        "not chosen; the default here attends to the chosen latents themselves",
        evidence="deepseek_v3/modeling_deepseek_v3.py, DeepseekV3Attention.forward: kv_b_proj of the whole cache",
    ),
    Known(
        key="falcon-broadcast-cache",
        quantity="kv_cache_bytes",
        classes=frozenset({"falcon"}),
        difference=lambda case: (
            formulas.broadcast_cache(case.arch, case.workload) if case.config.get("new_decoder_architecture") else 0
        ),
        formula="2 B S (n_heads - n_kv_heads) head_dim values per layer",
        why="keys and values are repeated to all query heads before they are cached",
        evidence="falcon/modeling_falcon.py, FalconAttention._split_heads: torch.broadcast_to(key, query.shape)",
    ),
    Known(
        key="llama4-all-experts",
        quantity="matmul_flops",
        classes=frozenset({"llama4", "llama4_text"}),
        difference=lambda case: formulas.idle_experts(case.arch, case.workload),
        formula="the FLOPs of an expert for each of B T tokens and of the E - top_k experts not chosen",
        why="every token goes through every expert, weighted by 0 where it is not chosen",
        evidence="llama4/modeling_llama4.py, Llama4TextMoe.forward: hidden_states.repeat(router_scores.shape[1], 1)",
    ),
    Known(
        key="window-less-one",
        quantity="kv_cache_bytes",
        classes=frozenset(),
        difference=lambda case: formulas.engine_kv(case.arch, case.workload),
        formula="- one row of keys and values per layer whose window or chunk is full",
        why="a full window keeps window - 1 tokens, and the next token brings the last; a window of one keeps all",
        evidence="cache_utils.py, DynamicSlidingWindowLayer.update: [:, :, -self.sliding_window + 1 :, :]",
        not_of=WHOLE_CACHE,
    ),
    Known(
        key="whole-cache-kept",
        quantity="kv_cache_bytes",
        classes=WHOLE_CACHE,
        difference=lambda case: formulas.rows_behind_windows(case.arch, case.workload),
        formula="rows of keys and values of the S - window tokens behind each window",
        why="layers with a window keep all tokens, and the mask hides those behind it",
        evidence="gpt_neo/modeling_gpt_neo.py, GPTNeoSelfAttention: the window is in the bias alone",
    ),
    Known(
        key="whole-cache-read",
        quantity="matmul_flops",
        classes=WHOLE_CACHE,
        difference=lambda case: formulas.pairs_behind_windows(case.arch, case.workload),
        formula="decode: 4 B H h (S - window) per layer with a window",
        why="a step attends to all tokens that are kept",
        evidence="gpt_neo/modeling_gpt_neo.py, GPTNeoSelfAttention._attn",
    ),
    Known(
        key="chunk-read-as-window",
        quantity="matmul_flops",
        classes=frozenset({"llama4", "llama4_text"}),
        difference=lambda case: formulas.pairs_of_earlier_chunks(case.arch, case.workload),
        formula="decode: 4 B H h (tokens kept - tokens of this chunk) per layer with a chunk",
        why="a step attends to the last chunk tokens, and the mask hides those of the chunk before",
        evidence="cache_utils.py: a layer of chunked attention is a DynamicSlidingWindowLayer",
    ),
    Known(
        key="convolution-column",
        quantity="recurrent_state_bytes",
        classes=frozenset(),
        difference=lambda case: formulas.engine_states(case.arch, case.workload),
        formula="one column of B C values in the activations' dtype per convolution",
        why="a convolution keeps d_conv columns of its input, of which the next token needs d_conv - 1",
        evidence="cache_utils.py, LinearAttentionLayer.update_conv_state",
    ),
    Known(
        key="convolution-padding",
        quantity="matmul_flops",
        classes=MAMBA1 | MAMBA2 | SHORT | DELTA,
        difference=lambda case: formulas.padded_convolution(case.arch, case.workload),
        formula="prompt: 2 B C d_conv (d_conv - 1) per layer; decode: 2 B C d_conv per layer",
        why="a prompt is padded by d_conv - 1 on both sides and as many results are cut off; a step convolves d_conv "
        "kept columns and the new one, and uses one of two results",
        evidence="mamba/modeling_mamba.py and mamba2/modeling_mamba2.py, causal_conv1d_fn and causal_conv1d_update",
    ),
    Known(
        key="prompt-padding",
        quantity="matmul_flops",
        classes=GRIFFIN,
        difference=lambda case: (
            formulas.padded_convolution(case.arch, case.workload) if case.workload.phase == "prefill" else 0
        ),
        formula="prompt: 2 B C d_conv (d_conv - 1) per layer",
        why="a prompt is padded by d_conv - 1 on both sides and as many results are cut off",
        evidence="recurrent_gemma/modeling_recurrent_gemma.py, RecurrentGemmaRecurrentBlock.forward: conv_1d",
    ),
    Known(
        key="step-convolution-not-counted",
        quantity="matmul_flops",
        classes=GRIFFIN,
        difference=lambda case: -formulas.step_convolution(case.arch, case.workload),
        formula="decode: - 2 B C d_conv per layer",
        why="the convolution of a step multiplies element by element and sums, which torch's counter takes for no "
        "product",
        evidence="recurrent_gemma/modeling_recurrent_gemma.py, RecurrentGemmaRecurrentBlock.forward: torch.sum",
    ),
    Known(
        key="step-not-counted",
        quantity="matmul_flops",
        classes=DELTA,
        difference=lambda case: -formulas.uncounted_steps(case.arch, case.workload),
        formula="decode: - 6 B heads key_dim value_dim per layer",
        why="a step of the delta rule multiplies element by element and sums, which torch's counter takes for no "
        "product",
        evidence="qwen3_next/modeling_qwen3_next.py, torch_recurrent_gated_delta_rule: "
        "(last_recurrent_state * k_t.unsqueeze(-1)).sum(dim=-2)",
    ),
    Known(
        key="step-of-each-pair",
        quantity="matmul_flops",
        classes=frozenset({"rwkv"}),
        difference=lambda case: formulas.batch_by_batch(case.arch, case.workload),
        formula="decode: (B - 1) times the FLOPs of the step",
        why="the last token's row is added as [B, d] to [B, 1, d], which makes B x B rows of B sequences; they are "
        "right for a single one",
        evidence="rwkv/modeling_rwkv.py, RwkvSelfAttention.extract_key_value: shifted = state[1][:, :, self.layer_id]",
    ),
    Known(
        key="chunk-scan-per-head",
        quantity="matmul_flops",
        classes=MAMBA2,
        difference=lambda case: formulas.chunk_scan(case.arch, case.workload),
        formula="2 B chunks chunk^2 state (heads - groups) + 2 B heads (chunks + 1)^2 head_dim state per layer",
        why="B and C are repeated to all heads before their product, and the states are handed on by a product with a "
        "matrix of decays",
        evidence="mamba2/modeling_mamba2.py, mamba2_chunk_scan: repeat_interleave, and einsum bzch,bzhpn->bchpn",
    ),
)

BY_KEY: Mapping[str, Known] = {known.key: known for known in KNOWN}


def explained(
    quantity: Quantity, case: Case, difference: int, *, path: str = "", table: Sequence[Known] = KNOWN
) -> tuple[str, ...]:
    """The keys of the known errors that make `difference` (what the witness has beyond the prediction) exactly.

    Empty where they do not. All errors of the class count, not a choice of them: one that does not occur explains
    nothing. `path` asks for parameters of one module.
    """
    parts = {
        known.key: known.at(case) for known in table if known.quantity == quantity and (not path or known.path == path)
    }
    parts = {key: part for key, part in parts.items() if part}
    return tuple(parts) if parts and sum(parts.values()) == difference else ()
