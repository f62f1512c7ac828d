"""Every architecture that the language can say survives ``load(dump(arch))`` unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmprof.spec.arch import (
    Alibi,
    ArchSpec,
    Attention,
    AudioFront,
    Gqa,
    Head,
    LayerSpec,
    Learned,
    LmHead,
    Mla,
    MlmHead,
    NoAttention,
    NoFfn,
    NoHead,
    NoPosition,
    Published,
    Residual,
    Rope,
    Sinusoidal,
    Source,
    Stack,
    T5Bias,
)
from llmprof.spec.build import MAX_MTP
from llmprof.spec.dump import dump
from llmprof.spec.load import load_text
from tests.sharing import further
from tests.spec_parts import NORMS, POSITIVE, SIZES, attentions, feed_forwards, latents, maybe, mixers

NAMES = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z")
RESERVED = {"norm", "attention", "cross_attention", "mixer", "ffn", "block", "residual", "position",
            "count", "pattern", "final_norm", "embedding_norm", "front"}  # fmt: skip
GROUP_NAMES = st.one_of(
    st.sampled_from(["layers", "encoder", "decoder", "null", "true", "1", "0x1f", "1e5"]),
    st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,8}\Z"),
).filter(lambda name: name not in RESERVED)
PROSE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t\x85:#'\"?"), min_size=1
)
READABLE = PROSE.filter(lambda text: all(char < "\ufffe" or char > "\uffff" for char in text))


SOURCES = st.builds(
    Source, url=READABLE.filter(str.strip), where=maybe(READABLE),
    read=st.just("recalled") | st.dates().map(lambda day: day.isoformat()),
)  # fmt: skip


@st.composite
def layers(
    draw: st.DrawFn, group: str, mask: str, prefix: str, table: T5Bias | None, heads: int, window: int | None
) -> LayerSpec:
    cross = prefix == "decoder."
    uses_table = table is not None and draw(st.booleans())
    # All layers that use the table share its number of heads and a window.
    own = draw(attentions(mask=mask, heads=heads, window=window, table=True) if uses_table else attentions(mask=mask))
    ropes = st.builds(
        Rope, theta=POSITIVE, axes=st.sampled_from([1, 2]), rotary_dim=maybe(st.just(own.head_dim) | st.just(4))
    )
    position = table if uses_table and table is not None else draw(ropes | st.just(Alibi()) | st.just(NoPosition()))
    attention: Attention = own
    ffn = draw(feed_forwards(mask))
    kinds = ["gqa"] if uses_table else ["gqa", "gqa", *(["mla", "mixer"] if mask == "causal" else [])]
    match draw(st.sampled_from(kinds)):
        case "mla":
            attention, position = draw(latents()), Rope(theta=draw(POSITIVE))
        case "mixer":
            attention, position = draw(mixers(beside=False)), NoPosition()
    placement: Any = draw(st.sampled_from(["pre", "post", "sandwich", "reordered"]))
    parallel = placement == "pre" and not cross and draw(st.booleans())
    lacks = draw(st.sampled_from(["nothing", "nothing", "attention", "ffn"])) if not (prefix or parallel) else "nothing"
    if lacks == "attention" and not uses_table:
        attention, position = NoAttention(), NoPosition()
    if lacks == "ffn":
        ffn = NoFfn()
    beside = isinstance(attention, Gqa | Mla) and placement == "pre" and not parallel and not cross and mask == "causal"
    alike = st.builds(Residual, scale=POSITIVE) | st.just(Residual())
    residuals = st.builds(Residual, alpha=POSITIVE, beta=POSITIVE) if placement == "post" else st.just(Residual())
    norms: Any = draw(st.sampled_from([1, 2])) if parallel else 1
    return LayerSpec(
        group=group, attention=attention, ffn=ffn, norm=draw(NORMS), placement=placement, position=position,
        block="parallel" if parallel else "serial", parallel_norms=norms, residual=draw(residuals | alike),
        cross_attention=draw(attentions(mask=None)) if cross else None,
        mixer=draw(maybe(mixers(beside=True))) if beside else None,
        first_norm=placement not in ("pre", "sandwich") or parallel or draw(st.booleans()),
    )  # fmt: skip


def lending(layers: Sequence[LayerSpec]) -> tuple[LayerSpec, ...]:
    """The layers of a stack with what the loader says of them: whose keys and values a later one reads."""
    lenders: set[int] = set()
    for index, layer in enumerate(layers):
        own = layer.attention
        if isinstance(own, Gqa) and own.shared_kv:
            shape = (own.n_kv_heads, own.head_dim, own.window, own.chunk)
            lenders.add(max(
                j for j, other in enumerate(layers[:index])
                if isinstance(other.attention, Gqa) and not other.attention.shared_kv
                and (other.attention.n_kv_heads, other.attention.head_dim, other.attention.window, other.attention.chunk)
                == shape
            ))  # fmt: skip
    return tuple(replace(layer, lends_kv=index in lenders) for index, layer in enumerate(layers))


@st.composite
def borrowers(draw: st.DrawFn, name: str, lender: LayerSpec) -> LayerSpec:
    """A layer that reads what `lender` keeps."""
    own = lender.attention
    assert isinstance(own, Gqa)
    over = "head" if own.qk_norm_over == "all-heads" else own.qk_norm_over
    return replace(
        lender,
        group=name,
        attention=replace(own, shared_kv=True, qk_norm_over=over, qkv_clip=None, scale=draw(maybe(POSITIVE))),
    )


@st.composite
def stacks(draw: st.DrawFn, prefix: str, mask: Any, max_context: int | None) -> Stack:
    table = draw(maybe(st.builds(T5Bias, n_buckets=st.integers(2, 50).map(lambda n: 2 * n),
                                 max_distance=st.integers(101, 1000), per_layer=st.booleans()))) if mask != "prefix" else None  # fmt: skip
    heads, window = draw(st.integers(1, 8)), draw(maybe(SIZES)) if mask == "causal" else None
    fronts = st.builds(AudioFront, channels=SIZES, kernel=st.integers(0, 20).map(lambda n: 2 * n + 1))
    names = draw(st.lists(GROUP_NAMES, min_size=1, max_size=3, unique=True))
    groups = [draw(layers(name, mask, prefix, table, heads, window)) for name in names]
    lender = next((i for i, each in enumerate(groups) if isinstance(each.attention, Gqa)), None)
    if lender is not None and mask != "bidirectional" and not isinstance(groups[lender].position, T5Bias):
        name = draw(GROUP_NAMES.filter(lambda each: each not in names))
        groups += draw(st.just([]) | borrowers(name, groups[lender]).map(lambda made: [made]))
    if draw(st.booleans()):
        run = [layer for layer in groups for _ in range(draw(st.integers(1, 4)))]
    else:
        # A cycle that names every group, cut where all have been reached.
        period = groups + draw(st.lists(st.sampled_from(groups), max_size=4))
        run = list(islice(cycle(period), draw(st.integers(len(groups), 12))))
    embedded: list[st.SearchStrategy[Any]] = [st.none(), st.builds(Sinusoidal, stored_rows=maybe(SIZES))]
    if max_context is not None:
        embedded.append(st.builds(Learned, rows=st.integers(max_context, 2**40)))
    return Stack(
        prefix=prefix, mask=mask, layers=lending(run), embedded_position=draw(st.one_of(embedded)),
        embedding_norm=draw(maybe(NORMS)), final_norm=draw(maybe(NORMS)),
        front=draw(maybe(fronts)) if prefix == "encoder." else None,
    )  # fmt: skip


@st.composite
def architectures(draw: st.DrawFn) -> ArchSpec:
    structure: Any = draw(st.sampled_from(["causal-decoder", "prefix-decoder", "encoder", "encoder-decoder"]))
    sides = {
        "causal-decoder": [("", "causal")], "prefix-decoder": [("", "prefix")], "encoder": [("", "bidirectional")],
        "encoder-decoder": [("encoder.", "bidirectional"), ("decoder.", "causal")],
    }[structure]  # fmt: skip
    max_context = draw(maybe(SIZES))
    lm = st.builds(LmHead, bias=st.booleans(), input_scale=maybe(POSITIVE), output_scale=maybe(POSITIVE),
                   softcap=maybe(POSITIVE))  # fmt: skip
    mlm = st.builds(MlmHead, dense_bias=st.booleans(), norm=NORMS)
    heads: list[st.SearchStrategy[Head]] = [lm, st.just(NoHead()), *([mlm] if structure == "encoder" else [])]
    published = st.builds(Published, params_total=st.integers(1, 2**60), rounded=st.booleans(), source=SOURCES,
                          note=maybe(READABLE))  # fmt: skip
    built = tuple(draw(stacks(prefix, mask, max_context)) for prefix, mask in sides)
    head = draw(st.one_of(heads))
    return ArchSpec(
        name=draw(NAMES), variant=draw(maybe(NAMES.filter(lambda name: name != "base"))), structure=structure,
        sources=tuple(draw(st.lists(SOURCES, min_size=1, max_size=3))), d_model=draw(SIZES), vocab_size=draw(SIZES),
        max_context=max_context, tied_embeddings=draw(st.booleans()),
        stacks=built, head=head,
        pooler=structure == "encoder" and draw(st.booleans()), embedding_scale=draw(maybe(POSITIVE)),
        type_vocab_size=0 if structure == "encoder-decoder" else draw(st.integers(0, 2**40)),
        mtp=draw(further(built[-1], counts=st.integers(1, MAX_MTP))) if structure == "causal-decoder" and isinstance(head, LmHead) else None,
        published=draw(maybe(published)),
    )  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(architectures())
def test_what_is_dumped_is_loaded_again(arch: ArchSpec) -> None:
    written = dump(arch)
    spec = load_text(written)
    assert spec.arch(arch.variant) == arch
    assert dump(spec.arch(arch.variant)) == written
