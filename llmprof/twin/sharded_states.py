"""Mixers with states on tensor-parallel ranks: each has some heads, and the channels that belong to them.

Axis legend: D d_model, H heads, Hk key heads, a width of a key, c width of a value, E channels, G groups, n width of a
state's row. docs/reference-sharding.md, section 3; the slices are those of docs/reference-mixers.md, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from llmprof.twin.convolution import CausalConv
from llmprof.twin.deltanet import GatedDeltaNet
from llmprof.twin.mamba2 import Mamba2
from llmprof.twin.sharded_parts import keep_columns, own_tensors, part, put


def keep_own_heads(mixer: GatedDeltaNet | Mamba2, mesh: DeviceMesh) -> None:
    """Leave `mixer` what this rank of `mesh` has of it, all but `out_proj`."""
    rank, ranks = mesh.get_local_rank(), mesh.size()
    if isinstance(mixer, GatedDeltaNet):
        _delta(mixer, rank, ranks)
    else:
        _mamba(mixer, rank, ranks)
    keep_columns(mixer.core, rank, ranks)


def _delta(mixer: GatedDeltaNet, rank: int, ranks: int) -> None:
    spec = mixer.spec
    keys, values = spec.n_key_heads * spec.key_dim, spec.n_heads * spec.value_dim
    _keep_slices(mixer.in_proj, (keys, keys, values, values), rank, ranks)
    _keep_slices(mixer.gates_proj, (spec.n_heads, spec.n_heads), rank, ranks)
    mixer.convolved = _keep_channels(mixer.conv, (keys, keys, values), rank, ranks)
    sizes = mixer.core.sizes
    mixer.core.sizes = replace(sizes, heads=sizes.heads // ranks, key_heads=sizes.key_heads // ranks)
    mixer.spec = replace(spec, n_heads=spec.n_heads // ranks, n_key_heads=spec.n_key_heads // ranks)


def _mamba(mixer: Mamba2, rank: int, ranks: int) -> None:
    spec = mixer.spec
    channels, rows = spec.d_inner, spec.n_groups * spec.d_state
    _keep_slices(mixer.in_proj, (channels, channels, rows, rows, spec.n_heads), rank, ranks)
    mixer.convolved = _keep_channels(mixer.conv, (channels, rows, rows), rank, ranks)
    sizes = mixer.core.sizes
    mixer.core.sizes = replace(sizes, heads=sizes.heads // ranks, groups=sizes.groups // ranks)
    if mixer.norm is not None:
        keep_columns(mixer.norm, rank, ranks)
        mixer.norm.groups //= ranks
    mixer.spec = replace(
        spec,
        n_heads=spec.n_heads // ranks,
        n_groups=spec.n_groups // ranks,
        norm_groups=spec.norm_groups // ranks,
    )


def _keep_channels(conv: CausalConv, sizes: Sequence[int], rank: int, ranks: int) -> int:
    """Leave `conv` the channels of a rank, of slices of these sizes: how many they are."""
    _keep_slices(conv, sizes, rank, ranks)
    conv.channels = sum(sizes) // ranks
    return conv.channels


def _keep_slices(leaf: nn.Module, sizes: Sequence[int], rank: int, ranks: int) -> None:
    """Leave `leaf` a rank's part of each slice of its outputs, which have these sizes."""
    for name, whole in own_tensors(leaf):
        if whole.dim():  # all but the one scale of fp8
            put(
                leaf, name, torch.cat([part(each, 0, rank, ranks) for each in torch.split(whole.detach(), list(sizes))])
            )
