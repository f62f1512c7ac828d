"""One layer: attention, cross-attention and feed-forward, joined serially or in parallel.

reference-execution.md, section 5, `layers.{i}`; reference-options.md, section 2. Axis legend: see `tensor.py`; x and
every block's output are [b, t, d].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmprof.predict.dropout import drop_leaf
from llmprof.predict.ffn import feed_forward
from llmprof.predict.gqa import GqaLowering
from llmprof.predict.leaves import norm_before, norm_on_output
from llmprof.predict.lowering import Kept, lowering, mixers
from llmprof.predict.norms import normalise
from llmprof.predict.setting import Side
from llmprof.predict.shared_kv import KeysAndValues
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Tensor
from llmprof.spec.arch import ChannelMix, Ffn, Gqa, LayerSpec, NoAttention, NoFfn, Residual

Block = Callable[[Tensor], Tensor]
Feed = Callable[[Tape, Side, Ffn, Tensor, Kept], Tensor]
Caches = Mapping[str, Kept]
"""What a layer keeps between tokens, by the module that keeps it: ``attn``, ``mixer``, ``cross_attn`` or ``ffn``."""


def layer_caches(side: Side, layer: LayerSpec) -> Caches:
    """What one layer keeps; nothing in an encoder, and nothing in training."""
    if not side.cached:
        return {}
    caches = {path: made.kept(side) for path, made in mixers(layer).items()}
    if layer.cross_attention is not None:
        caches["cross_attn"] = GqaLowering(layer.cross_attention).kept_of_source(side)
    if isinstance(layer.ffn, ChannelMix):
        from llmprof.predict.channel_mix import channel_mix_kept

        caches["ffn"] = channel_mix_kept(side)
    return caches


def lower_layer(
    tape: Tape,
    side: Side,
    layer: LayerSpec,
    caches: Caches,
    x: Tensor,
    memory: Tensor | None,
    relative: Tensor | None,
    borrowed: KeysAndValues | None = None,
    *,
    feed: Feed = feed_forward,
) -> tuple[Tensor, KeysAndValues | None]:
    """The body of a layer; its own inputs are kept alive by whoever calls it.

    `borrowed` are another layer's keys and values, where this one has none of its own. `feed` lowers its feed-forward.
    Returns the layer's output, and
    the keys and values that its core took where it could lend them.
    """
    lent: KeysAndValues | None = None

    def attn(y: Tensor) -> Tensor:
        nonlocal lent
        attention, held = layer.attention, caches.get("attn", {})
        if not isinstance(attention, Gqa):
            return lowering(attention).attend(tape, side, layer.position, y, relative, held)
        gqa = GqaLowering(attention)
        o, read = gqa.attend_over(tape, side, layer.position, y, relative, held, borrowed)
        lent = read
        return o

    def ffn(y: Tensor) -> Tensor:
        return feed(tape, side, layer.ffn, y, caches.get("ffn", {}))

    def mixer(y: Tensor) -> Tensor:
        return mixers(layer)["mixer"].attend(tape, side, layer.position, y, None, caches.get("mixer", {}))

    if layer.block == "parallel":
        return _parallel(tape, side, layer, x, attn, ffn), lent
    if not isinstance(layer.attention, NoAttention):
        x = _serial(tape, side, layer, "attn", attn, x, beside=None if layer.mixer is None else mixer)
    if layer.cross_attention is not None:
        source, held = GqaLowering(layer.cross_attention), caches.get("cross_attn", {})
        x = _serial(tape, side, layer, "cross", lambda y: source.attend_source(tape, side, y, memory, held), x)
    if not isinstance(layer.ffn, NoFfn):
        x = _serial(tape, side, layer, "ffn", ffn, x)
    return x, lent


def _serial(
    tape: Tape, side: Side, layer: LayerSpec, name: str, block: Block, x: Tensor, *, beside: Block | None = None
) -> Tensor:
    """One block with its residual, and its norms where the placement wants them.

    `beside` reads the same input as the block, and joins it in the residual; such a layer is pre-norm.
    """

    def norm(which: str, y: Tensor) -> Tensor:
        return normalise(tape, side.setting, f"{name}_{which}", layer.norm, y)

    y = norm("norm", x) if norm_before(layer, name) else x
    f = block(tape.across("rows", y, name))
    tape.touch((y,))  # what is gathered for a block lives as long as its input
    f = tape.across("sum", f, name)
    if norm_on_output(layer):
        f = norm("post_norm", f)
    f = drop_leaf(tape, side.setting, f"{name}_dropout", f)
    joining = () if beside is None else (beside(y),)
    with tape.module(f"{name}_residual", x, f, *joining):
        for other in joining:
            f = tape.run("add", f, other)
        x = _add(tape, f, x, layer.residual)
    return norm("norm", x) if layer.placement == "post" else x


def _parallel(tape: Tape, side: Side, layer: LayerSpec, x: Tensor, attn: Block, ffn: Block) -> Tensor:
    """Both blocks read the same input, through one shared norm or a norm each."""
    y = tape.across("rows", normalise(tape, side.setting, "attn_norm", layer.norm, x), "attn_norm")
    a = attn(tape.across("rows", y, "attn"))
    tape.touch((y,))
    a = drop_leaf(tape, side.setting, "attn_dropout", a)
    if layer.parallel_norms == 2:
        y = normalise(tape, side.setting, "ffn_norm", layer.norm, x)
    f = ffn(tape.across("rows", y, "ffn"))
    tape.touch((y,))
    f = drop_leaf(tape, side.setting, "ffn_dropout", f)
    with tape.module("residual", x, a, f):
        return _add(tape, tape.across("sum", tape.run("add", a, f)), x, layer.residual)


def _add(tape: Tape, f: Tensor, x: Tensor, residual: Residual) -> Tensor:
    """`add` with a factor on one of the two: one kernel; the factor costs a FLOP where it is not 1."""
    if residual.scale != 1.0:
        return tape.run("add", x, f, cost=2, alpha=residual.scale)
    return tape.run("add", f, x, cost=1 if residual.alpha == 1.0 else 2, alpha=residual.alpha)
