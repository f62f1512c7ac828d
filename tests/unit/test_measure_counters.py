"""The counters on single ops: each rule of reference-execution.md, section 2, with the arithmetic beside the integer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload

from llmprof.measure import bytes as byte_counter
from llmprof.measure.bytes import ByteCounter, unique_bytes
from llmprof.measure.flops import FlopCounter
from llmprof.measure.live import LiveBytes
from llmprof.measure.ops import Kind, UnknownOp
from llmprof.measure.trace import Launch, StrayKernel, tracing
from llmprof.twin.leaf import Leaf

aten = torch.ops.aten
DEVICES = ["meta", "cpu"]


class OneLeaf(nn.Module):
    """A model of a single leaf, "leaf", that does whatever a test wants to see counted."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self.leaf = _Work(work)

    @property
    def leaves(self) -> list[tuple[str, Leaf]]:
        return [("leaf", self.leaf)]


class _Work(Leaf):
    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self.work = work

    def forward(self) -> None:
        self.work()


class Listing:
    """The ops that were seen."""

    def __init__(self) -> None:
        self.launches: list[tuple[str, OpOverload, Kind]] = []

    def observe(self, launch: Launch) -> None:
        self.launches.append((launch.path, launch.op, launch.kind))


def count(work: Callable[[], object]) -> tuple[int, int]:
    """(bytes, FLOPs) of what `work` dispatches."""
    traffic, flops = ByteCounter(), FlopCounter()
    model = OneLeaf(work)
    with torch.no_grad(), tracing(model, [traffic, flops]):  # type: ignore[arg-type]
        model.leaf()
    return traffic.by_path["leaf"], flops.by_path["leaf"]


def bf16(*shape: int, device: str) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device=device)


@pytest.mark.parametrize("device", DEVICES)
class TestBytes:
    def test_a_part_of_another_input_is_not_read_again(self, device: str) -> None:
        """It starts where the other does, with its strides, and is no larger; whatever is not so is read."""
        x, y = bf16(3, 4, device=device), bf16(3, 2, device=device)
        assert count(lambda: torch.cat((x, x[:, :2]), 1))[0] == 24 + 36
        assert count(lambda: torch.cat((x[:2], x), 0))[0] == 24 + 40
        assert count(lambda: torch.cat((x, x[:, 2:]), 1))[0] == 24 + 12 + 36  # starts elsewhere
        assert count(lambda: torch.cat((x, y), 1))[0] == 24 + 12 + 36  # another storage
        assert count(lambda: torch.cat((x, x.t()[:3, :3]), 1))[0] == 24 + 18 + 42  # other strides

    def test_marks_and_fills_read_nothing_of_what_they_write(self, device: str) -> None:
        rows = bf16(3, 8, device=device)[:, :5]
        places = torch.zeros(3, 2, dtype=torch.int64, device=device)
        assert count(lambda: rows.fill_(1.0))[0] == 2 * 15
        assert count(lambda: rows.scatter_(1, places, 0.0))[0] == 8 * 6 + 2 * 6
        assert count(lambda: torch.topk(rows, 2))[0] == 2 * 15 + (2 + 8) * 6

    def test_distinct_inputs_are_read_once(self, device: str) -> None:
        x, y = bf16(3, 4, device=device), bf16(3, 4, device=device)
        assert count(lambda: x + y)[0] == 24 + 24 + 24  # 12 values of 2 bytes: two read, one written
        assert count(lambda: x * x)[0] == 24 + 24  # the same tensor twice
        assert count(lambda: x * x.view(12).view(3, 4))[0] == 24 + 24  # the same storage, offset, sizes and strides
        assert count(lambda: x[:2] * x[1:])[0] == 16 + 16 + 16  # other offsets: distinct

    def test_an_expanded_dimension_counts_once(self, device: str) -> None:
        row, x = bf16(1, 4, device=device), bf16(3, 4, device=device)
        assert count(lambda: row.expand(3, 4) + x)[0] == 8 + 24 + 24
        assert count(lambda: row.expand(3, 4).clone())[0] == 8 + 24

    def test_views_and_allocations_are_free(self, device: str) -> None:
        x = bf16(3, 4, device=device)
        views = (
            lambda: x.view(12),
            lambda: x.reshape(4, 3),
            lambda: x.transpose(0, 1),
            lambda: x[:, 1:],
            lambda: x[0],
            lambda: x.narrow(1, 1, 2),
            lambda: x.unsqueeze(0).expand(5, 3, 4),
            lambda: x.split(2, dim=1),
            lambda: torch.empty(100, device=device),
            lambda: torch.empty_like(x),
        )
        for view in views:
            assert count(view) == (0, 0)

    def test_a_reshape_that_copies_is_a_clone(self, device: str) -> None:
        x = bf16(3, 4, device=device)
        assert count(lambda: x.t().reshape(12))[0] == 24 + 24

    def test_in_place_reads_and_writes_itself(self, device: str) -> None:
        x, y = bf16(3, 4, device=device), bf16(4, device=device)
        assert count(lambda: x.tanh_())[0] == 24 + 24
        assert count(lambda: x.div_(3.0).mul_(3.0))[0] == 2 * (24 + 24)
        assert count(lambda: x.add_(y))[0] == 24 + 8 + 24

    def test_copy_converts_and_does_not_read_its_destination(self, device: str) -> None:
        source, target = bf16(3, 4, device=device), torch.empty(3, 4, device=device)
        assert count(lambda: target.copy_(source))[0] == 24 + 48
        assert count(lambda: target[:, :1].copy_(source[:, :1]))[0] == 6 + 12  # 3 rows of one value

    def test_a_gather_reads_indices_and_rows(self, device: str) -> None:
        table, ids = bf16(1000, 4, device=device), torch.zeros(3, dtype=torch.int64, device=device)
        assert count(lambda: F.embedding(ids, table))[0] == 3 * 8 + 24 + 24  # never 1000 rows

    def test_casts_cats_and_scalars(self, device: str) -> None:
        x, y = bf16(3, 4, device=device), bf16(3, 2, device=device)
        assert count(lambda: x.float())[0] == 24 + 48
        assert count(lambda: torch.cat((x, y), dim=1))[0] == 24 + 12 + 36
        assert count(lambda: x * 2.0)[0] == 24 + 24

    def test_a_linear_is_one_kernel(self, device: str) -> None:
        x, w, b = bf16(2, 3, 4, device=device), bf16(5, 4, device=device), bf16(5, device=device)
        flops = 2 * 6 * 4 * 5  # 6 rows, 4 inputs, 5 outputs
        assert count(lambda: F.linear(x, w)) == (48 + 40 + 60, flops)
        assert count(lambda: F.linear(x, w, b)) == (48 + 40 + 10 + 60, flops)
        assert count(lambda: F.linear(x[:, 0], w, b)) == (16 + 40 + 10 + 20, 2 * 2 * 4 * 5)  # strided rows

    def test_batched_products(self, device: str) -> None:
        q, k, mask = bf16(6, 3, 4, device=device), bf16(6, 5, 4, device=device), bf16(3, 8, device=device)[:, :5]
        flops = 6 * 2 * 3 * 4 * 5
        assert count(lambda: torch.bmm(q, k.transpose(1, 2))) == (144 + 240 + 180, flops)
        # The bias is broadcast over 6 and has rows of 8 of which 5 are read: 3 x 5 values.
        assert count(lambda: torch.baddbmm(mask, q, k.transpose(1, 2), alpha=0.5)) == (30 + 144 + 240 + 180, flops)
        one = bf16(1, 5, 4, device=device).expand(6, 5, 4)
        assert count(lambda: torch.bmm(q, one.transpose(1, 2))) == (144 + 40 + 180, flops)

    def test_layer_norm_writes_its_statistics(self, device: str) -> None:
        x, w, b = bf16(3, 4, device=device), bf16(4, device=device), bf16(4, device=device)
        statistics = 2 * 3 * (4 if device == "meta" else 2)  # fp32 as on CUDA, the activation dtype on CPU
        assert count(lambda: F.layer_norm(x, (4,), w, b))[0] == 24 + 8 + 8 + 24 + statistics
        assert count(lambda: F.layer_norm(x, (4,), w))[0] == 24 + 8 + 24 + statistics

    def test_softmax_and_mean(self, device: str) -> None:
        x = torch.empty(3, 4, device=device)
        assert count(lambda: x.softmax(-1))[0] == 48 + 48
        assert count(lambda: x.mean(-1, keepdim=True))[0] == 48 + 12


class TestFusedAttention:
    """B = 2, T = 3, S = 5, H = 4, K = 2, h = 8. Q and the output: 2 x 3 x 4 x 8 x 2 = 384 bytes; k, v: 2 x 2 x 5 x 8 x 2 = 320."""

    flops = 2 * 2 * (2 * 4 * 3 * 5 * 8)

    def test_flash(self) -> None:
        q, k = bf16(2, 4, 3, 8, device="meta"), bf16(2, 2, 5, 8, device="meta")
        v = torch.empty_like(k)
        # Log-sum-exp: 4 x 2 x 4 x 3 = 96 bytes; RNG state: 3 uint64.
        expected = 384 + 2 * 320 + 384 + 96 + 24
        assert count(lambda: aten._scaled_dot_product_flash_attention(q, k, v)) == (expected, self.flops)

    def test_efficient(self) -> None:
        q, k = bf16(2, 4, 3, 8, device="meta"), bf16(2, 4, 5, 8, device="meta")
        v = torch.empty_like(k)
        plain = 384 + 2 * 640 + 384 + 16  # two int64
        assert count(lambda: aten._scaled_dot_product_efficient_attention(q, k, v, None, False)) == (plain, self.flops)
        mask = bf16(3, 8, device="meta")[:, :5].expand(2, 4, 3, 5)
        assert count(lambda: aten._scaled_dot_product_efficient_attention(q, k, v, mask, False)) == (
            plain + 3 * 5 * 2,
            self.flops,
        )

    @pytest.mark.parametrize("device", DEVICES)
    def test_cpu(self, device: str) -> None:
        q, k = bf16(2, 4, 3, 8, device=device), bf16(2, 2, 5, 8, device=device)
        v = torch.empty_like(k)
        expected = 384 + 2 * 320 + 384 + 96
        assert count(lambda: aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)) == (expected, self.flops)

    def test_values_may_be_narrower_than_keys(self) -> None:
        q, k, v = (bf16(1, 2, n, width, device="meta") for n, width in ((3, 16), (5, 16), (5, 8)))
        traced = count(lambda: aten._scaled_dot_product_efficient_attention(q, k, v, None, False))
        assert traced[1] == 2 * 2 * 3 * 5 * 16 + 2 * 2 * 3 * 5 * 8


class TestRefusals:
    def test_an_op_without_a_rule_is_an_error(self) -> None:
        x = torch.ones(3, device="meta")
        with pytest.raises(UnknownOp, match=r"aten\.erfinv\.default was dispatched at 'leaf'"):
            count(lambda: torch.erfinv(x))

    def test_an_out_variant_is_an_error(self) -> None:
        x = torch.ones(3, device="meta")
        with pytest.raises(UnknownOp, match=r"aten\.add\.out"):
            count(lambda: torch.add(x, x, out=torch.empty(3, device="meta")))

    def test_a_decomposed_attention_is_no_kernel(self) -> None:
        """`F.scaled_dot_product_attention` decomposes on meta, and is not to be taken for a fused kernel."""
        q, seen = bf16(1, 2, 3, 8, device="meta"), Listing()
        model = OneLeaf(lambda: F.scaled_dot_product_attention(q, q, q))
        with torch.no_grad(), tracing(model, [seen]):  # type: ignore[arg-type]
            model.leaf()
        kinds = [kind for _, _, kind in seen.launches]
        assert Kind.ATTENTION not in kinds
        assert kinds.count(Kind.CONTRACTION) == 2

    def test_a_kernel_outside_of_every_leaf_is_an_error(self) -> None:
        x = torch.ones(3, device="meta")
        with tracing(OneLeaf(lambda: None), []), pytest.raises(StrayKernel):  # type: ignore[arg-type]
            x + 1

    def test_a_view_outside_of_every_leaf_is_not(self) -> None:
        seen = Listing()
        x = torch.ones(3, device="meta")
        with tracing(OneLeaf(lambda: None), [seen]):  # type: ignore[arg-type]
            x.view(3, 1)
        assert [kind for _, _, kind in seen.launches] == [Kind.VIEW]

    def test_inference_mode_is_an_error(self) -> None:
        with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode"):
            count(lambda: None)

    def test_overlapping_elements_are_an_error(self) -> None:
        windows = torch.empty(10).unfold(0, 4, 1)
        with pytest.raises(ValueError, match="overlap"):
            unique_bytes(windows)

    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (lambda x: x, 24 * 4),
            (lambda x: x.permute(2, 0, 1), 24 * 4),
            (lambda x: x[:, ::2], 16 * 4),
            (lambda x: x[:0], 0),
            (lambda x: x[:, :0].transpose(0, 1), 0),
            (lambda x: x[..., :1].expand(2, 3, 7), 6 * 4),
            (lambda x: x[0, 0, 0], 4),
        ],
    )
    def test_unique_bytes(self, make: Callable[[Tensor], Tensor], expected: int) -> None:
        assert unique_bytes(make(torch.empty(2, 3, 4))) == expected

    def test_unique_bytes_agree_with_addresses(self) -> None:
        """Over random permutations, slices and expansions, against the set of addresses that are really touched."""
        generator = torch.Generator().manual_seed(0)
        base = torch.arange(4 * 5 * 6).view(4, 5, 6)
        for _ in range(200):
            order = torch.randperm(3, generator=generator).tolist()
            lengths = [int(torch.randint(1, n + 1, (), generator=generator)) for n in (4, 5, 6)]
            view = base[: lengths[0], :: lengths[1], -lengths[2] :].permute(order).unsqueeze(1)
            view = view.expand(-1, lengths[0], -1, -1)
            assert unique_bytes(view) == view.unique().numel() * 8


class TestLive:
    @pytest.mark.parametrize("device", DEVICES)
    def test_peak_by_hand(self, device: str) -> None:
        """Sampled at the end of each kernel, its inputs and outputs alive. x, w: 4 bytes x 100."""
        x, w = torch.ones(100, device=device), torch.ones(100, device=device)

        def work() -> None:
            a = x + w  # x 400, a 400: 800 (w is excluded)
            b = a.view(10, 10) * 2  # + b 400: 1200
            del a
            c = torch.cat((b, b))  # x, b, c 800: 1600
            del b
            d = c[:5].clone()  # x, c 800, d 200: 1400; the slice keeps all of c alive
            del c
            d.tanh_()  # x, d: 600

        live = LiveBytes(excluded=[w], constants=[x])
        model = OneLeaf(work)
        with torch.no_grad(), tracing(model, [live]):  # type: ignore[arg-type]
            model.leaf()
        assert live.peak == 1600
        assert live.live == 400  # only the constant is left

    def test_a_view_keeps_its_storage_alive(self) -> None:
        x = torch.ones(100)

        def work() -> None:
            part = (x * 2)[:1]  # 400 bytes live on in a view of 4
            part.mul_(2)  # x, part's storage: 800
            (x * 3).tanh_()  # + 400: 1200

        live = LiveBytes(excluded=[], constants=[x])
        model = OneLeaf(work)
        with torch.no_grad(), tracing(model, [live]):  # type: ignore[arg-type]
            model.leaf()
        assert live.peak == 1200

    def test_a_result_that_nothing_takes_lives_during_its_kernel(self) -> None:
        q = bf16(1, 1, 8, 8, device="meta")  # 128 bytes
        live = LiveBytes(excluded=[], constants=[q])

        def work() -> None:
            out = aten._scaled_dot_product_flash_attention(q, q, q)[0]
            out.clone()

        model = OneLeaf(work)
        with torch.no_grad(), tracing(model, [live]):  # type: ignore[arg-type]
            model.leaf()
        # Kernel: q, out, log-sum-exp 4 x 8, RNG 24 = 312. Clone: q, out and the clone, 384.
        assert live.peak == 384

    def test_a_tensor_from_elsewhere_is_an_error(self) -> None:
        x = torch.ones(3)
        live = LiveBytes(excluded=[], constants=[])
        model = OneLeaf(lambda: x * 2)
        with pytest.raises(RuntimeError, match="no weight, cache or constant"), tracing(model, [live]):  # type: ignore[arg-type]
            model.leaf()


def test_a_planted_miscount_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expectations above would notice a counter that charges an expanded dimension in full."""

    def naive(tensor: Tensor) -> int:
        return tensor.numel() * tensor.element_size()

    monkeypatch.setattr(byte_counter, "unique_bytes", naive)
    with pytest.raises(AssertionError):
        TestBytes().test_an_expanded_dimension_counts_once("meta")
