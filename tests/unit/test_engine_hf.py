"""What transformers' dynamic cache keeps: the tensors that it really holds after a forward pass, byte for byte.

Each model is built from a tiny random config; its cache is filled by a prompt and one decode step. What is counted are the
floating-point tensors that the cache holds (a sliding layer also holds its window as an integer).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from llmprof import catalog
from llmprof.engines.api import engine_cache
from llmprof.errors import InputError
from llmprof.predict.api import predict
from llmprof.spec.arch import ArchSpec, Gqa, Linear, Mamba1, Mamba2
from llmprof.workload import Execution
from tests.unit.engine_archs import at, decoder, layer
from tests.unit.engine_models import BATCH, CASES, GQA, PROMPT


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def held(owner: object) -> Iterator[Tensor]:
    """The floating-point tensors in the attributes, lists and mappings of a cache."""
    if isinstance(owner, Tensor):
        if owner.is_floating_point():
            yield owner
    elif isinstance(owner, list | tuple):
        for each in owner:
            yield from held(each)
    elif isinstance(owner, dict):
        yield from held(list(owner.values()))
    elif type(owner).__module__.startswith("transformers.cache_utils"):
        yield from held(vars(owner))


def nbytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def filled(config: Any, dtype: torch.dtype, *, step: bool) -> list[Tensor]:
    """What a model of `config` keeps after a prompt, and one decode step if `step`."""
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    ids = torch.randint(0, 32, (BATCH, PROMPT))
    with torch.no_grad():
        out = network(input_ids=ids, use_cache=True)
        key = next((key for key in ("past_key_values", "cache_params", "state") if getattr(out, key, None)), None)
        if key is None:  # RecurrentGemma does not return the cache that it fills.
            key, cache = "past_key_values", transformers.DynamicCache(config=config)
            network(input_ids=ids, use_cache=True, past_key_values=cache)
        else:
            cache = getattr(out, key)
        if step:
            network(input_ids=ids[:, :1], use_cache=True, **{key: cache})
    kept = list(held(cache))
    for module in network.modules():
        # RecurrentGemma keeps its states in the modules themselves.
        kept += held([getattr(module, name, None) for name in ("conv1d_state", "recurrent_states")])
    return kept


@pytest.mark.parametrize("name", CASES)
def test_a_real_cache_holds_exactly_so_many_bytes(name: str) -> None:
    make, arch = CASES[name]
    kept = nbytes(filled(make(), torch.bfloat16, step=True))
    found = engine_cache(arch, at(PROMPT + 1, batch=BATCH), "hf")
    assert found.kv_cache_bytes + found.recurrent_state_bytes == kept > 0
    assert found.unconfirmed is None


@pytest.mark.parametrize(
    "name", ["mistral, a window in every layer", "falcon-h1, mixers beside attention", "qwen3-next"]
)
def test_the_prompt_alone_leaves_as_much_and_fp32_doubles_what_is_not_fp32_already(name: str) -> None:
    make, arch = CASES[name]
    prompt = engine_cache(arch, at(PROMPT, batch=BATCH), "hf")
    assert prompt.kv_cache_bytes + prompt.recurrent_state_bytes == nbytes(filled(make(), torch.bfloat16, step=False))
    wide = engine_cache(arch, at(PROMPT + 1, batch=BATCH, dtype="fp32"), "hf")
    assert wide.kv_cache_bytes + wide.recurrent_state_bytes == nbytes(filled(make(), torch.float32, step=True))


def test_rows_and_states_are_told_apart() -> None:
    make, arch = CASES["falcon-h1, mixers beside attention"]
    kept = filled(make(), torch.bfloat16, step=True)
    found = engine_cache(arch, at(PROMPT + 1, batch=BATCH), "hf")
    rows = [tensor for tensor in kept if tensor.shape[-2:] == (PROMPT + 1, 8)]
    assert found.kv_cache_bytes == nbytes(rows)
    assert found.recurrent_state_bytes == nbytes(kept) - nbytes(rows)


def test_an_encoder_decoder_keeps_the_source_too() -> None:
    config = transformers.T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_decoder_layers=2, num_heads=4
    )
    torch.manual_seed(0)
    network = transformers.T5ForConditionalGeneration(config).to(torch.bfloat16).eval()
    with torch.no_grad():
        out = network(
            input_ids=torch.randint(0, 32, (BATCH, 9)), decoder_input_ids=torch.randint(0, 32, (BATCH, PROMPT))
        )
    full = Gqa(n_heads=4, n_kv_heads=4, head_dim=8)
    arch = decoder(*[layer(full, cross=full)] * 2, encoder=[layer(full)])
    found = engine_cache(arch, at(PROMPT, batch=BATCH, source=9), "hf")
    assert found.kv_cache_bytes == nbytes(list(held(out.past_key_values))) == 2 * 2 * 2 * BATCH * 32 * (PROMPT + 9)


def test_the_storage_behind_a_window_is_longer_than_its_tensor() -> None:
    """The figure is of the tensors; a slice keeps alive what it was cut from, until the next step."""
    make, _ = CASES["mistral, a window in every layer"]
    for step, tokens in ((False, PROMPT), (True, 8)):
        for tensor in filled(make(), torch.bfloat16, step=step):
            assert tensor.shape[-2] == 7
            assert tensor.untyped_storage().nbytes() == BATCH * 2 * tokens * 8 * 2


@pytest.mark.parametrize(
    ("name", "own", "engine"),
    [
        ("mistral-7b-v0.1", 536_870_912, 536_739_840),
        ("gemma-2-9b", 2_113_929_216, 2_113_757_184),
        ("gemma-3-27b", 1_107_296_256, 1_106_870_272),
    ],
)
def test_published_shapes_at_8192_tokens(name: str, own: int, engine: int) -> None:
    """Figures read off transformers' cache for the published configs, in bf16."""
    (arch,) = catalog.resolve([name], variant=None, all_variants=False)
    found = engine_cache(arch, at(8192), "hf")
    assert (found.own_kv_bytes, found.kv_cache_bytes) == (own, engine)
    assert predict(arch, at(8192), Execution(attention="fused")).kv_cache_bytes == own


@pytest.mark.parametrize(
    ("arch", "state"),
    [
        (
            decoder(*[layer(Mamba2(n_heads=128, head_dim=64, d_state=128, n_groups=8, chunk=128, norm_groups=8, d_conv=4))] * 24),
            102_629_376,
        ),
        (
            decoder(*[layer(GQA, mixer=Mamba2(n_heads=24, head_dim=64, d_state=128, n_groups=1, chunk=128, norm_groups=0, d_conv=4))] * 36),
            28_827_648,
        ),
        (decoder(*[layer(Mamba1(d_inner=5120, d_state=16, dt_rank=160, d_conv=4))] * 64), 23_592_960),
    ],
    ids=["nemotron-h-8b", "falcon-h1-0.5b", "mamba-2.8b"],
)  # fmt: skip
def test_published_states(arch: ArchSpec, state: int) -> None:
    found = engine_cache(arch, at(2048), "hf")
    assert found.recurrent_state_bytes == state
    assert found.own_state_bytes < state


def test_differences_are_named() -> None:
    _, arch = CASES["gemma-3"]
    (difference,) = engine_cache(arch, at(100, batch=3), "hf").kv_differences
    assert (difference.reason, difference.nbytes) == ("full windows and chunks keep one token less", -6 * 3 * 64)
    (column,) = engine_cache(CASES["mamba"][1], at(100, batch=3), "hf").state_differences
    assert (column.reason, column.nbytes) == ("convolutions keep one column more", 2 * 3 * 64 * 2)


def test_what_it_has_not_is_refused() -> None:
    plain = decoder(layer(GQA))
    with pytest.raises(InputError, match=r"--kv-engine hf .* --kv-dtype is int8; leave --kv-dtype out"):
        engine_cache(plain, at(9, kv_dtype="int8"), "hf")
    with pytest.raises(InputError, match=r"sample, layers\.1: .* linear attention"):
        engine_cache(decoder(layer(GQA), layer(Linear(n_heads=4, head_dim=8, chunk=4))), at(9), "hf")
    assert engine_cache(plain, at(9, dtype="tf32", kv_dtype="fp32"), "hf").kv_cache_bytes == 9 * 2 * 2 * 8 * 4
