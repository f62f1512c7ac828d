"""Records of `count` as tables for people: a sheet for one question, a row each for several.

A figure that nothing independent confirms carries an asterisk, and a remark below the table says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llmprof.report.tables import Table
from llmprof.report.what_runs import REFERENCES, traffic_remark
from llmprof.units import format_bytes, format_count, format_exact, format_ratio

Record = dict[str, Any]
Form = Callable[[Any], str]

UNITS = "KiB, MiB, GiB are powers of 1024; k, M, G, T are powers of 1000."
_WORKLOAD_KEYS = ("batch", "context", "source_tokens", "prefix_tokens")
STAR = " *"
"""What marks a figure that nothing independent confirms."""


def _maybe(formatter: Form, value: object) -> str:
    return "-" if value is None else formatter(value)


def _exact_bytes(value: float) -> str:
    """A mean to the nearest byte."""
    whole = round(value)
    return f"{format_bytes(whole)}  ({whole:,} B)" if whole >= 1024 else f"{whole:,} B"


def _per_token_bytes(value: int | float) -> str:
    """As a whole number where it is one; a fraction, of keys that several tokens share, to two places."""
    return _exact_bytes(value) if isinstance(value, int) else f"{value:,.2f} B"


def _exact_count(value: int) -> str:
    return f"{format_count(value)}  ({value:,})" if value >= 1000 else f"{value:,}"


def _ratio(value: float) -> str:
    return f"{value:,.2f}"


_MODEL_LINES: tuple[tuple[str, str, Form], ...] = (
    ("parameters", "params_total", format_exact),
    ("  embedding", "params_embedding", format_exact),
    ("  non-embedding", "params_non_embedding", format_exact),
    ("  active per token", "params_active", format_exact),
    ("  beside these, of mtp layers", "params_mtp", format_exact),
    ("weights", "weight_bytes", _exact_bytes),
    ("  as released", "weight_bytes_released", _exact_bytes),
    ("  and of mtp layers", "weight_bytes_released_mtp", _exact_bytes),
    ("KV cache per token and sequence", "kv_cache_bytes_per_token", _per_token_bytes),
)

_PASS_LINES: tuple[tuple[str, str, Form], ...] = (
    ("matmul FLOPs, dense", "matmul_flops_dense", _exact_count),
    ("  per new token", "matmul_flops_dense_per_token", _exact_count),
    ("  of the unfused algorithm", "matmul_flops_dense_unfused", _exact_count),
    ("matmul FLOPs, causal", "matmul_flops_causal", _exact_count),
    ("vector FLOPs, fused", "vector_flops", _exact_count),
    ("KV cache", "kv_cache_bytes", _exact_bytes),
    ("  of self-attention", "kv_cache_bytes_self", _exact_bytes),
    ("  of cross-attention", "kv_cache_bytes_cross", _exact_bytes),
    ("recurrent state, of fixed size", "recurrent_state_bytes", _exact_bytes),
    ("activation peak, fused", "activation_peak_bytes_fused", _exact_bytes),
    ("activation peak, unfused", "activation_peak_bytes_unfused", _exact_bytes),
    ("total memory, fused", "total_bytes_fused", _exact_bytes),
    ("total memory, unfused", "total_bytes_unfused", _exact_bytes),
    ("HBM traffic, fused", "hbm_bytes_fused", _exact_bytes),
    ("  if tokens chose experts at random", "hbm_bytes_expected_fused", _exact_bytes),
    ("HBM traffic, unfused", "hbm_bytes_unfused", _exact_bytes),
    ("  if tokens chose experts at random", "hbm_bytes_expected_unfused", _exact_bytes),
    ("experts touched in a layer", "experts_touched", _exact_count),
    ("  if tokens chose them at random", "experts_expected", _ratio),
    ("SRAM traffic, fused", "sram_bytes_fused", _exact_bytes),
    ("SRAM per tile", "sram_tile_footprint_bytes", _exact_bytes),
    ("FLOPs per HBM byte, fused", "arithmetic_intensity_fused", _ratio),
    ("FLOPs per HBM byte, unfused", "arithmetic_intensity_unfused", _ratio),
)

_OF_FUSED = ("matmul_flops_dense", "matmul_flops_causal")
"""Lines that say whose they are where the unfused execution is another algorithm."""


def label(record: Record) -> str:
    """``name`` or ``name:variant``."""
    return record["name"] if record["variant"] is None else f"{record['name']}:{record['variant']}"


def describe_workload(record: Record) -> str:
    """The settings that decide the figures, defaults included."""
    parts = [f"{key.replace('_', ' ')} {record[key]:,}" for key in _WORKLOAD_KEYS if record[key]]
    weights, activations = record["weight_dtype"], record["activation_dtype"]
    dtypes = f"weights {weights}, activations {activations}, KV cache {record['kv_dtype']}"
    which = {"all": "all positions", "last": "the last position", "none": "no position"}[record["logits"]]
    forms = "".join(f", {key} {text}" for key, text in _forms(record).items() if text != "-")
    further = " and of the mtp layers" if record["mtp"] else ""
    return f"{', '.join(parts)}, logits of {which}{further}{forms}; {dtypes}"


def _pass_heading(record: Record) -> str:
    if record["phase"] == "decode":
        return f"decode, 1 token at {record['context']:,}"
    return f"prefill, {record['new_tokens']:,} tokens"


def _remarks(
    records: Sequence[Record], shown: Iterable[str], confirm: str, remarks: Sequence[str] = ()
) -> tuple[str, ...]:
    """What a reader must know of the figures that are `shown`, and the command that confirms them."""
    keys = list(shown)
    notes = [
        UNITS,
        traffic_remark(records),
    ]
    kernels = sorted({str(r["sram_kernel"]) for r in records if r["sram_kernel"]})
    if kernels and "sram_bytes_fused" in keys:
        notes.append("SRAM: " + "; ".join(kernels) + ".")
    notes += remarks
    reasons: dict[str, list[str]] = {}
    for record in records:
        for quantity, why in record["unconfirmed"].items():
            if quantity in keys and quantity not in reasons.setdefault(why, []):
                reasons[why].append(quantity)
    notes += [f"* unconfirmed: {', '.join(names)}: {why}." for why, names in reasons.items() if names]
    return (*notes, "Confirm the other figures:" if reasons else "Confirm the figures:", f"  {confirm}")


def sheet(records: Sequence[Record], heading: str, confirm: str, remarks: Sequence[str] = ()) -> list[Table]:
    """One architecture and one workload in full: a column per phase. `remarks` are further notes on its figures."""
    first = records[0]
    cached = any(record["kv_cache_bytes"] for record in records)
    left_out = set() if cached else {"kv_cache_bytes_per_token", "kv_cache_bytes_self"}
    two = any(_two_algorithms(record) for record in records)
    left_out |= set() if two else {"matmul_flops_dense_unfused"}
    left_out |= set() if _keeps_a_state(records) else {"recurrent_state_bytes"}
    left_out |= set() if first["params_mtp"] else {"params_mtp", "weight_bytes_released_mtp"}
    if first["weight_bytes_released"] in (None, first["weight_bytes"]):  # the line above says it all
        left_out |= {"weight_bytes_released", "weight_bytes_released_mtp"}
    if not any(record["kv_cache_bytes_cross"] for record in records):
        left_out |= {"kv_cache_bytes_cross", "kv_cache_bytes_self"}  # the total says it all
    model = Table(
        title=heading,
        columns=("the model", ""),
        rows=tuple(
            (text + (STAR if key in first["unconfirmed"] else ""), form(first[key]))
            for text, key, form in _MODEL_LINES
            if key not in left_out
        ),
    )
    rows = []
    for text, key, form in _PASS_LINES:
        if key not in left_out and any(record[key] is not None for record in records):
            mark = STAR if any(key in record["unconfirmed"] for record in records) else ""
            execution = ", fused" if two and key in _OF_FUSED else ""
            rows.append((text + execution + mark, *(_maybe(form, record[key]) for record in records)))
    columns = ("one pass", *(_pass_heading(record) for record in records))
    if any(len({record[key] for record in records}) > 1 for key in REFERENCES.values()):
        rows += [(text, *(record[key] for record in records)) for text, key in REFERENCES.items()]
    passes = Table(
        title=describe_workload(first),
        columns=columns,
        rows=tuple(rows),
        notes=_remarks(
            records, (key for _, key, _ in (*_MODEL_LINES, *_PASS_LINES) if key not in left_out), confirm, remarks
        ),
    )
    return [model, passes]


def _keeps_a_state(records: Sequence[Record]) -> bool:
    """Whether any of them keeps something of a fixed size between tokens."""
    return any(record["recurrent_state_bytes"] for record in records)


def _two_algorithms(record: Record) -> bool:
    """Whether the unfused execution is another algorithm, with FLOPs of its own."""
    return bool(record["matmul_flops_dense_unfused"] != record["matmul_flops_dense"])


Column = tuple[str, str, Form]

_PARAMETERS: Column = ("params", "params_total", format_count)
_ONE_COUNT: tuple[Column, ...] = (("matmul FLOPs", "matmul_flops_dense", format_count),)
_TWO_COUNTS: tuple[Column, ...] = (
    ("FLOPs fused", "matmul_flops_dense", format_count),
    ("unfused", "matmul_flops_dense_unfused", format_count),
)
_CACHE: Column = ("KV cache", "kv_cache_bytes", format_bytes)
_STATE: Column = ("state", "recurrent_state_bytes", format_bytes)
_BYTES: tuple[Column, ...] = (
    ("memory fused", "total_bytes_fused", format_bytes),
    ("unfused", "total_bytes_unfused", format_bytes),
    ("HBM fused", "hbm_bytes_fused", format_bytes),
    ("unfused", "hbm_bytes_unfused", format_bytes),
)


def comparison(records: Sequence[Record], confirm: str, remarks: Sequence[str] = ()) -> list[Table]:
    """A row for each record, those of one workload together; then the ratios of variants to their base.

    `remarks` are further notes on the figures.
    """
    two = any(_two_algorithms(record) for record in records)
    kept = (_CACHE, _STATE) if _keeps_a_state(records) else (_CACHE,)
    columns = (_PARAMETERS, *(_TWO_COUNTS if two else _ONE_COUNT), *kept, *_BYTES)
    settings = [_settings(record) for record in records]
    varying = [key for key in settings[0] if len({each[key] for each in settings}) > 1]
    # Rows to be compared stand under each other: sorted by what varies, prefill first, and within that as asked for.
    order = list(dict.fromkeys(tuple(setting[key] for key in varying) for setting in settings))
    order.sort(key=lambda each: dict(zip(varying, each, strict=True)).get("phase") == "decode")
    keyed = [
        (tuple(setting[key] for key in varying), record) for setting, record in zip(settings, records, strict=True)
    ]
    keyed.sort(key=lambda pair: order.index(pair[0]))
    told = {head: key for head, key in REFERENCES.items() if len({record[key] for record in records}) > 1}
    left = 2 if varying[:1] == ["phase"] else 1
    rows = [
        (
            label(record),
            *key[: left - 1],
            *(record[reference] for reference in told.values()),
            *key[left - 1 :],
            *(_marked(record, quantity, form) for _, quantity, form in columns),
        )
        for key, record in keyed
    ]
    heads = tuple(head for head, _, _ in columns)
    common = ", ".join(f"{key} {value}" for key, value in settings[0].items() if key not in varying and value != "-")
    figures = Table(
        title=common,
        columns=("spec", *varying[: left - 1], *told, *varying[left - 1 :], *heads),
        rows=tuple(rows),
        left=left + len(told),
        notes=_remarks(records, (quantity for _, quantity, _ in columns), confirm, remarks),
    )
    ratios = _ratios(keyed, columns)
    if not ratios:
        return [figures]
    return [
        figures,
        Table(
            title="Ratio to the base of the same spec and workload",
            columns=("spec", *varying, *heads),
            rows=ratios,
            left=left,
        ),
    ]


def _ratios(keyed: Sequence[tuple[tuple[str, ...], Record]], columns: Sequence[Column]) -> tuple[tuple[str, ...], ...]:
    bases = {_workload_key(record): record for _, record in keyed if record["variant"] is None}
    return tuple(
        (label(record), *key, *(_ratio_to(record, base, quantity) for _, quantity, _ in columns))
        for key, record in keyed
        if record["variant"] is not None and (base := bases.get(_workload_key(record))) is not None
    )


def _marked(record: Record, key: str, form: Form) -> str:
    return _maybe(form, record[key]) + (STAR if key in record["unconfirmed"] else "")


def _settings(record: Record) -> dict[str, str]:
    """What decides the figures, as text by column: in the title where all rows share it, in a column where not.

    "-" is what says nothing: a length that the structure does not have, new tokens that are the phase's own.
    """
    implied = 1 if record["phase"] == "decode" else record["context"]
    return {
        "phase": record["phase"],
        "batch": f"{record['batch']:,}",
        "new tokens": "-" if record["new_tokens"] == implied else f"{record['new_tokens']:,}",
        "context": f"{record['context']:,}",
        "source tokens": f"{record['source_tokens']:,}" if record["source_tokens"] else "-",
        "prefix tokens": f"{record['prefix_tokens']:,}" if record["prefix_tokens"] else "-",
        "logits": record["logits"],
        **_forms(record),
        "weights": record["weight_dtype"],
        "activations": record["activation_dtype"],
        "KV": record["kv_dtype"],
    }


def _forms(record: Record) -> dict[str, str]:
    """How experts are chosen, where there are some, and how a cache of latents is read, where not as usual."""
    latents = "-" if record["latent"] in (None, "absorbed") else record["latent"]
    return {"routing": record["routing"] or "-", "latents": latents}


def _workload_key(record: Record) -> tuple[object, ...]:
    return tuple(record[key] for key in ("name", "phase", "new_tokens", *_WORKLOAD_KEYS))


def _ratio_to(record: Record, base: Record, key: str) -> str:
    return format_ratio(record[key] / base[key]) if base[key] else "-"
