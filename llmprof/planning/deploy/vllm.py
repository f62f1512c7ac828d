"""vLLM's command line, `vllm serve`.

Options and what they mean were read in the package vllm 0.33.0 of PyPI (https://pypi.org/project/vllm/0.33.0/, read
2026-11-30): vllm/engine/arg_utils.py, vllm/config/{parallel,cache,scheduler,model,quantization}.py,
vllm/platforms/cuda.py, vllm/model_executor/models/registry.py, vllm/distributed/utils.py. Documentation:
https://docs.vllm.ai/en/v0.33.0/; ranks on several nodes: https://github.com/vllm-project/vllm at
01e4fce07423dafcc832600ba05159fb28dc1126 (read 2026-11-30), docs/serving/data_parallel_deployment.md.
"""

from __future__ import annotations

from llmprof.planning.deploy.asked import DTYPES, NODE, Asked, check_layers
from llmprof.planning.deploy.hardware import check_gpu, check_packed, compute_capability
from llmprof.planning.deploy.line import Refusal, Words
from llmprof.planning.deploy.shares import Shares
from llmprof.planning.deploy.weights import files_of
from llmprof.sharding_stages import depths, text_of

VERSION = "0.33.0"
SOURCE = "https://pypi.org/project/vllm/0.33.0/"
PAGE_TOKENS = 16
OWN_SHARE = "0.92"
"""`CacheConfig.gpu_memory_utilization`, where nothing is said."""

KINDS = frozenset({"gqa", "mla", "none", "mamba-1", "mamba-2", "gated-deltanet", "short-conv"})
"""Attention and mixers of the classes in its registry; RWKV and RG-LRU are not among them."""

ONLINE = frozenset({"fp8"})
"""What it packs weights of 16 bits into while it loads. Its int8 (`int8_per_channel_weight_only`) packs experts alone,
and its `fp8` no longer packs anything."""

PACKED_SINCE = {"fp8": 75, "int4": 75}
"""The least compute capability of its fp8 and AWQ kernels (`get_min_capability`)."""

KV_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp8": "fp8", "int8": "int8_per_token_head"}


def words(a: Asked, shares: Shares | str) -> Words:
    """The command. Raises Refusal for what vLLM does not have."""
    sharding, dtypes = a.deployment.sharding, a.deployment.dtypes
    check_gpu(a.deployment.device)
    if a.arch.structure == "encoder-decoder":
        raise Refusal("has no encoder-decoder of text any more, only Whisper, which is asked for sound")
    check_layers(a, kinds=KINDS)
    capability = compute_capability(a.deployment.device)
    if dtypes.activations == "bf16" and capability is not None and capability < 80:
        raise Refusal("has bf16 on compute capability 8.0 and later alone; plan with --dtype fp16")
    check_packed(dtypes.weights, capability, PACKED_SINCE)
    if sharding.context_parallel > 1:
        raise Refusal(
            "shares a cache over --decode-context-parallel-size among its tensor-parallel ranks and prompts over "
            "--prefill-context-parallel-size with a cache on each: neither is what context parallelism is here"
        )
    if a.chunk < a.sequences:
        raise Refusal(
            f"needs --max-num-batched-tokens ({a.chunk:,}) of at least --max-num-seqs ({a.sequences:,}); "
            "plan with larger chunks"
        )
    files = files_of(a.arch, dtypes, online=ONLINE)
    w = Words(["vllm", "serve", files.model], list(files.notes))
    _parallel(w, a)
    w.flag("--dtype", DTYPES[dtypes.activations])
    if files.packed_online:
        w.flag("--quantization", "fp8_per_tensor")
    _cache(w, a)
    w.flag("--max-model-len", a.tokens)
    w.flag("--max-num-seqs", a.sequences)
    w.flag("--max-num-batched-tokens", a.pass_tokens)
    w.flag("--enable-chunked-prefill")
    if isinstance(shares, Shares):
        w.flag("--gpu-memory-utilization", shares.requested)
    else:
        w.note(f"--gpu-memory-utilization is left at vLLM's own {OWN_SHARE}: {shares}")
    return w


def _parallel(w: Words, a: Asked) -> None:
    """Degrees. Experts are spread over all tensor- and data-parallel ranks or over none; a replica of a model with
    experts that keeps all of them is an instance of its own, as `--data-parallel-size` would spread them."""
    s = a.deployment.sharding
    spread, everywhere = s.expert_parallel, s.tensor_parallel * s.data_parallel
    sent = s.data_parallel > 1 and spread == everywhere
    if s.splits_rows and not sent:
        raise Refusal("has no sequence parallelism but the one around experts that data-parallel ranks share")
    if spread not in (1, s.tensor_parallel, everywhere):
        raise Refusal(
            f"spreads experts over all {everywhere} tensor- and data-parallel devices or over none "
            f"(--enable-expert-parallel), not over {spread}"
        )
    w.degree("--tensor-parallel-size", s.tensor_parallel)
    w.degree("--pipeline-parallel-size", s.pipeline_parallel)
    if a.split != depths(len(a.arch.main.layers), s.pipeline_parallel):  # its own rule is the one of docs here
        w.environment["VLLM_PP_LAYER_PARTITION"] = text_of(a.split)
    if s.data_parallel > 1 and a.experts and not sent:
        w.note(
            f"start {s.data_parallel} such instances, each on {a.replica_devices} devices of its own: "
            "--data-parallel-size would spread the experts over all of them"
        )
    else:
        w.degree("--data-parallel-size", s.data_parallel)
        if s.data_parallel > 1 and s.ranks > NODE:
            w.note(
                f"{s.data_parallel} data-parallel ranks on several nodes: --data-parallel-size-local, "
                "--data-parallel-start-rank and --data-parallel-address on each, and --headless on all but one"
            )
    if spread > 1:
        w.flag("--enable-expert-parallel")
    if s.splits_rows:
        w.note("rows are shared around the experts alone: norms and residuals work on all rows of a replica")
    if a.replica_devices > NODE:
        w.note(f"{a.replica_devices} devices of a replica on several nodes: --nnodes and --node-rank on each")


def _cache(w: Words, a: Asked) -> None:
    dtypes = a.deployment.dtypes
    kept = dtypes.kv_cache
    if kept == dtypes.activations:
        w.flag("--kv-cache-dtype", "auto")
    elif kept not in KV_DTYPES:
        raise Refusal(f"has no rule here for a cache in {kept}; it has {', '.join(KV_DTYPES)}")
    elif kept == "int8" and not a.plain_pages:
        raise Refusal("has an int8 cache (int8_per_token_head) of heads alone, not of latents or beside states")
    else:
        w.flag("--kv-cache-dtype", KV_DTYPES[kept])
    if kept == "int8":
        w.note("an int8 cache needs the attention backend TRITON_ATTN, and scales are fp32 per token and head")
    if a.deployment.engine != "vllm":
        w.note("pages are vLLM's own: the plan counts the architecture's cache without pages")
    elif a.plain_pages:
        w.flag("--block-size", PAGE_TOKENS)
    else:
        w.note("pages are left to vLLM: its kernels of latents and states have sizes of their own")
