"""`llmprof compare SPEC FILE`: what a file of weights holds, explained by a spec."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.released import QWEN3_06B, Llama, gpt2
from tests.small_gguf import small_llama
from tests.weights import write_safetensors, write_shards

SMALL = Llama(layers=2, d=128, f=256, v=512, q=128, kv=64)
CONFIG = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


def release(folder: Path, tensors: Any | None = None) -> Path:
    """A folder with a config and two shards of it."""
    made = dict(SMALL.plain() if tensors is None else tensors)
    names = list(made)
    write_shards(folder, [{n: made[n] for n in names[:5]}, {n: made[n] for n in names[5:]}])
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_gpt2_s_masks_in_a_table(cli: Cli, tmp_path: Path) -> None:
    done = cli("compare", "gpt2", str(write_safetensors(tmp_path / "model.safetensors", gpt2())))
    assert done.code == 0, done.err
    assert "parameters of gpt2" in done.out
    assert "124,439,808" in done.out
    assert "+12,582,912" in done.out
    assert "137,022,720" in done.out
    assert "h.{0-11}.attn.bias" in done.out
    assert "Every value of the file has its place" in done.out


def test_the_file_may_stand_first(cli: Cli, tmp_path: Path) -> None:
    path = str(write_safetensors(tmp_path / "model.safetensors", gpt2()))
    assert cli("compare", path, "gpt2").out == cli("compare", "gpt2", path).out


def test_json_sums_up(cli: Cli, tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", QWEN3_06B.plain())
    done = cli("compare", "qwen3-0.6b", str(path), "--format", "json")
    found = json.loads(done.out)
    assert done.code == 0
    assert found["explained"] is True
    assert found["values"] == found["elements"] == 751_632_384
    assert sum(row["values"] for row in found["balance"]) == found["values"]
    assert sum(row["values"] for row in found["items"]) == found["values"]
    assert sum(row["bytes"] for row in found["items"]) == found["bytes"] == 2 * 751_632_384
    assert sum(row["tensors"] for row in found["items"]) == found["tensors"] == 311
    copy = next(row for row in found["items"] if row["what"] == "copy")
    assert (copy["name"], copy["path"]) == ("lm_head.weight", "embed")


def test_csv_and_markdown(cli: Cli, tmp_path: Path) -> None:
    path = str(write_safetensors(tmp_path / "model.safetensors", gpt2()))
    rows = list(csv.DictReader(io.StringIO(cli("compare", "gpt2", path, "--format", "csv").out)))
    assert {row["kind"] for row in rows} == {"dtype", "balance", "item"}
    assert sum(int(row["values"]) for row in rows if row["kind"] == "item") == 137_022_720
    assert "| buffer | h.{0-11}.attn.bias |" in cli("compare", "gpt2", path, "--format", "markdown").out


def test_a_difference_is_exit_1(cli: Cli, tmp_path: Path) -> None:
    tensors = gpt2() | {"h.3.attn.c_proj.bias": ("F32", [700]), "unheard.of": ("F32", [5])}
    del tensors["h.7.ln_1.bias"]
    done = cli("compare", "gpt2", str(write_safetensors(tmp_path / "model.safetensors", tensors)))
    assert done.code == 1
    assert "found [700], 700 values; expected [768], 768 values" in done.out
    assert "unheard.of" in done.out
    assert "layers.7.attn_norm" in done.out
    assert "Every value" not in done.out


def test_a_folder_with_itself(cli: Cli, tmp_path: Path) -> None:
    folder = str(release(tmp_path / "small"))
    done = cli("compare", folder, folder)
    assert done.code == 0, done.err
    assert "parameters of small" in done.out
    assert "the index states a total_size" in done.out


def test_a_quantised_folder(cli: Cli, tmp_path: Path) -> None:
    folder = str(release(tmp_path / "small", SMALL.packed("gptq", group=64)))
    found = json.loads(cli("compare", folder, folder, "--format", "json").out)
    assert found["explained"] is True
    # four bits in words of 32: of eight values each word shows one
    matrices = SMALL.layers * sum(o * n for _, o, n in SMALL.matrices())
    assert found["values"] - found["elements"] == matrices * 7 // 8


def test_a_gguf_file_with_itself(cli: Cli, tmp_path: Path) -> None:
    path = str(small_llama().write(tmp_path / "tiny.gguf"))
    done = cli("compare", path, path)
    assert done.code == 0, done.err
    assert "parameters of tiny" in done.out
    assert "680" in done.out
    assert "680" in cli("count", path, "--context", "8").out


def test_a_gguf_file_as_a_spec_is_imported(cli: Cli, tmp_path: Path) -> None:
    path = str(small_llama().write(tmp_path / "tiny.gguf"))
    done = cli("import", path)
    assert done.code == 0, done.err
    assert "name: tiny" in done.out
    assert "n_kv_heads: 1" in done.out
    (tmp_path / "again.yaml").write_text(done.out.replace("name: tiny", "name: again"))
    assert cli("compare", str(tmp_path / "again.yaml"), path).code == 0


def test_a_safetensors_file_as_a_spec_needs_its_config(cli: Cli, tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", SMALL.plain())
    done = cli("count", str(path))
    assert done.code == 2
    assert "tensors without an architecture" in done.err
    assert "config.json" in done.err
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert cli("count", str(path), "--context", "8").code == 0
    assert cli("compare", str(path), str(path)).code == 0


@pytest.mark.parametrize("option", [("--batch", "2"), ("--context", "8"), ("--b", "batch=2"), ("--dtype", "fp32")])
def test_settings_that_say_nothing_are_refused(option: tuple[str, str], cli: Cli, tmp_path: Path) -> None:
    path = str(write_safetensors(tmp_path / "model.safetensors", gpt2()))
    done = cli("compare", "gpt2", path, *option)
    assert done.code == 2
    assert f"{option[0]} has no effect" in done.err


def test_a_broken_header_is_one_message(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 100)
    done = cli("compare", "gpt2", str(path))
    assert done.code == 2
    assert "bytes; expected a safetensors file" in done.err
    assert "Traceback" not in done.err


def test_two_specs_are_compared_as_ever(cli: Cli) -> None:
    done = cli("compare", "gpt2", "llama-2-7b", "--context", "128")
    assert done.code == 0
    assert "Quantity by quantity" in done.out


def test_torch_is_not_loaded(tmp_path: Path) -> None:
    from tests.test_floors import RUN, _loaded_after

    path = str(write_safetensors(tmp_path / "model.safetensors", gpt2()))
    assert _loaded_after(RUN.format(argv=["llmprof", "compare", "gpt2", path])) == "loaded: []"


def test_a_folder_of_a_catalogue_name_is_the_model(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release(tmp_path / "gpt2")
    monkeypatch.chdir(tmp_path)
    assert cli("compare", "gpt2", "gpt2", "--context", "8").out.startswith("gpt2 -> gpt2")
    assert "values of model.safetensors" in cli("compare", "./gpt2", "./gpt2").out


@pytest.mark.parametrize("files", [["a.gguf", "b.gguf"], ["a.gguf", "model.safetensors"]])
def test_a_folder_of_several_releases(files: list[str], cli: Cli, tmp_path: Path) -> None:
    for name in files:
        small_llama().write(tmp_path / name)
    done = cli("compare", "gpt2", str(tmp_path))
    assert done.code == 2
    assert "expected one release" in done.err


def test_a_folder_of_one_gguf_file(cli: Cli, tmp_path: Path) -> None:
    small_llama().write(tmp_path / "Tiny.GGUF")
    assert cli("compare", str(tmp_path), str(tmp_path)).code == 0
    assert "680" in cli("count", str(tmp_path), "--context", "8").out
