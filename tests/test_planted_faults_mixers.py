"""Faults planted in what each half knows of the mixers that keep a state of fixed size.

Each must come back as DIFFERS at the module that it touches, on the smallest model that has what it is planted in.
"""

from __future__ import annotations

from functools import partial

import pytest

from llmprof.ledger import Verdict
from llmprof.measure import flops as measured_flops
from llmprof.predict import (
    channel_mix,
    convolution,
    delta_chunks,
    layer,
    leaves,
    mixer_parts,
    rg_lru,
    rwkv,
    ssd,
    token_shift,
)
from llmprof.predict.deltanet import DeltaNetLowering
from llmprof.predict.mamba1 import Mamba1Lowering
from llmprof.predict.mamba2 import Mamba2Lowering
from llmprof.predict.rg_lru import RgLruLowering
from llmprof.predict.rwkv import Rwkv4Lowering
from llmprof.predict.short_conv import ShortConvLowering
from llmprof.twin import delta_rule, recurrent
from llmprof.twin import ssd as twin_ssd
from llmprof.twin.block import PreNormLayer
from llmprof.twin.channel_mix import ChannelMix, SquaredRelu
from llmprof.twin.convolution import CausalConv
from llmprof.twin.gates import GroupedNorm
from llmprof.twin.mamba1 import SelectiveScan
from llmprof.twin.rg_lru import RgLruScan
from llmprof.twin.rwkv import WkvScan
from llmprof.twin.short_conv import ShortConv
from llmprof.twin.token_shift import TokenShift
from tests.modern import modern
from tests.planting import Fault, check

CORE, STATE, TAIL = "attn.core", "attn.core.state", "attn.conv.state"

mamba_1 = partial(Fault, spec=modern("mamba-1"))
mamba_2 = partial(Fault, spec=modern("mamba-2"))
delta = partial(Fault, spec=modern("gated-deltanet"))
rwkv_4 = partial(Fault, spec=modern("rwkv-4"))

PREDICTED = [
    # --- mamba-1
    mamba_1("mamba-1: a step too few", Mamba1Lowering._scan, "tape.rounds(side.tokens)", "tape.rounds(side.tokens - 1)",
            "matmul_flops", CORE),
    mamba_1("mamba-1: a state that is not decayed", Mamba1Lowering._scan, 'state = update(tape, "mul", state, decay, renew=renew)', "pass",
            "hbm_bytes", CORE, phase="decode"),
    Fault("mamba-1: no norm of the step sizes", Mamba1Lowering.leaves, '"rank", spec.dt_rank)', '"rank", 1)',
          "params", "attn.dt_norm", spec=modern("mamba-1-norms")),
    # --- mamba-2
    mamba_2("mamba-2: B and C of every head", Mamba2Lowering._channels.fget, "self.spec.n_groups", "self.spec.n_heads",  # type: ignore[attr-defined]
            "recurrent_state_bytes", TAIL),
    mamba_2("mamba-2: groups that are treated as heads", ssd._chunked, 'tape.contract(c, b, "b chunks groups i j", kind="bmm")',
            'tape.contract(_per_head(tape, spec, c), _per_head(tape, spec, b), "b chunks heads i j", kind="bmm")',
            "matmul_flops", CORE),
    mamba_2("mamba-2: a state that a chunk does not add to", ssd._states, 'state = update(tape, "add", state, sums.sliced("chunks", 1, "one"), renew=trains(side))', "pass",
            "hbm_bytes", CORE),
    Fault("mamba-2: one norm over all groups", Mamba2Lowering._norm, "parts=self.spec.norm_groups, part=inner // self.spec.norm_groups", "parts=1, part=inner",
          "hbm_bytes", "attn.norm", spec=modern("mamba-2-groups")),
    # --- gated-deltanet
    delta("gated-deltanet: a solve that takes the diagonal too", delta_chunks._solve, "size * (size - 1) // 2", "size * (size + 1) // 2",
          "matmul_flops", CORE),
    Fault("gated-deltanet: keys of every head are repeated", DeltaNetLowering._repeated, "x.seen_as(**axes) if self.spec.n_heads == self.spec.n_key_heads else ", "",
          "hbm_bytes", CORE, spec=modern("gated-deltanet-plain")),
    delta("gated-deltanet: a state in the dtype of activations", mixer_parts.kept_state, "FP32", "side.setting.activations",
          "recurrent_state_bytes", STATE),
    # --- the convolution
    mamba_2("convolution: positions beyond the last token", convolution.convolve, "{**turned.axes, ", '{**turned.axes, row: long["reach"], ',
            "matmul_flops", "attn.conv"),
    Fault("convolution: as many columns kept as it has taps", convolution.kept_inputs, '"before": taps - 1', '"before": taps',
          "recurrent_state_bytes", TAIL, spec=modern("short-conv")),
    Fault("convolution: nothing is kept", convolution.convolve, "tape.copy(z.sliced(", "(z.sliced(",
          "hbm_bytes", "attn.conv", spec=modern("short-conv")),
    Fault("short-conv: no gate before it", ShortConvLowering.attend, 'u = tape.run("mul", b, u)', "pass",
          "hbm_bytes", "attn.pre_gate", spec=modern("short-conv")),
    # --- rg-lru
    Fault("rg-lru: one decay for all", RgLruLowering.leaves, 'Parameter("decay", self._state)', 'Parameter("decay", {"inner": 1})',
          "params", CORE, spec=modern("rg-lru")),
    Fault("rg-lru: blocks of rows are not laid out", RgLruLowering._laid, "if one_row or self.spec.n_blocks == 1", "if True",
          "hbm_bytes", CORE, spec=modern("rg-lru")),
    Fault("rg-lru: no bias of the gates", rg_lru._sigmoid_of, 'tape.run("add", gate, bias)', "gate",
          "hbm_bytes", CORE, spec=modern("rg-lru-one-block")),
    # --- rwkv-4
    rwkv_4("rwkv-4: the last input in fp32", mixer_parts.kept_rows, "side.setting.activations", "FP32",
           "recurrent_state_bytes", "attn.shift.state"),
    rwkv_4("rwkv-4: a state without its maximum", Rwkv4Lowering.kept, '"parts": 3', '"parts": 2',
           "recurrent_state_bytes", STATE),
    rwkv_4("rwkv-4: a maximum that is not kept", rwkv._scan, "tape.copy(x, top)", "pass",
           "hbm_bytes", CORE, phase="decode"),
    rwkv_4("rwkv-4: every token is the first", token_shift._previous, "if state is None or not has_past(side)", "if True",
           "hbm_bytes", "attn.shift", past=9),
    # --- its feed-forward
    Fault("channel-mix: no square", channel_mix.channel_mix, 'k = tape.run("mul", k, k)', "pass",
          "hbm_bytes", "ffn.act", spec=modern("channel-mix")),
    Fault("channel-mix: a receptance as wide as the inside", channel_mix.channel_mix_leaves, 'matrix("d_out", d, "d", d', 'matrix("d_out", spec.d_ff, "d", d',
          "params", "ffn.receptance", spec=modern("channel-mix")),
    # --- a layer without attention
    Fault("none: the feed-forward reads what has no norm", layer._serial, 'norm("norm", x) if norm_before(layer, name) else x', "x",
          "hbm_bytes", "ffn_norm", spec=modern("no-attention")),
    Fault("none: a norm all the same", leaves.layer_leaves, "[] if isinstance(layer.attention, NoAttention) else ", "",
          "params", "attn_norm", spec=modern("no-attention"), verdict=Verdict.UNMEASURED),
]  # fmt: skip

MEASURED = [
    # --- mamba-1
    mamba_1("mamba-1: a step too few", SelectiveScan.forward, "for i in range(t)", "for i in range(1, t)",
            "matmul_flops", CORE),
    mamba_1("mamba-1: a state that is not decayed", SelectiveScan.forward, "state = state * g if carried is None else state.mul_(g)", "pass",
            "hbm_bytes", CORE, phase="decode"),
    # --- mamba-2
    mamba_2("mamba-2: groups that are treated as heads", twin_ssd.chunked,
            "torch.bmm(c.flatten(0, 2), b.flatten(0, 2).transpose(1, 2)).view(batch, m, groups, 1, chunk, chunk)",
            "torch.bmm(repeated(c, 2, heads // groups).flatten(0, 2), repeated(b, 2, heads // groups).flatten(0, 2).transpose(1, 2)).view(batch, m, groups, -1, chunk, chunk)",
            "matmul_flops", CORE),
    mamba_2("mamba-2: a state that a chunk does not add to", twin_ssd._states_before, "state.add_(made[:, j])", "pass",
            "hbm_bytes", CORE),
    Fault("mamba-2: one norm over all groups", GroupedNorm.forward, "apart(y * F.silu(z), -1, self.groups, -1)", "apart(y * F.silu(z), -1, 1, -1)",
          "hbm_bytes", "attn.norm", spec=modern("mamba-2-groups")),
    # --- gated-deltanet
    delta("gated-deltanet: a solve that takes the diagonal too", measured_flops._triangular_solve, "rows * (rows - 1)", "rows * (rows + 1)",
          "matmul_flops", CORE),
    delta("gated-deltanet: a square that is not cut", delta_rule.chunked, 'below = over(below, "tril", -1)', "pass",
          "hbm_bytes", CORE),
    delta("gated-deltanet: a state that forgets nothing", delta_rule.recurrent, "state = state * d if carried is None else state.mul_(d)", "pass",
          "hbm_bytes", CORE, phase="decode"),
    # --- the convolution
    mamba_2("convolution: positions beyond the last token", CausalConv.forward, "F.conv1d(inputs, weight, bias, groups=self.channels)",
            "F.conv1d(inputs[..., self.before :], weight, bias, padding=self.before, groups=self.channels)[..., :t]",
            "matmul_flops", "attn.conv"),
    Fault("convolution: as many columns kept as it has taps", CausalConv.tail, "self.channels, self.before)", "self.channels, self.before + 1)",
          "recurrent_state_bytes", TAIL, spec=modern("short-conv"),
          also=((CausalConv.forward, "inputs.narrow(-1, t, self.before)", "inputs.narrow(-1, t - 1, self.before + 1)"),)),
    Fault("convolution: nothing is kept", CausalConv.forward, "tail.values.copy_(inputs.narrow(-1, t, self.before))", "pass",
          "hbm_bytes", "attn.conv", spec=modern("short-conv")),
    Fault("short-conv: no gate before it", ShortConv.forward, "u = self.pre_gate(b, u)", "pass",
          "hbm_bytes", "attn.pre_gate", spec=modern("short-conv")),
    # --- rg-lru
    Fault("rg-lru: one matrix for both gates", RgLruScan.__init__, "self.decay_weight = material.parameter(blocks, side, side)", "self.decay_weight = self.input_weight",
          "params", CORE, spec=modern("rg-lru")),
    Fault("rg-lru: blocks of rows are not laid out", RgLruScan.forward, "x = x.clone(memory_format=torch.contiguous_format)", "pass",
          "hbm_bytes", CORE, spec=modern("rg-lru")),
    Fault("rg-lru: a state in the dtype of activations", recurrent.core_state, "dtype=torch.float32", "dtype=None",
          "recurrent_state_bytes", STATE, spec=modern("rg-lru")),
    # --- rwkv-4
    rwkv_4("rwkv-4: the last input in fp32", TokenShift.last, "desk.batch, d_model)", "desk.batch, d_model, dtype=torch.float32)",
           "recurrent_state_bytes", "attn.shift.state"),
    rwkv_4("rwkv-4: a numerator that is not decayed", WkvScan.forward, 'num = over(num, "mul", a)', "pass",
           "hbm_bytes", CORE, phase="decode"),
    rwkv_4("rwkv-4: a maximum that is not kept", WkvScan.forward, "top = x if carried is None else top.copy_(x)", "pass",
           "hbm_bytes", CORE, phase="decode"),
    rwkv_4("rwkv-4: every token is the first", TokenShift.forward, "if last is None or not last.past", "if True",
           "hbm_bytes", "attn.shift", past=9),
    # --- its feed-forward
    Fault("channel-mix: no square", SquaredRelu.forward, "return positive * positive", "return positive",
          "hbm_bytes", "ffn.act", spec=modern("channel-mix")),
    Fault("channel-mix: a shift of three", ChannelMix.__init__, 'TokenShift(("k", "r"), ', 'TokenShift(("k", "v", "r"), ',
          "params", "ffn.shift", spec=modern("channel-mix"), also=((ChannelMix.forward, "k, r = self.shift", "k, _, r = self.shift"),)),
    # --- a layer without attention
    Fault("none: the feed-forward reads what has no norm", PreNormLayer.through, "self.ffn(_behind(self.ffn_norm, x), run)", "self.ffn(x, run)",
          "hbm_bytes", "ffn_norm", spec=modern("no-attention")),
    Fault("none: nothing is added to", PreNormLayer.through, "x = self.ffn_residual(x, _behind(self.ffn_dropout, self.ffn(_behind(self.ffn_norm, x), run)))", "x = self.ffn(_behind(self.ffn_norm, x), run)",
          "hbm_bytes", "ffn_residual", spec=modern("no-attention")),
]  # fmt: skip


@pytest.mark.parametrize("fault", PREDICTED, ids=lambda f: f"predicted: {f.name}")
def test_a_fault_in_the_prediction_differs(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize("fault", MEASURED, ids=lambda f: f"measured: {f.name}")
def test_a_fault_in_the_measurement_differs(fault: Fault) -> None:
    check(fault)
