"""Figures of implementations, which differ from the architecture's by something exactly known: ours + that = theirs.

- `implementations.csv`: FLOPs that torch's FlopCounterMode counted over a class of transformers 5.23.0, where the class
  computes more than the recurrence needs, or reads a latent cache in another form than ours does by itself.
- `states.csv`: the bytes of a recurrent state as transformers keeps it.
- `releases.csv`: what the files of a release sum to, beside parameters of the model.
- `active.csv`: parameters that one token goes through, by arithmetic.

What stands behind each difference is said at its formula, and in docs/catalogue-notes.md.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from llmprof import catalog
from llmprof.predict.api import parameters
from llmprof.predict.record import count_record
from llmprof.spec.arch import ArchSpec, LayerSpec, Mamba1, Mamba2, Moe
from llmprof.workload import Dtypes, Phase, Workload

HERE = Path(__file__).parent


def table(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label(row: dict[str, str]) -> str:
    return "-".join(row[key] for key in ("name", "phase", "batch", "sum_of_files") if row.get(key))


def arch_of(name: str) -> ArchSpec:
    return catalog.find(name).arch()


def state_spaces(arch: ArchSpec) -> list[Mamba1 | Mamba2]:
    """The state spaces of all layers, those beside an attention too."""

    def of(layer: LayerSpec) -> list[Mamba1 | Mamba2]:
        return [mixer for mixer in (layer.attention, layer.mixer) if isinstance(mixer, Mamba1 | Mamba2)]

    return [mixer for layer in arch.main.layers for mixer in of(layer)]


def convolved_channels(mixer: Mamba1 | Mamba2) -> int:
    """Channels of the convolution: those of the state space, and in Mamba-2 B and C of each group."""
    return mixer.d_inner + (2 * mixer.n_groups * mixer.d_state if isinstance(mixer, Mamba2) else 0)


# --- FLOPs ------------------------------------------------------------------------------------


def convolution_beyond(mixer: Mamba1 | Mamba2, *, batch: int, decode: bool) -> int:
    """FLOPs of convolved positions whose results transformers drops.

    A prompt is padded by d_conv - 1 on both sides, and the d_conv - 1 results beyond its end are cut off; in decode the
    kept d_conv columns and the new one are convolved without padding, which makes two results of which one is used.
    """
    positions = 1 if decode else mixer.d_conv - 1
    return 2 * batch * convolved_channels(mixer) * mixer.d_conv * positions


def chunked(mixer: Mamba2, *, batch: int, tokens: int, chunk: int, sharers: int) -> int:
    """FLOPs of the four products of a chunked state space (https://arxiv.org/abs/2405.21060, section 6).

    C B' for each of `sharers` (groups, or heads), its product with x, the states of the chunks, and what past
    states give.
    """
    chunks = -(-tokens // chunk)
    heads, width, state = mixer.n_heads, mixer.head_dim, mixer.d_state
    scores = chunk * chunk * (sharers * state + heads * width)
    states = 2 * chunk * heads * width * state
    return 2 * batch * chunks * (scores + states)


def chunks_beyond(mixer: Mamba2, *, batch: int, tokens: int, chunk: int) -> int:
    """FLOPs that `torch_chunk_scan` of transformers spends beyond ours.

    It repeats B and C to all heads before it multiplies them, where we multiply once per group, and passes the states
    on by a product with a matrix of (chunks + 1) x (chunks + 1) decays, where we scale and add. `chunk` is its
    chunk, which for Falcon-H1 is the class default and not that of the release.
    """
    theirs = chunked(mixer, batch=batch, tokens=tokens, chunk=chunk, sharers=mixer.n_heads)
    ours = chunked(mixer, batch=batch, tokens=tokens, chunk=mixer.chunk, sharers=mixer.n_groups)
    rows = -(-tokens // chunk) + 1
    return theirs - ours + 2 * batch * mixer.n_heads * rows * rows * mixer.head_dim * mixer.d_state


@pytest.mark.parametrize("row", table("implementations.csv"), ids=label)
def test_flops(row: dict[str, str]) -> None:
    arch, batch, tokens = arch_of(row["name"]), int(row["batch"]), int(row["new_tokens"])
    phase: Phase = "prefill" if row["phase"] == "prefill" else "decode"
    # transformers makes every head's keys and values of a latent cache anew at each step.
    work = Workload(phase=phase, batch=batch, new_tokens=tokens, context=int(row["context"]), latent="expanded")
    beyond = 0
    for mixer in state_spaces(arch):
        beyond += convolution_beyond(mixer, batch=batch, decode=phase == "decode")
        if isinstance(mixer, Mamba2) and phase == "prefill":
            chunk = int(row["chunk"] or mixer.chunk)
            beyond += chunks_beyond(mixer, batch=batch, tokens=tokens, chunk=chunk)
    assert count_record(arch, work)["matmul_flops_dense"] + beyond == int(row["matmul_flops_dense"])


def test_absorbed_decode_costs_less() -> None:
    """The form that is ours by default, against that of the rows above: equal up to the products around the latents."""
    arch = arch_of("deepseek-v3")
    absorbed, expanded = (
        count_record(arch, Workload(phase="decode", batch=1, new_tokens=1, context=128, latent=form))
        for form in ("absorbed", "expanded")
    )
    # Multiply-adds of a layer's 128 heads. Expanded: keys and values, 256 out of 512 latents, for each of 128 tokens,
    # then scores over 192 and values of 128. Absorbed: one query and one output through 128 x 512 each, then scores
    # over 576 and values of 512.
    saved = 128 * (128 * 512 * 256 + 128 * (192 + 128) - (2 * 128 * 512 + 128 * (576 + 512)))
    assert expanded["matmul_flops_dense"] - absorbed["matmul_flops_dense"] == 2 * 61 * saved


# --- states and caches ------------------------------------------------------------------------


@pytest.mark.parametrize("row", table("states.csv"), ids=label)
def test_state(row: dict[str, str]) -> None:
    """transformers keeps d_conv columns of the convolution's input in 16 bit; the next token needs d_conv - 1."""
    arch = arch_of(row["name"])
    work = Workload(phase="prefill", batch=1, new_tokens=16, context=16)
    beyond = sum(2 * convolved_channels(mixer) for mixer in state_spaces(arch))
    assert count_record(arch, work)["recurrent_state_bytes"] + beyond == int(row["state_bytes"])


def test_cache_of_a_llama_cpp_log() -> None:
    """For Qwen3.6-27B, keys and values f16, llama.cpp prints ``size = 16384.00 MiB (262144 cells, 16 layers, ..)``."""
    half = Dtypes(weights="fp16", activations="fp16", kv_cache="fp16")
    work = Workload(phase="decode", batch=1, new_tokens=1, context=262_144, dtypes=half)
    assert count_record(arch_of("qwen3.6-27b"), work)["kv_cache_bytes"] == 16_384 * 2**20


# --- parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize("row", table("releases.csv"), ids=label)
def test_sum_of_files(row: dict[str, str]) -> None:
    """Parameters, further layers where `mtp` is 1, their copies of tables, values that correct choices, `others`."""
    arch = arch_of(row["name"])
    count = parameters(arch)
    tables = int(row["tables"]) * arch.vocab_size * arch.d_model
    experts = max(layer.ffn.n_experts if isinstance(layer.ffn, Moe) else 0 for layer in arch.main.layers)
    corrections = int(row["corrected_layers"]) * experts
    further = count.mtp if row["mtp"] == "1" else 0
    assert count.total + further + tables + corrections + int(row["others"]) == int(row["sum_of_files"])


@pytest.mark.parametrize("row", table("active.csv"), ids=label)
def test_active_parameters(row: dict[str, str]) -> None:
    """All parameters but those of the experts that a token is not sent to."""
    count = parameters(arch_of(row["name"]))
    idle = int(row["layers_with_experts"]) * int(row["idle_experts"]) * int(row["parameters_of_one"])
    assert count.active == int(row["params_active"]) == count.total - idle


def test_every_model_with_experts_has_its_active_parameters() -> None:
    with_experts = {
        entry.name
        for entry in catalog.entries()
        if entry.path.parent.parent.name == "models"
        and any(isinstance(layer.ffn, Moe) for layer in entry.load().arch().main.layers)
    }
    assert with_experts == {row["name"] for row in table("active.csv")}
