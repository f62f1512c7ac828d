"""Tables of measured ops: every column has its place, and what cannot be understood is said by line, never guessed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmprof import device
from llmprof.errors import InputError
from llmprof.latency.accuracy import judge, predict, predict_table, quantile
from llmprof.latency.op import Collective, DecodeAttention, Gemm, MlaDecode, MlaPrefill, Moe, Op, PrefillAttention
from llmprof.latency.systems import SAME_CHIP, SYSTEMS, device_of
from llmprof.latency.table import Table, read
from llmprof.latency.table_ops import gated

HEAD = (
    "row_id,op,device,framework,dtype,kv_dtype,kernel,m,n,k,b,s,h,g,d,prefix,window,E,topk,D,I,moe_tp,moe_ep,routing,"
    "num_gpus,bytes,us"
)


def row(**fields: object) -> str:
    given = {"row_id": "r", "device": "h100_sxm", "framework": "vllm", "dtype": "bfloat16", **fields}
    assert set(given) <= set(HEAD.split(","))
    return ",".join(str(given.get(name, "")) for name in HEAD.split(","))


def table(tmp_path: Path, *lines: str, head: str = HEAD) -> Table:
    path = tmp_path / "ops.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return read(path)


def only(tmp_path: Path, **fields: object) -> Op:
    found = table(tmp_path, row(**fields))
    assert not found.problems
    return found.rows[0].op


GEMM = {"op": "gemm", "m": 16, "n": 32, "k": 64}
ATTENTION = {"b": 2, "s": 128, "h": 8, "g": 2, "d": 64, "kv_dtype": "fp8"}
MOE = {"op": "moe", "m": 16, "E": 128, "topk": 8, "D": 2048, "I": 768, "moe_tp": 1, "moe_ep": 4}


@pytest.mark.parametrize(
    ("fields", "op"),
    [
        (GEMM, Gemm(m=16, n=32, k=64, weight_copies=6, engine="vllm")),
        (
            {**GEMM, "m": "16.0", "dtype": "FP8", "framework": "TRTLLM"},
            Gemm(m=16, n=32, k=64, dtype="fp8", weight_copies=6, engine="trtllm"),
        ),
        ({**GEMM, "dtype": "fp8_block", "framework": ""}, Gemm(m=16, n=32, k=64, dtype="fp8_block", weight_copies=1)),
        (
            {**GEMM, "dtype": "int4_wo", "framework": "new"},
            Gemm(m=16, n=32, k=64, dtype="int4", weight_copies=6, engine="new"),
        ),
        (
            {"op": "decode_attn", **ATTENTION, "window": 64},
            DecodeAttention(
                batch=2,
                context=128,
                heads=8,
                kv_heads=2,
                head_dim=64,
                kv_dtype="fp8",
                window=64,
                warm=True,
                engine="vllm",
            ),
        ),
        (
            {"op": "prefill_attn", **ATTENTION, "kv_dtype": "auto", "dtype": "fp16"},
            PrefillAttention(batch=2, new_tokens=128, heads=8, kv_heads=2, head_dim=64, kv_dtype="fp16", engine="vllm"),
        ),
        (
            {"op": "prefill_attn", **ATTENTION, "prefix": 256, "window": 0},
            PrefillAttention(
                batch=2, new_tokens=128, heads=8, kv_heads=2, head_dim=64, kv_dtype="fp8", prefix=256, engine="vllm"
            ),
        ),
        (
            {"op": "mla_decode", "b": 1, "s": 9, "h": 16, "kv_dtype": "bfloat16"},
            MlaDecode(batch=1, context=9, heads=16, engine="vllm"),
        ),
        (
            {"op": "mla_prefill", "b": 1, "s": 9, "h": 16, "kernel": "FLASH_ATTN_MLA"},
            MlaPrefill(batch=1, new_tokens=9, heads=16, latent=True, engine="vllm"),
        ),
        (
            {"op": "mla_prefill", "b": 1, "s": 9, "h": 16, "kernel": "FLASH_ATTN"},
            MlaPrefill(batch=1, new_tokens=9, heads=16, latent=False, engine="vllm"),
        ),
        (
            {"op": "mla_prefill", "b": 1, "s": 9, "h": 16, "kernel": "CUTLASS_MLA"},  # a backend, not where it runs
            MlaPrefill(batch=1, new_tokens=9, heads=16, latent=False, engine="vllm"),
        ),
        (
            {"op": "mla_prefill", "b": 1, "s": 129, "h": 16, "kv_dtype": "fp8_e4m3", "kernel": "FLASHMLA"},
            MlaPrefill(batch=1, new_tokens=129, heads=16, kv_dtype="fp8", latent=False, engine="vllm"),
        ),
        (
            {"op": "Prefill-Attn", **ATTENTION, "g": "nan", "d": "None", "window": "<NA>", "us": "NaN"},
            PrefillAttention(batch=2, new_tokens=128, heads=8, kv_heads=8, head_dim=128, kv_dtype="fp8", engine="vllm"),
        ),
        (
            {**GEMM, "dtype": "torch.float8_e4m3fn", "framework": "TensorRT-LLM", "kernel": "nan"},
            Gemm(m=16, n=32, k=64, dtype="fp8", weight_copies=6, engine="trtllm"),
        ),
        ({**GEMM, "framework": "nan"}, Gemm(m=16, n=32, k=64, weight_copies=6)),
        ({**GEMM, "dtype": "FP8-Block"}, Gemm(m=16, n=32, k=64, dtype="fp8_block", weight_copies=1, engine="vllm")),
        (
            {**MOE, "routing": "power_law_1.2"},
            Moe(
                tokens=16,
                experts=128,
                experts_per_token=8,
                d_model=2048,
                d_ff=768,
                ep=4,
                routing="power_law",
                skew=1.2,
                warm=True,
                engine="vllm",
            ),
        ),
        (
            {"op": "mla_prefill", "b": 1, "s": 9, "h": 16, "kernel": "mla", "framework": "trtllm"},
            MlaPrefill(batch=1, new_tokens=9, heads=16, engine="trtllm"),
        ),
        (
            {"op": "allreduce", "num_gpus": 4, "bytes": 2048},
            Collective(bytes=2048, devices=4, engine="vllm"),
        ),
        (
            {"op": "all_gather", "num_gpus": 4, "bytes": 2048},
            Collective(kind="allgather", bytes=2048, devices=4, engine="vllm"),
        ),
    ],
)
def test_columns_say_what_a_row_is(tmp_path: Path, fields: dict[str, object], op: Op) -> None:
    assert only(tmp_path, **fields) == op


def test_a_mixture_of_two_matrices_is_known_from_the_catalogue(tmp_path: Path) -> None:
    nano = {**MOE, "topk": 6, "D": 2688, "I": 1856}
    assert not only(tmp_path, **nano).gated  # type: ignore[union-attr]
    assert only(tmp_path, **nano, kernel="vllm_fused_moe").gated  # type: ignore[union-attr]
    assert gated(128, 8, 2048, 768)  # Qwen3-30B-A3B
    assert not gated(512, 22, 2048, 5120)  # Nemotron 3 Ultra, whose experts see a latent of 2048
    assert gated(7, 3, 11, 13)  # no model has these: gated, as nearly all are


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"op": "conv"}, "op 'conv' is not known; known are gemm, decode_attn"),
        ({**GEMM, "m": ""}, "m: found '', expected a whole number from 1"),
        ({**GEMM, "m": "16.5"}, "m: found '16.5'"),
        ({**GEMM, "m": "0"}, "m: found '0'"),
        ({**GEMM, "m": "nan"}, "m: found 'nan'"),
        ({**GEMM, "m": "1e400"}, "m: found '1e400'"),
        ({**GEMM, "dtype": "fp7"}, "dtype: found 'fp7', expected one of bfloat16"),
        ({**GEMM, "device": ""}, "device is empty"),
        ({**GEMM, "row_id": ""}, "row_id is empty"),
        ({**GEMM, "us": "-1"}, "us: found '-1', expected a time above 0"),
        ({**GEMM, "us": "fast"}, "us: found 'fast'"),
        (
            {"op": "decode_attn", **ATTENTION, "g": 3},
            "h and g: found 8 query heads, which 3 key/value heads do not divide",
        ),
        ({"op": "prefill_attn", **ATTENTION, "prefix": -1}, "prefix: found '-1', expected a whole number from 0"),
        ({**MOE, "topk": 200}, "topk and moe_ep: found 200 and 4 of 128 experts"),
        ({**MOE, "routing": "random"}, "routing: found 'random'"),
        ({"op": "allreduce", "num_gpus": 1, "bytes": 8}, "num_gpus: found '1', expected a whole number from 2"),
    ],
)
def test_what_cannot_be_understood_is_said_by_line(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    found = table(tmp_path, row(row_id="good", **GEMM), row(**fields), row(row_id="last", **GEMM))
    assert [each.row_id for each in found.rows] == ["good", "last"]
    ((line, _, text),) = found.problems
    assert line == 3
    assert text.startswith(said)


def test_a_row_that_is_too_short_or_comes_twice_is_a_problem(tmp_path: Path) -> None:
    found = table(tmp_path, row(**GEMM), row(**GEMM), "a,gemm", "", '"multi\nline",gemm,h200' + "," * 24)
    assert [(line, text) for line, _, text in found.problems] == [
        (3, "row_id 'r' was on line 2 already"),
        (4, "found 2 cells, expected 27"),
        (7, "m: found '', expected a whole number from 1"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "1: empty; expected a line of column names"),
        (b"row_id,op\n", "1: no column device; found row_id, op"),
        (b"row_id,op,device,op\n", "1: column op twice"),
        (b"row_id,op,device\n\xff\xfe\n", "not UTF-8"),
        (b'row_id,op,device\n"a' + b"x" * 200_000 + b'",gemm,h200\n', "2: not CSV: field larger than field limit"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert said in str(caught.value)
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none.csv")


def test_columns_may_come_in_any_order_with_others_between(tmp_path: Path) -> None:
    found = table(tmp_path, "9,h200,1,gemm,2,x,3", head="k,device,m,op,n,mood,row_id")
    assert found.rows[0].op == Gemm(m=1, n=2, k=9, weight_copies=6)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("h100_sxm", "h100-sxm-80gb"),
        ("A100_SXM", "a100-sxm-80gb"),
        ("gb200_sxm", "gb200"),
        ("l40s", "l40s"),
        ("gb300", "b300"),  # the same chip
        ("h100_pcie", "h100-pcie-80gb"),
        ("rtx_pro_6000_server", "rtx-pro-6000-server"),
        ("RTX6000_Blackwell_Server", "rtx-pro-6000-server"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("h100_sxm5", "h100-sxm-80gb"),
        ("rtx_pro_6000", None),  # three devices
        ("h100", None),
        ("x9000", None),
    ],
)
def test_names_of_systems_are_found_exactly(name: str, device: str | None) -> None:
    found = device_of(name)
    assert (None if found is None else found.name) == device


def test_no_name_is_that_of_two_devices() -> None:
    names: dict[str, set[str]] = {}
    for found in device.entries():
        for name in (found.name, *found.aliases):
            names.setdefault(re.sub("[^a-z0-9]", "", name.lower()).removeprefix("nvidia"), set()).add(found.name)
    assert {name: devices for name, devices in names.items() if len(devices) > 1} == {}
    for system, name in {**SYSTEMS, **SAME_CHIP}.items():
        found_of = device_of(system)
        assert found_of is not None
        assert found_of.name == name


def test_a_row_without_a_time_on_its_device_costs_no_other(tmp_path: Path) -> None:
    sent = {"op": "allreduce", "num_gpus": 4, "bytes": 8}
    lines = [row(row_id="a", **GEMM), row(row_id="b", device="tpu-v5e", **sent), row(row_id="c", op="conv")]
    found, times = predict_table(table(tmp_path, *lines, row(row_id="d", **sent)))
    assert [each.row_id for each in found.rows] == ["a", "d"]
    assert times == predict(found.rows)
    assert [(line, name) for line, name, _ in found.problems] == [(3, "b"), (4, "c")]
    assert "the catalogue has no interconnect" in found.problems[0][2]


def test_the_measured_time_changes_no_prediction(tmp_path: Path) -> None:
    lines = [row(row_id=str(n), **{**GEMM, "m": 2**n}, us=us) for n, us in ((1, 5), (2, 50), (3, ""))]
    with_us = table(tmp_path, *lines)
    without = table(tmp_path, *(row(row_id=str(n), **{**GEMM, "m": 2**n}) for n in (1, 2, 3)))
    assert predict(with_us.rows) == predict(without.rows)


def test_errors_are_relative_to_what_was_measured(tmp_path: Path) -> None:
    times = [each.seconds * 1e6 for each in predict(table(tmp_path, row(**GEMM)).rows)]
    lines = [row(row_id=str(n), **GEMM, us=times[0] * factor) for n, factor in enumerate((1.0, 2.0, 4.0))]
    found = table(tmp_path, *lines, row(row_id="no", **GEMM))
    judged = judge(found.rows, predict(found.rows))
    assert [(each.op, each.device, each.dtype, each.count) for each in judged] == [
        ("gemm", "h100_sxm", "bfloat16", 3),
        ("gemm", "all", "all", 3),
        ("all", "all", "all", 3),
    ]
    assert judged[0].median == pytest.approx(50)  # 0, 50 and 75%
    assert judged[0].p90 == pytest.approx(70)
    assert judged[0].coverage == pytest.approx(1 / 3)


def test_a_quantile_lies_between_two_values() -> None:
    assert [quantile([3.0, 1.0, 2.0], part) for part in (0, 0.25, 0.5, 1)] == [1.0, 1.5, 2.0, 3.0]
