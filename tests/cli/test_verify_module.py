"""`llmprof verify SPEC --module package.module:factory`: a user's nn.Module held against a spec."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, Done

SPEC = """\
name: tiny
source: {url: https://example.org, where: a test, read: 2026-11-30}
structure: causal-decoder
vocab_size: 40
d_model: 12
max_context: 64
tied_embeddings: true
position: {kind: none}
layers:
  count: 2
  norm: {kind: layernorm, placement: pre, eps: 1e-5}
  attention: {kind: gqa, n_heads: 3, n_kv_heads: 1, head_dim: 4}
  ffn: {kind: relu, d_ff: 20}
"""
MODULE = '''\
"""A decoder as somebody writes it at home."""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(12, 12, bias=False)
        self.k_proj = nn.Linear(12, 4, bias=False)
        self.v_proj = nn.Linear(12, 4, bias=False)
        self.out_proj = nn.Linear(12, 12, bias=False)

    def forward(self, x, past):
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, 3, 4).transpose(1, 2)
        k = self.k_proj(x).view(b, t, 1, 4).transpose(1, 2)
        v = self.v_proj(x).view(b, t, 1, 4).transpose(1, 2)
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        scores = torch.matmul(q, k.expand(b, 3, -1, 4).transpose(2, 3)).softmax(-1)
        out = torch.matmul(scores, v.expand(b, 3, -1, 4)).transpose(1, 2).reshape(b, t, 12)
        return self.out_proj(out), (k, v)


class Layer(nn.Module):
    def __init__(self, d_ff):
        super().__init__()
        self.ln_1, self.self_attn = nn.LayerNorm(12), Attention()
        self.ln_2 = nn.LayerNorm(12)
        self.fc1, self.fc2 = nn.Linear(12, d_ff, bias=False), nn.Linear(d_ff, 12, bias=False)

    def forward(self, x, past):
        out, kept = self.self_attn(self.ln_1(x), past)
        x = x + out
        return x + self.fc2(F.relu(self.fc1(self.ln_2(x)))), kept


class Model(nn.Module):
    def __init__(self, d_ff=20):
        super().__init__()
        self.wte = nn.Embedding(40, 12)
        self.h = nn.ModuleList(Layer(d_ff) for _ in range(2))
        self.ln_f = nn.LayerNorm(12)

    def forward(self, ids, past_key_values=None):
        x, kept = self.wte(ids), []
        for i, layer in enumerate(self.h):
            x, pair = layer(x, None if past_key_values is None else past_key_values[i])
            kept.append(pair)
        return self.ln_f(x) @ self.wte.weight.T, tuple(kept)


class Forgetful(Model):
    def forward(self, ids):
        return super().forward(ids)[0]


class Peeking(Model):
    def forward(self, ids):
        return ids.max().item()


def build():
    print("made at home")
    return Model()


def wider():
    return Model(d_ff=24)


def fails():
    raise LookupError("no such size\\nsecond line")


def number():
    return 7


constant = 7


def elsewhere():
    return Model().to_empty(device="cpu")


def lazy():
    return nn.Sequential(nn.LazyLinear(4))


class Unlisted(Model):
    def named_parameters(self, *args, **options):
        raise LookupError("not today")


class Held:
    def __init__(self):
        self.past_key_values = [[]]
        self.past_key_values[0].append(self.past_key_values)


class Circle(Model):
    def forward(self, ids, past_key_values=None):
        return Held()
'''


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a spec and a package, which no other test sees."""
    (tmp_path / "tiny.yaml").write_text(SPEC, encoding="utf-8")
    package = tmp_path / "my_models_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "small.py").write_text(MODULE, encoding="utf-8")
    (package / "broken.py").write_text("import os\n\nraise RuntimeError('half written')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_models_of_a_test")]:
        del sys.modules[name]


def held(cli: Cli, factory: str, *words: str) -> Done:
    module = f"my_models_of_a_test.small:{factory}"
    return cli("verify", "tiny.yaml", "--no-hf", "--module", module, "--allow-code", "--format", "json", *words)


def rows(done: Done) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {
        (row["quantity"], row["phase"], row["path"]): row
        for row in done.json["results"][0]["rows"]
        if row["witness"] == "module"
    }


def test_a_module_that_is_the_spec_agrees(cli: Cli, home: Path) -> None:
    done = held(cli, "build")
    assert done.code == 0
    found = rows(done)
    assert {row["verdict"] for row in found.values()} == {"AGREES"}
    # 40 x 12; a layer: 2 x 12 x 12 + 2 x 12 x 4 in the attention, 2 x 12 x 20, two norms of 2 x 12; one norm more.
    assert found["params_total", "", ""]["found"] == 480 + 2 * (288 + 96 + 480 + 48) + 24
    assert found["params_embedding", "", ""]["found"] == 480
    # 63 tokens, the most that leaves room for the step: 2 FLOPs for each weight but those of norms, and the square.
    weights = 480 + 2 * (288 + 96 + 480)
    assert found["matmul_flops", "prefill", ""]["found"] == 2 * 63 * weights + 2 * 4 * 12 * 63 * 63
    assert found["matmul_flops", "decode", ""]["found"] == 2 * weights + 2 * 4 * 12 * 64
    assert found["kv_cache_bytes", "prefill", ""]["found"] == 2 * 2 * 4 * 63 * 2
    assert done.json["results"][0]["matched"]["module"] == "18 of 18 modules"
    assert "made at home" in done.err
    assert "made at home" not in done.out


def test_a_module_that_is_not_the_spec_differs_at_its_modules(cli: Cli, home: Path) -> None:
    done = held(cli, "wider")
    assert done.code == 1
    found = rows(done)
    assert found["params_total", "", ""]["verdict"] == "DIFFERS"
    up = found["params", "", "layers.1.ffn.up"]
    assert (up["predicted"], up["found"], up["note"]) == (240, 288, "h.1.fc1")
    assert found["matmul_flops", "prefill", ""]["verdict"] == "DIFFERS"
    assert found["kv_cache_bytes", "prefill", ""]["verdict"] == "AGREES"
    table = cli("verify", "tiny.yaml", "--no-hf", "--module", "my_models_of_a_test.small:wider", "--allow-code")
    assert table.code == 1
    assert "Modules that differ" in table.out
    assert "h.1.fc1" in table.out


def test_what_returns_no_cache_has_none(cli: Cli, home: Path) -> None:
    done = held(cli, "Forgetful")
    assert done.code == 0
    found = rows(done)
    assert found["matmul_flops", "prefill", ""]["verdict"] == "AGREES"
    assert found["kv_cache_bytes", "prefill", ""]["verdict"] == "UNMEASURED"
    assert "holds no cache" in found["kv_cache_bytes", "prefill", ""]["note"]
    assert found["matmul_flops", "decode", ""]["verdict"] == "UNMEASURED"


def test_a_forward_that_fails_leaves_the_parameters_and_says_where(cli: Cli, home: Path) -> None:
    done = held(cli, "Peeking")
    assert done.code == 2
    assert rows(done)["params_total", "", ""]["verdict"] == "AGREES"
    assert "RuntimeError: Tensor.item() cannot be called on meta tensors" in done.err
    line = MODULE.splitlines().index("        return ids.max().item()") + 1
    assert f"(my_models_of_a_test/small.py:{line})" in done.err


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("my_models_of_a_test.small:fails", "LookupError: no such size (my_models_of_a_test/small.py:"),
        ("my_models_of_a_test.small:number", "the factory made a int; expected an nn.Module"),
        ("my_models_of_a_test.small:constant", "constant is of type int; expected a function or class"),
        ("my_models_of_a_test.small:biuld", "has no biuld; did you mean build?"),
        ("my_models_of_a_test.small:elsewhere", "is not on meta"),
        ("my_models_of_a_test.small:lazy", "the parameter 0.weight has no shape before a first pass"),
        ("my_models_of_a_test.small:Unlisted", "its parameters cannot be listed: LookupError: not today"),
        ("my_models_of_a_test.small:Circle", "its cache cannot be read: RecursionError"),
        ("my_models_of_a_test.broken:build", "RuntimeError: half written (my_models_of_a_test/broken.py:3)"),
        ("my_models_of_a_test.nowhere:build", "ModuleNotFoundError: No module named"),
        ("my_models_of_a_test.small", "expected package.module:factory"),
        ("os.path:join;rm", "expected package.module:factory"),
    ],
)
def test_what_is_wrong_with_a_module_is_said_in_one_line(cli: Cli, home: Path, module: str, message: str) -> None:
    done = cli("verify", "tiny.yaml", "--no-hf", "--module", module, "--allow-code")
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) <= 2


def test_no_code_is_imported_unless_it_is_allowed(cli: Cli, home: Path) -> None:
    done = cli("verify", "tiny.yaml", "--module", "my_models_of_a_test.broken:build")
    assert done.code == 2
    assert "add --allow-code if that is meant" in done.err
    assert "my_models_of_a_test" not in sys.modules


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gpt2", "--allow-code"), "--allow-code has no effect without --module"),
        (("gpt2", "bart-base", "--module", "a:b", "--allow-code"), "--module goes with exactly one SPEC; found 2"),
        (("--config", "config.json"), "--config goes with exactly one SPEC; found 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(cli: Cli, words: tuple[str, ...], message: str) -> None:
    done = cli("verify", *words)
    assert done.code == 2
    assert message in done.err


def test_a_class_of_transformers_has_its_known_errors(cli: Cli, home: Path) -> None:
    (home / "my_models_of_a_test" / "theirs.py").write_text(
        "import transformers\n\n\ndef build():\n"
        "    config = transformers.MistralConfig(vocab_size=40, hidden_size=12, num_attention_heads=3,\n"
        "        num_key_value_heads=1, head_dim=4, intermediate_size=20, num_hidden_layers=2, sliding_window=16,\n"
        "        tie_word_embeddings=True)\n"
        "    return transformers.MistralForCausalLM._from_config(config, attn_implementation='eager')\n",
        encoding="utf-8",
    )
    spec = SPEC.replace("position: {kind: none}", "position: {kind: rope, theta: 10000}")
    spec = spec.replace("head_dim: 4}", "head_dim: 4, window: 16}").replace("kind: relu", "kind: swiglu")
    spec = spec.replace("kind: layernorm", "kind: rmsnorm")
    (home / "windows.yaml").write_text(spec, encoding="utf-8")
    module = "my_models_of_a_test.theirs:build"
    done = cli("verify", "windows.yaml", "--no-hf", "--module", module, "--allow-code", "--format", "json")
    assert done.code == 0, done.err
    row = rows(done)["kv_cache_bytes", "prefill", ""]
    # One token less in each of two layers: a key and a value of 4 values in 16 bit.
    assert (row["verdict"], row["explanations"]) == ("EXPLAINED", ["window-less-one"])
    assert row["found"] - row["predicted"] == -2 * 2 * 4 * 2
