"""Tables of served runs read strictly, what their names stand for, and how predictions are held against them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.latency.compose_pass import Layout, Precision
from llmprof.latency.serving import accuracy, rows, verify
from llmprof.latency.serving.asked import Desk, system
from llmprof.latency.serving.budgets import budget
from llmprof.latency.serving.fit_runs import Host, fit_runs
from llmprof.latency.serving.names import named, of_release
from llmprof.latency.serving.stacks import EARLIER_HOST, SGLANG, TRTLLM, VLLM, stack_of
from llmprof.planning.served_room import room_of
from llmprof.report import serving_tables
from llmprof.spec.release import Awq, Fp8, Integers, Mxfp4, Release

HEAD = "backend,backend_version,model_path,system,mode,isl,osl,batch_size,tp_size,silicon_ttft_ms,silicon_tpot_ms"
LLAMA = "trtllm,1.0.0rc3,meta-llama/Llama-3.1-8B-Instruct,h100_sxm,agg,1024,128,8.0,2.0,129.4,5.21"


def table(tmp_path: Path, *lines: str, head: str = HEAD) -> str:
    path = tmp_path / "runs.csv"
    path.write_text("\n".join((head, *lines)) + "\n")
    return str(path)


def test_a_row_by_its_columns(tmp_path: Path) -> None:
    head = f"{HEAD},pp_size,moe_tp_size,moe_ep_size,concurrency,kv_dtype"
    dense, spread = rows.read(
        table(tmp_path, f"{LLAMA},1.0,1.0,1.0,8,", f"{LLAMA},2,2,4,64,fp8", head=head)
    ).rows.values()
    assert (dense.line, dense.prompt_tokens, dense.output_tokens, dense.batch, dense.concurrency) == (
        2,
        1024,
        128,
        8,
        8,
    )
    assert (dense.layout, dense.ttft_ms, dense.tpot_ms) == (Layout(tensor=2, group=2), 129.4, 5.21)
    # 2 x 4 devices share the experts, 2 the attention: four copies of it.
    assert spread.layout == Layout(tensor=2, pipeline=2, group=8, expert=4)
    assert (spread.layout.attention_copies, spread.layout.expert_tensor, spread.concurrency) == (4, 2, 64)


def test_concurrency_is_that_of_full_batches_where_no_column_has_it(tmp_path: Path) -> None:
    head = f"{HEAD},moe_ep_size"
    (row,) = rows.read(table(tmp_path, f"{LLAMA},8", head=head)).rows.values()
    assert row.concurrency == 8 * 4  # eight devices of experts, two of attention


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("1024", "0"), "isl is '0'; expected a whole number"),
        (("1024", "1.5"), "isl is '1.5'"),
        (("1024", "nan"), "isl is 'nan'"),
        (("1024", "many"), "isl is 'many'"),
        (("1024", "1e10"), "isl is '1e10'; expected a whole number from 1 to 1,000,000,000"),
        (("trtllm,", ","), "backend is empty"),
    ],
)
def test_a_field_that_is_wrong_costs_its_line_alone(tmp_path: Path, change: tuple[str, str], text: str) -> None:
    runs = rows.read(table(tmp_path, LLAMA, LLAMA.replace(*change)))
    assert list(runs.rows) == [2]
    assert text in runs.problems[3]


def test_a_measured_time_that_is_none_costs_its_comparison_alone(tmp_path: Path) -> None:
    runs = rows.read(table(tmp_path, LLAMA.replace(",5.21", ",-5"), LLAMA.replace(",129.4", ",fast"), LLAMA))
    assert [(row.ttft_ms, row.tpot_ms) for row in runs.rows.values()] == [(129.4, None), (None, 5.21), (129.4, 5.21)]
    assert runs.unmeasured == {
        2: "silicon_tpot_ms is '-5'; expected milliseconds, or nothing",
        3: "silicon_ttft_ms is 'fast'; expected milliseconds, or nothing",
    }


def test_devices_of_experts_are_those_of_whole_copies_of_the_attention(tmp_path: Path) -> None:
    runs = rows.read(table(tmp_path, f"{LLAMA},3", head=f"{HEAD},moe_ep_size"))
    assert "moe_tp_size x moe_ep_size is 3, which is no multiple of tp_size (2)" in runs.problems[2]


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for path, text in (
        (str(tmp_path / "none.csv"), "cannot be read: No such file"),
        (str(tmp_path), "cannot be read"),
        (str(tmp_path / "binary.csv"), "not UTF-8 at byte 0"),
    ):
        with pytest.raises(InputError, match=text):
            rows.read(path)
    for lines, head, text in (
        ([LLAMA], HEAD.replace("isl", "input"), "the header lacks isl"),
        ([LLAMA], HEAD.replace(",mode,", ",isl,"), "has isl more than once"),
        ([], HEAD, "no rows below the header"),
        ([f"{LLAMA},1,2"], HEAD, "line 2: no CSV: more fields than the 11 columns"),
        (['a,"b'], HEAD, "no CSV"),
    ):
        with pytest.raises(InputError, match=text):
            rows.read(table(tmp_path, *lines, head=head))


FP8 = Precision(dense="fp8", experts="fp8")


@pytest.mark.parametrize(
    ("path", "name", "precision"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", Precision()),
        ("Qwen/Qwen3-32B-FP8", "qwen3-32b", Precision(dense="fp8_block", experts="fp8_block")),
        # A quantised copy of another owner's; ModelOpt keeps the cache in fp8 too.
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b", replace(FP8, kv_cache="fp8", static=True)),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "llama-3.1-70b", FP8),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "llama-3.1-70b", Precision(dense="fp4", experts="fp4", kv_cache="fp8")),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b", Precision(dense="int4", experts="int4")),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "qwen2.5-7b", Precision(dense="int8", experts="int8")),
        # Releases that say how their files hold the weights.
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3", Precision(dense="fp8_block", experts="fp8_block")),
        ("openai/gpt-oss-120b", "gpt-oss-120b", Precision(dense="bf16", experts="fp4")),
        ("llama-3.1-8b", "llama-3.1-8b", Precision()),
        # Short names, however their words are joined; copies by others; folders.
        ("LLAMA3.1_8B", "llama-3.1-8b", Precision()),
        ("QWEN3_30B_A3B", "qwen3-30b-a3b", Precision()),
        ("QWEN3_235B", "qwen3-235b-a22b", Precision()),
        ("MOE_Mixtral8x7B", "mixtral-8x7b", Precision()),
        ("Nemotron_super_v1.1", "nemotron-super-49b", Precision()),
        ("DEEPSEEK_V3", "deepseek-v3", Precision(dense="fp8_block", experts="fp8_block")),
        ("unsloth/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b", Precision()),
        ("/models/Qwen3-32B-FP8/", "qwen3-32b", FP8),
        (
            "/hub/models--Qwen--Qwen3-32B-FP8/snapshots/0a1",
            "qwen3-32b",
            replace(FP8, dense="fp8_block", experts="fp8_block"),
        ),
        ("Qwen/Qwen3-32B-FP8-Static-PerTensor", "qwen3-32b", replace(FP8, static=True)),
        ("amd/Llama-3.1-70B-Instruct-FP8-KV", "llama-3.1-70b", replace(FP8, kv_cache="fp8", static=True)),
        ("RedHatAI/Llama-3.3-70B-Instruct-quantized.w4a16", "llama-3.1-70b", Precision(dense="int4", experts="int4")),
        ("nvidia/DeepSeek-R1-0528-FP4-v2", "deepseek-v3", Precision(dense="fp4", experts="fp4", kv_cache="fp8")),
        # Releases that leave the attention in 16 bits.
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b", replace(FP8, attention="bf16")),
        ("moonshotai/Kimi-K2.5", "kimi-k2-thinking", Precision(dense="bf16", experts="int4")),
        ("MiniMaxAI/MiniMax-M2.7", "minimax-m2", Precision(dense="fp8_block", experts="fp8_block")),
    ],
)
def test_what_a_path_stands_for(path: str, name: str, precision: Precision) -> None:
    found = named(path)
    assert (found.arch.name, found.precision) == (name, precision)


@pytest.mark.parametrize(
    "path", ["-", "acme/Unheard-Of-7B", "acme/Unheard-Of-7B-FP8", "meta-llama/Llama-3.1-8B-Instruct-W8A8"]
)
def test_what_stands_for_nothing_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"model_path .*(no spec is called|no standard input|no products of integers)"):
        named(path)


def test_formats_of_releases() -> None:
    def precision(**packing: object) -> Precision:
        return of_release(Release(dtype="bf16", **packing))  # type: ignore[arg-type]

    assert of_release(None) == precision() == Precision()
    assert precision(packing=Fp8(per="row")).dense == "fp8"
    assert precision(packing=Integers(bits=8)).experts == "int8"
    assert precision(packing=Awq(group=128)).experts == "int4"
    assert precision(packing=Mxfp4(), spared=("layers.*.attn.*",)) == Precision(experts="fp4")


def test_engines_by_their_names_and_versions() -> None:
    assert stack_of("vLLM") is stack_of("vllm", "0.17.0") is stack_of("vllm", "nightly") is VLLM
    assert stack_of("sglang", "0.5.1") is SGLANG
    assert stack_of("TensorRT-LLM") is stack_of("trtllm", "1.0.0rc3") is TRTLLM
    assert stack_of("vllm", "0.21.0") is stack_of("vllm", "v1.0rc0") is VLLM
    assert stack_of("vllm", "0.16.1").host == stack_of("vllm", "0.9").host == EARLIER_HOST
    assert EARLIER_HOST.step_seconds > VLLM.host.step_seconds
    other = stack_of("trtllm", "1.2.0rc5")
    assert other.host.step_seconds > TRTLLM.host.step_seconds
    assert not other.fitted
    assert replace(other, host=TRTLLM.host, fitted=True) == TRTLLM
    with pytest.raises(InputError, match=r"no engine is called 'llama\.cpp'; known are vllm, sglang and trtllm"):
        stack_of("llama.cpp")


@pytest.mark.parametrize(
    ("engine", "device", "tokens"),
    [
        ("vllm", "h100_sxm", 8192),
        ("vllm", "a100_sxm", 2048),
        ("vllm", "l40s", 2048),
        ("sglang", "a100_sxm", 8192),
        ("sglang", "b200_sxm", 16384),
        ("sglang", "l4", 2048),
        ("trtllm", "a100_sxm", 8192),
    ],
)
def test_tokens_of_a_pass_by_engine_and_device(engine: str, device: str, tokens: int) -> None:
    assert budget(engine, system(device)) == tokens


def test_a_pass_of_a_row_is_as_large_as_its_engine_makes_it_there(tmp_path: Path) -> None:
    line = LLAMA.replace("trtllm,1.0.0rc3", "vllm,0.17.0").replace("1024,128,8.0,2.0", "4096,128,1.0,1.0")
    runs = rows.read(table(tmp_path, line, line.replace("h100_sxm", "a100_sxm")))
    assert [Desk().asked(row).stack.scheduler.tokens for row in runs.rows.values()] == [8192, 2048]


def test_systems_by_their_names() -> None:
    found = {name: system(name).name for name in ("h100_sxm", "h200_sxm", "a100_sxm", "b200_sxm", "l40s", "gb200")}
    assert found == {
        "h100_sxm": "h100-sxm-80gb",
        "h200_sxm": "h200",
        "a100_sxm": "a100-sxm-80gb",
        "b200_sxm": "b200",
        "l40s": "l40s",
        "gb200": "gb200",
    }
    with pytest.raises(InputError, match="no device is called 'h900-sxm'"):
        system("h900_sxm")


def predicted(tmp_path: Path, *lines: str, head: str = HEAD) -> verify.Verified:
    return verify.predict(rows.read(table(tmp_path, *lines, head=head)))


def test_measured_times_decide_no_prediction(tmp_path: Path) -> None:
    other = LLAMA.replace("129.4,5.21", "7,900")
    without = LLAMA.replace("129.4,5.21", ",")
    first, second, third = predicted(tmp_path, LLAMA, other, without).predicted.values()
    for each in (second, third):
        assert replace(each, row=first.row) == first
    assert 0 < first.low_tpot_ms <= first.tpot_ms <= first.high_tpot_ms


def test_what_cannot_be_predicted_is_said_by_line(tmp_path: Path) -> None:
    found = predicted(
        tmp_path,
        LLAMA.replace(",agg,", ",disagg,"),
        LLAMA.replace("h100_sxm", "h900_sxm"),
        LLAMA.replace("meta-llama/Llama-3.1-8B-Instruct", "acme/Unheard-Of-7B"),
        LLAMA.replace("8.0,2.0", "8.0,3.0"),
        LLAMA,
    )
    assert list(found.predicted) == [6]
    for line, text in (
        (2, "mode is 'disagg'"),
        (3, "no device is called"),
        (4, "no spec is called"),
        (5, "3 devices cannot share the heads (32)"),
    ):
        assert text in found.problems[line]


def test_a_static_batch_is_taken_in_at_once(tmp_path: Path) -> None:
    whole, shared = predicted(tmp_path, LLAMA.replace(",agg,", ",static,"), LLAMA).predicted.values()
    # No prompt comes between the tokens of others, and every first token waits for all prompts of its batch.
    assert whole.tpot_ms < shared.tpot_ms
    assert whole.ttft_ms > shared.ttft_ms


def test_a_cache_in_fp8_is_read_quicker(tmp_path: Path) -> None:
    plain = LLAMA.replace(",8.0,2.0", ",64.0,2.0").replace("1024,128", "4096,128")
    lines = [f"{plain},{dtype}" for dtype in ("auto", "bf16", "fp8", "e5m10")]
    found = predicted(tmp_path, *lines, head=f"{HEAD},kv_dtype")
    auto, bf16, fp8 = (each.tpot_ms for each in found.predicted.values())
    assert auto == bf16 > fp8
    assert "kv_dtype is 'e5m10'" in found.problems[5]


def test_what_does_not_fit_waits(tmp_path: Path) -> None:
    # 64 sequences of 4,224 tokens keep 64 x 4,224 x 131,072 bytes, 35.4 GB, on one H100 beside 16 GB of weights: they fit.
    # 256 do not: fewer run, so that a token comes sooner and the first one later.
    line = LLAMA.replace("1024,128,8.0,2.0", "4096,128,256.0,1.0")
    runs = rows.read(table(tmp_path, line))
    (anyway,), (fitting,) = verify.predict(runs).predicted.values(), verify.predict(runs, room_of).predicted.values()
    assert fitting.tpot_ms < anyway.tpot_ms
    assert fitting.ttft_ms > anyway.ttft_ms
    arch = named("llama-3.1-8b")
    assert 64 < (room_of(arch, system("h100_sxm"), Layout(), 4224) or 0) < 256


def test_errors_by_hand(tmp_path: Path) -> None:
    (one,) = predicted(tmp_path, LLAMA).predicted.values()
    some = [
        replace(
            one, tpot_ms=predicted_ms, low_tpot_ms=8, high_tpot_ms=12, row=replace(one.row, tpot_ms=10, ttft_ms=None)
        )
        for predicted_ms in (10, 11, 12, 8, 5)
    ]
    found = accuracy.errors_of_tpot(some)
    # 0, 10, 20, 20 and 50%: nine tenths of five rows are all five.
    assert found is not None
    assert (found.rows, found.inside) == (5, 1)
    assert [found.mean, found.median, found.p90] == pytest.approx([20, 20, 50])
    assert accuracy.errors_of_ttft(some) is None
    assert accuracy.errors_of_tpot([]) is None


def test_hosts_of_served_points_have_a_constant_each(tmp_path: Path) -> None:
    fast, slow = LLAMA.replace("5.21", "5"), LLAMA.replace("5.21", "9").replace("1.0.0rc3", "1.1")
    wide = fast.replace("8.0,2.0", "8.0,4.0").replace(",5", ",4")
    unmeasured = LLAMA.replace("129.4,5.21", ",")
    found = fit_runs(rows.read(table(tmp_path, fast, wide, slow, unmeasured)))
    one, other = Host("trtllm", "1.0.0rc3", "h100_sxm"), Host("trtllm", "1.1", "h100_sxm")
    assert set(found) == {one, other}
    assert found[other].stack.host.step_seconds > found[one].stack.host.step_seconds + 3e-3
    # One point is met exactly, by the one constant that it has.
    assert found[other].largest_error < 1e-3
    assert "fitted to 2 served points" in found[one].stack.host.basis
    for line, text in (
        (unmeasured, "no row has a measured time"),
        (LLAMA.replace("1024", "0"), "line 2: isl is '0'"),
        (LLAMA.replace(",agg,", ",disagg,"), "line 2: mode is 'disagg'"),
        (LLAMA.replace("1024,128", "1024,1"), "line 2: a served point needs at least 2 output tokens"),
    ):
        with pytest.raises(InputError, match=text):
            fit_runs(rows.read(table(tmp_path, line)))


def test_predictions_stand_beside_every_column(tmp_path: Path) -> None:
    found = predicted(tmp_path, LLAMA, LLAMA.replace(",agg,", ",disagg,"))
    head, good, bad = serving_tables.to_csv(found).splitlines()
    assert head == f"{HEAD},pred_ttft_ms,pred_tpot_ms,lo_tpot_ms,hi_tpot_ms,pred_basis"
    assert good.startswith(f"{LLAMA},")
    assert good.count(",") == head.count(",")
    assert bad.startswith(LLAMA.replace(",agg,", ",disagg,") + ",,,,,")
    table_ = serving_tables.error_table(found)
    assert table_ is not None
    assert table_.rows[0][:2] == ("all", "1")
    assert "1 without a prediction" in table_.notes[-1]
    taken = rows.read(table(tmp_path, f"{LLAMA},3", head=f"{HEAD},pred_tpot_ms"))
    with pytest.raises(InputError, match="the header already has pred_tpot_ms"):
        serving_tables.check_columns("runs.csv", taken)


def test_every_shipped_model_has_times_or_a_reason() -> None:
    """No architecture of the catalogue makes a traceback: it is timed, or refused with a message."""
    from llmprof.latency.compose import Composer, Pass
    from llmprof.latency.compose_bounds import DeviceKernels
    from llmprof.latency.constants import DeviceModel

    kernels = DeviceKernels(DeviceModel.of("h100-sxm"))
    timed, refused = 0, 0
    for entry in catalog.entries()[::4]:
        try:
            found = Composer(entry.load().arch(), kernels=kernels).time(Pass(decode_sequences=4, decode_context=100))
        except InputError as error:
            refused += "known" in str(error)
        else:
            timed += found.seconds >= found.floor * (1 - 1e-9)
    assert timed + refused == len(catalog.entries()[::4])
    assert timed > refused > 0
