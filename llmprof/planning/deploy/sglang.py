"""SGLang's command line, `python3 -m sglang.launch_server`.

Options and what they mean were read in the package sglang 0.5.23 of PyPI (https://pypi.org/project/sglang/0.5.23/, read
2026-11-30): sglang/srt/arg_groups/fields/{model,parallel,schedule}.py, arg_groups/{parallel_hook,validation_hook}.py,
model_executor/pool_configurator.py, configs/model_config.py, distributed/utils.py, layers/quantization/fp8.py,
sglang/srt/models.
Documentation: https://docs.sglang.io/docs/advanced_features/server_arguments (read 2026-11-30).
"""

from __future__ import annotations

from llmprof.planning.deploy.asked import DTYPES, NODE, Asked, check_layers
from llmprof.planning.deploy.hardware import check_gpu, check_packed, compute_capability
from llmprof.planning.deploy.line import Refusal, Words
from llmprof.planning.deploy.shares import Shares
from llmprof.planning.deploy.weights import files_of
from llmprof.sharding_stages import text_of

VERSION = "0.5.23"
SOURCE = "https://pypi.org/project/sglang/0.5.23/"
PAGE_TOKENS = 16

KINDS = frozenset({"gqa", "mla", "none", "mamba-1", "mamba-2", "gated-deltanet", "short-conv"})
"""Attention and mixers of the classes in sglang/srt/models; RWKV and RG-LRU are not among them."""

ONLINE = frozenset({"fp8"})
"""What it packs weights of 16 bits into while it loads (`Fp8Config` of a checkpoint that is not); its int8 is made
beforehand."""

PACKED_SINCE = {"fp8": 80, "int4": 75}
"""The least compute capability of its fp8 and AWQ kernels (`get_min_capability`)."""

KV_DTYPES = {"bf16": "bfloat16", "fp8": "fp8_e4m3"}


def words(a: Asked, shares: Shares | str) -> Words:
    """The command. Raises Refusal for what SGLang does not have."""
    sharding, dtypes = a.deployment.sharding, a.deployment.dtypes
    check_gpu(a.deployment.device)
    if a.arch.structure == "encoder-decoder":
        raise Refusal("has no encoder-decoder of text; of those models it has Whisper and Mllama, asked for more")
    check_layers(a, kinds=KINDS)
    capability = compute_capability(a.deployment.device)
    if dtypes.activations == "bf16" and capability is not None and capability < 80:
        raise Refusal("takes float16 for bf16 below compute capability 8.0; plan with --dtype fp16")
    check_packed(dtypes.weights, capability, PACKED_SINCE)
    if sharding.context_parallel > 1:
        raise Refusal(
            "shares prompts over --attn-cp-size and caches over --dcp-size among its tensor-parallel ranks: neither is "
            "what context parallelism is here"
        )
    files = files_of(a.arch, dtypes, online=ONLINE)
    w = Words(["python3", "-m", "sglang.launch_server", "--model-path", files.model], list(files.notes))
    groups = _parallel(w, a)
    w.flag("--dtype", DTYPES[dtypes.activations])
    if files.packed_online:
        w.flag("--quantization", "fp8")
    chunk = a.chunk * groups
    _cache(w, a, chunk)
    w.flag("--context-length", a.tokens)
    w.flag("--max-running-requests", a.sequences * groups)
    w.flag("--chunked-prefill-size", chunk)
    if isinstance(shares, Shares):
        w.flag("--mem-fraction-static", shares.static)
    else:
        w.note(f"--mem-fraction-static is left to SGLang: {shares}")
    return w


def _parallel(w: Words, a: Asked) -> int:
    """Degrees, and how many attention groups share what is said of requests and chunks.

    `--ep-size` divides `--tp-size`. Experts that data-parallel ranks share are attention data parallelism: one group
    of all ranks, in which `--attn-dp-size` groups of tensor-parallel ranks have requests of their own; the server
    divides `--max-running-requests` and `--chunked-prefill-size` by it. Copies are of one node (validation_hook.py).
    """
    s = a.deployment.sharding
    everywhere = s.tensor_parallel * s.data_parallel
    sent = s.data_parallel > 1 and s.expert_parallel == everywhere
    if s.splits_rows and not sent:
        raise Refusal("has sequence parallelism (--enable-layernorm-sp) in prefill and of two models alone")
    each, longer = len(a.arch.main.layers) // s.pipeline_parallel, s.pipeline_parallel - a.left_over
    if a.split != tuple(each + (stage >= longer) for stage in range(s.pipeline_parallel)):  # its last ones have more
        w.environment["SGLANG_PP_LAYER_PARTITION"] = text_of(a.split)
    together = everywhere * s.pipeline_parallel if sent else a.replica_devices
    if together > NODE:
        whose = "that share experts" if sent else "of a replica"
        w.note(f"{together} devices {whose} on several nodes: --nnodes and --node-rank on each")
    if not sent:
        if s.tensor_parallel % s.expert_parallel:
            raise Refusal(
                f"spreads experts over a divisor of its tensor-parallel devices ({s.tensor_parallel}) or over all "
                f"{everywhere} tensor- and data-parallel ones, not over {s.expert_parallel}"
            )
        w.degree("--tp-size", s.tensor_parallel)
        w.degree("--pp-size", s.pipeline_parallel)
        if s.data_parallel > 1 and s.ranks > NODE:
            w.note(
                f"start {s.data_parallel} such instances, each on {a.replica_devices} devices of its own: --dp-size is "
                "of one node"
            )
        else:
            w.degree("--dp-size", s.data_parallel)
        w.degree("--ep-size", s.expert_parallel)
        return 1
    w.flag("--tp-size", everywhere)
    w.degree("--pp-size", s.pipeline_parallel)
    w.flag("--attn-dp-size", s.data_parallel)
    w.flag("--ep-size", everywhere)
    w.flag("--enable-dp-lm-head")
    if a.dense_layers:
        w.flag("--enable-dense-mlp-attn-tp")
    w.note("experts get their tokens by gathers of all; --moe-a2a-backend names kernels that send each to its own")
    return s.data_parallel


def _cache(w: Words, a: Asked, chunk: int) -> None:
    dtypes = a.deployment.dtypes
    if dtypes.kv_cache == dtypes.activations:
        w.flag("--kv-cache-dtype", "auto")
    elif dtypes.kv_cache in KV_DTYPES:
        w.flag("--kv-cache-dtype", KV_DTYPES[dtypes.kv_cache])
    else:
        raise Refusal(f"has no cache in {dtypes.kv_cache}; it has that of the activations, {', '.join(KV_DTYPES)}")
    if a.deployment.engine != "vllm":
        w.note("pages are SGLang's own: the plan counts the architecture's cache without pages")
    elif not a.plain_pages:
        w.note("pages are left to SGLang, which has rules of its own for latents and states")
    elif chunk % PAGE_TOKENS:
        w.note(f"pages are left to SGLang: a chunk of {chunk:,} tokens is no whole number of pages of {PAGE_TOKENS}")
    else:
        w.flag("--page-size", PAGE_TOKENS)
