"""FlashAttention's figure 2: memory traffic and FLOPs of the attention of GPT-2 medium, forward and backward."""

from __future__ import annotations

from llmprof.claims.papers.attention_kernels import Shape, flash, with_added_mask_and_dropout, with_filled_padding
from llmprof.claims.papers.figure import Figure, Outcome, Study, share
from llmprof.predict import tiles

SHAPE = Shape(batch=64, heads=16, length=1024, head_dim=64)
"""GPT-2 medium: 1,024 tokens, 16 heads of 64, a batch of 64 (the caption of the figure)."""

KEYS_AT_ONCE = 256
GB = 10**9
BAND = 0.03
WHY = "kernels are counted, each input once; the paper does not list them, nor how it counted"

STANDARD, OTHER, FLASH = 40.3, 35.3, 4.4
"""GB of traffic as printed; `OTHER` is standard attention in another version of the paper."""

FLOPS_STANDARD, FLOPS_FLASH = 66.6, 75.2
"""GFLOPs as printed."""


def compute() -> Outcome:
    """The figure, from the kernels of `attention_kernels`."""
    standard, padding = with_added_mask_and_dropout(SHAPE), with_filled_padding(SHAPE)
    tiled = flash(SHAPE, KEYS_AT_ONCE, partials="fp16")
    released = flash(SHAPE, KEYS_AT_ONCE, partials="fp32")
    one = with_added_mask_and_dropout(Shape(batch=1, heads=SHAPE.heads, length=SHAPE.length, head_dim=SHAPE.head_dim))
    figures = (
        _traffic("standard attention", STANDARD, standard.hbm_bytes),
        _traffic("standard attention, the other version", OTHER, padding.hbm_bytes),
        _traffic("FlashAttention", FLASH, tiled.hbm_bytes),
        Figure(
            of="standard attention",
            printed=FLOPS_STANDARD,
            ours=standard.matmul_flops / 1e9,
            unit="GFLOP",
            tolerance=None,
        ),
        Figure(of="FlashAttention", printed=FLOPS_FLASH, ours=tiled.matmul_flops / 1e9, unit="GFLOP", tolerance=None),
    )
    remarks = (
        f"The printed GFLOPs do not follow from the setting. Forward has two products and backward four, each of 2 x "
        f"batch x heads x N x N x head_dim, {standard.matmul_flops / 1e9:.1f} G in all; FlashAttention makes the "
        f"scores once more, {tiled.matmul_flops / 1e9:.1f} G. One sequence alone takes {one.matmul_flops / 1e9:.2f} G, "
        f"so that {FLOPS_STANDARD} is no whole batch, and the printed ratio is {FLOPS_FLASH / FLOPS_STANDARD:.3f}, "
        f"where seven products against six make {tiled.matmul_flops / standard.matmul_flops:.3f}: they are held "
        "against nothing.",
        f"FlashAttention's figure rests on partial outputs in 16 bit. The released kernels keep them in fp32, by which "
        f"the same passes move {released.hbm_bytes / GB:.2f} GB; the paper's algorithms 1 and 4 to the letter, which "
        f"load and store every partial, and o in each pass of backward, move {_algorithms() / GB:.2f} GB. What fits "
        "the cache of an A100 meanwhile, a counter of DRAM does not see. No GPU has confirmed any of it here.",
    )
    sheets = (
        standard.sheet("Standard attention: added mask, dropout"),
        padding.sheet("Standard attention: keys padded"),
        tiled.sheet(f"FlashAttention, {KEYS_AT_ONCE} keys at once"),
    )
    return Outcome(figures=figures, sheets=sheets, remarks=remarks)


def _algorithms() -> int:
    """Bytes of algorithms 1 and 4 at the same tiles, in closed form."""
    shape = tiles.Shape(
        batch=SHAPE.batch,
        queries=SHAPE.length,
        keys=SHAPE.length,
        heads=SHAPE.heads,
        kv_heads=SHAPE.heads,
        head_dim=SHAPE.head_dim,
        value_dim=SHAPE.head_dim,
        mask=tiles.FULL,
    )
    elements = 4 * SHAPE.head_dim * KEYS_AT_ONCE
    return tiles.fa1_forward(shape, elements).l2_to_sm + tiles.fa1_backward(shape, elements).l2_to_sm


def _traffic(of: str, printed: float, ours: int) -> Figure:
    return Figure(of=of, printed=printed, ours=ours / GB, unit="GB", tolerance=share(printed, BAND, WHY))


STUDY = Study(
    key="flash-attention-figure-2",
    title="FlashAttention, figure 2: traffic of GPT-2 medium's attention, forward and backward",
    subject="traffic",
    sources=("flash-attention", "flash-attention-forward", "flash-attention-backward"),
    assumptions=(
        "fp16; softmax in 16 bit, over all of the square; a kernel reads each input once and writes each result once",
        "standard attention: a mask added to the scores, dropout that writes a byte for each probability",
        "the other version: scaled keys, padded keys filled in the scores and in their gradient, no dropout: the "
        "reference of the authors' benchmarks",
        f"FlashAttention: {KEYS_AT_ONCE} keys at once, partial outputs in 16 bit, a log-sum-exp per row in fp32; the "
        "first pass loads no partial output, and of the backward the first alone loads o",
    ),
    compute=compute,
)
