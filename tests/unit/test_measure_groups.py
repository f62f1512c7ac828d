"""The groups of the compiled grouping, as a pass shows them and as inductor counts them, against the arithmetic of
docs/reference-unfused.md, section 4.

B = 2 sequences of T = 6 tokens: N = 12 rows of D = 24, in bf16: 576 bytes each. 4 heads of 8 over 2: q has 768 bytes, k
384; tables of cos and sin `[6, 8]`, 96 bytes each; gate and up have 12 rows of 40, 960 bytes each.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from twin_archs import GQA, MHA, bare, decoder, encoder_decoder, layer, model, stack
from twin_attending import workload

from llmprof.errors import InputError
from llmprof.measure.groups import Group, compiled_groups
from llmprof.measure.inductor import NotCounted, generated
from llmprof.spec.arch import ArchSpec, ChannelMix, Glu, LayerNorm, MlmHead, Mlp, Moe, Residual, RmsNorm, Rope
from llmprof.twin.build import build
from llmprof.twin.session import Session
from llmprof.workload import Dtypes, Execution

X = 576
"""N . D . e"""
ACT = 3 * 960
ROPE = 2 * (768 + 384) + 2 * 2 * 96
RMS, LN = 48, 96
"""Parameters of a norm of 24."""


class Found(dict[str, Group]):
    """The groups by the names of their leaves; what is looked up is counted."""

    def __getitem__(self, name: str) -> int:  # type: ignore[override]
        return super().__getitem__(name).counted.bytes


def found_in(arch: ArchSpec, *, new: int = 6, dtypes: Dtypes = Dtypes(), **more: object) -> Found:  # noqa: B008  # frozen
    """The groups of one pass."""
    load = replace(workload(6, new=new, dtypes=dtypes), **more)  # type: ignore[arg-type]
    session = Session(build(arch, dtypes=dtypes), load, Execution(attention="fused"))
    return Found({" ".join(group.paths).replace("layers.", ""): group for group in compiled_groups(session)})


def groups(arch: ArchSpec) -> dict[str, int]:
    """The bytes of every group."""
    found = found_in(arch)
    return {name: found[name] for name in found}


class TestGroups:
    def test_pre(self) -> None:
        assert groups(decoder(*[layer()] * 2)) == {
            "0.attn_norm": 2 * X + RMS,  # it takes what `embed` gathered
            "0.attn.rope": ROPE,
            "0.attn_residual 0.ffn_norm": 4 * X + RMS,
            "0.ffn.act": ACT,
            "0.ffn_residual 1.attn_norm": 4 * X + RMS,
            "1.attn.rope": ROPE,
            "1.attn_residual 1.ffn_norm": 4 * X + RMS,
            "1.ffn.act": ACT,
            "1.ffn_residual final_norm": 3 * X + RMS,  # nobody else takes the sum
        }

    def test_post(self) -> None:
        found = groups(decoder(bare(placement="post", norm=LayerNorm())))
        assert found == {
            "0.attn_residual 0.attn_norm": 3 * X + LN,
            "0.ffn.act": ACT,
            "0.ffn_residual 0.ffn_norm final_norm": 3 * X + LN + RMS,
        }

    def test_sandwich(self) -> None:
        found = groups(decoder(bare(placement="sandwich")))
        assert found == {
            "0.attn_norm": 2 * X + RMS,
            "0.attn_post_norm 0.attn_residual 0.ffn_norm": 4 * X + 2 * RMS,
            "0.ffn.act": ACT,
            "0.ffn_post_norm 0.ffn_residual final_norm": 3 * X + 2 * RMS,
        }

    def test_reordered(self) -> None:
        found = groups(decoder(bare(placement="reordered")))
        assert found == {
            "0.attn_post_norm 0.attn_residual": 3 * X + RMS,
            "0.ffn.act": ACT,
            "0.ffn_post_norm 0.ffn_residual final_norm": 3 * X + 2 * RMS,
        }

    @pytest.mark.parametrize("norms", [1, 2])
    def test_parallel(self, norms: int) -> None:
        found = groups(decoder(*[bare(block="parallel", parallel_norms=norms)] * 2))
        alone = {"0.ffn_norm": 2 * X + RMS, "1.ffn_norm": 2 * X + RMS} if norms == 2 else {}
        assert found == {
            "0.attn_norm": 2 * X + RMS,
            "0.ffn.act": ACT,
            "0.residual 1.attn_norm": 5 * X + RMS,
            "1.ffn.act": ACT,
            "1.residual final_norm": 4 * X + RMS,
            **alone,
        }

    def test_cross_attention(self) -> None:
        found = found_in(encoder_decoder(bare(), bare(), depth=1), source_tokens=4)
        assert found["decoder.0.attn_residual decoder.0.cross_norm"] == 4 * X + RMS
        assert found["decoder.0.cross_residual decoder.0.ffn_norm"] == 4 * X + RMS
        assert found["encoder.0.ffn_residual encoder.final_norm"] == 3 * (2 * 4 * 24 * 2) + RMS

    def test_an_embedding_norm_and_a_head(self) -> None:
        normed = bare(norm=LayerNorm())
        arch = model(
            stack(normed, mask="bidirectional", embedding_norm=LayerNorm(), final_norm=None),
            structure="encoder",
            head=MlmHead(norm=LayerNorm()),
        )
        found = found_in(arch)
        assert found["embed_norm 0.attn_norm"] == 3 * X + 2 * LN
        assert found["head.act head.norm"] == 2 * X + LN
        assert found["0.ffn_residual"] == 3 * X


class TestHeads:
    @pytest.mark.parametrize(
        ("over", "weights"), [("head", 2 * 8 * 2), ("each-head", (4 + 2) * 8 * 2), ("all-heads", (32 + 16) * 2)]
    )
    def test_norms_before_a_rotation(self, over: str, weights: int) -> None:
        normed = replace(GQA, qk_norm=RmsNorm(), qk_norm_over=over)
        found = found_in(decoder(layer(attention=normed)))
        assert found["0.attn.q_norm 0.attn.k_norm 0.attn.rope"] == ROPE + weights

    def test_a_rotation_of_a_part(self) -> None:
        """r = 4 of 8: whole heads are read and written, tables `[6, 4]`; the norms are alone."""
        found = found_in(
            decoder(layer(attention=replace(GQA, qk_norm=RmsNorm()), position=Rope(theta=1e4, rotary_dim=4)))
        )
        assert found["0.attn.rope"] == 2 * (768 + 384) + 2 * 2 * 48
        assert (found["0.attn.q_norm"], found["0.attn.k_norm"]) == (2 * 768 + 16, 2 * 384 + 16)

    @pytest.mark.parametrize("over", ["head", "each-head", "all-heads"])
    def test_norms_with_a_bias_are_alone(self, over: str) -> None:
        normed = replace(GQA, qk_norm=LayerNorm(), qk_norm_over=over)
        found = found_in(decoder(layer(attention=normed)))
        assert found["0.attn.rope"] == ROPE
        assert "0.attn.q_norm" in found
        without = replace(GQA, qk_norm=LayerNorm(bias=False), qk_norm_over=over)
        assert "0.attn.q_norm 0.attn.k_norm 0.attn.rope" in found_in(decoder(layer(attention=without)))

    @pytest.mark.parametrize("norm", [None, RmsNorm()])
    def test_as_many_keys_as_queries_share_a_kernel(self, norm: RmsNorm | None) -> None:
        """One for q and k, which reads the tables once: 4 x 768 bytes of q and k, 2 x 96 of tables, 2 x 16 of weights."""
        found = found_in(decoder(layer(attention=replace(MHA, qk_norm=norm))))
        rope = 4 * 768 + 2 * 96
        assert found["0.attn.rope" if norm is None else "0.attn.q_norm 0.attn.k_norm 0.attn.rope"] == (
            rope if norm is None else rope + 32
        )

    def test_norms_without_a_rotation(self) -> None:
        found = found_in(decoder(bare(attention=replace(GQA, qk_norm=LayerNorm()))))
        assert (found["0.attn.q_norm"], found["0.attn.k_norm"]) == (2 * 768 + 32, 2 * 384 + 32)

    def test_two_axes(self) -> None:
        assert found_in(decoder(layer(position=Rope(theta=1e4, axes=2))))["0.attn.rope"] == ROPE


class TestLeaves:
    @staticmethod
    def act(ffn: Mlp | Glu, *, operands: int) -> int:
        leaf = build(decoder(layer(ffn=ffn)), dtypes=Dtypes()).get_submodule("layers.0.ffn.act")
        counted = generated(leaf, [torch.empty(2, 6, 40, dtype=torch.bfloat16, device="meta") for _ in range(operands)])
        assert counted.kernels == 1
        return counted.bytes

    @pytest.mark.parametrize("kind", ["relu", "gelu", "gelu-tanh", "swish", "relu2"])
    def test_two_matrices(self, kind: str) -> None:
        beta = {"beta": 1.3} if kind == "swish" else {}
        assert self.act(Mlp(kind=kind, d_ff=40, **beta), operands=1) == 2 * 960  # type: ignore[arg-type]

    @pytest.mark.parametrize("kind", ["glu", "reglu", "geglu", "geglu-tanh", "swiglu", "swiglu-clamped"])
    def test_three_matrices(self, kind: str) -> None:
        limit = {"limit": 3.0, "beta": 1.7} if kind == "swiglu-clamped" else {}
        assert self.act(Glu(kind=kind, d_ff=40, **limit), operands=2) == ACT  # type: ignore[arg-type]

    def test_parameters_in_another_dtype_are_read_as_they_are(self) -> None:
        found = found_in(decoder(layer(norm=LayerNorm())), dtypes=Dtypes(weights="fp32"))
        assert found["0.attn_norm"] == 2 * X + 2 * LN

    def test_scaled_residuals_and_offset_weights(self) -> None:
        found = found_in(decoder(layer(norm=RmsNorm(unit_offset=True), residual=Residual(alpha=1.5, beta=0.5))))
        assert found["0.attn_residual 0.ffn_norm"] == 4 * X + RMS

    def test_decode(self) -> None:
        """N = 2 rows: a sixth of everything that is no parameter."""
        found = found_in(decoder(layer()), new=1, phase="decode")
        assert found["0.attn_residual 0.ffn_norm"] == 4 * X // 6 + RMS
        assert found["0.attn.rope"] == ROPE // 6

    def test_nothing_inside_a_mixture(self) -> None:
        moe = Moe(n_experts=4, top_k=2, expert=Glu(kind="swiglu", d_ff=8), shared=Glu(kind="swiglu", d_ff=8))
        assert not any("ffn." in name for name in found_in(decoder(layer(ffn=moe))))

    def test_not_the_activation_of_a_channel_mix(self) -> None:
        """It keeps what the leaf of two matrices does not: docs/reference-mixers.md has its op list."""
        assert not any("ffn." in name for name in found_in(decoder(layer(ffn=ChannelMix(d_ff=40)))))

    def test_mtp_is_refused(self) -> None:
        class Mtp:
            workload = replace(workload(6), mtp=True)

        with pytest.raises(InputError, match="without the layers that predict further tokens"):
            compiled_groups(Mtp())  # type: ignore[arg-type]


class Product(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(x @ y)


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x, -1)


class TestInductor:
    def test_what_it_calls_is_not_counted(self) -> None:
        x = torch.empty(4, 4, device="meta")
        with pytest.raises(NotCounted, match="calls 1 kernels that it does not generate"):
            generated(Product(), [x, x])

    @pytest.mark.parametrize(("width", "kernels"), [(8192, 1), (8200, None)])
    def test_a_few_long_rows_are_split(self, width: int, kernels: int | None) -> None:
        found = generated(Wide(), [torch.empty(1, width, device="meta")])
        assert (found.kernels == 1) == (kernels == 1)
        assert (found.bytes == 2 * 4 * width) == (kernels == 1)
