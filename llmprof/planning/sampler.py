"""What vLLM's sampler holds while it draws the next tokens: sorted copies of the logits, or a few of another kind.

Read in the packages vllm 0.19.0 and 0.33.0 (vllm/v1/sample/sampler.py, vllm/v1/sample/ops/topk_topp_sampler.py and
topk_topp_triton.py, vllm/v1/worker/gpu/sample/sampler.py), torch (aten/src/ATen/native/cuda/SortStable.cu at
061531e83b8fc90d193bbd65a247772a4d964ac6) and FlashInfer (flashinfer/sampling.py at
01c897d7075594003c411c0aa5e3befdf0bcae94), all on 2026-11-30. vLLM reserves this for the largest batch when it starts,
whatever requests will ask for (`_dummy_sampler_run` of its model runners).

Of each logit: the head's own value, its copy in fp32, and then one of

- ``sorted`` (all batches in 0.11.0, fewer than 8 rows in 0.19.0): sorted values in fp32 and indices in int64, the
  indices that are sorted along, and what cub keeps beside, a value and an index each. Between 2 and 127 rows torch
  sorts all rows at once, with pairs of int32 in two buffers and a further copy of the values in place of those indices;
- ``in-place`` (0.19.0 from 8 rows on): a row of fp32 for each SM, then probabilities and random numbers in fp32;
- ``fused`` (0.33.0): the logits that top-k leaves and their probabilities, in fp32. Its other way, a row for each SM
  and nothing more, takes less.
"""

from __future__ import annotations

from llmprof.planning.assumptions import VLLM_RULES, VllmVersion

FP32, INT64, INT32_PAIR = 4, 8, 8

SORTED_WHOLE = (FP32 + INT64) + (2 * INT32_PAIR + FP32) + (FP32 + INT32_PAIR)
"""Values and indices; two buffers of pairs and a copy of the values; a value and a pair in cub."""
SORTED_BY_ROW = (FP32 + INT64) + INT64 + (FP32 + INT64)
"""Values and indices; the indices that are sorted along; a value and an index in cub."""
DRAWN = 2 * FP32
"""Probabilities and random numbers, or what top-k leaves and probabilities."""

_SORTED_WHOLE_ROWS = range(2, 128)
_KERNEL_FROM_ROWS = 8


def sampling_bytes(rows: int, vocabulary: int, logit_bytes: int, version: VllmVersion, units: int | None) -> int:
    """The most that is live while up to `rows` rows of logits are sampled.

    `logit_bytes` is the size of a logit as the head makes it. `units` are the SMs of the device; where nobody knows
    them, every row is taken to have a buffer. Fewer rows can need more than more rows do, and an engine may meet any.
    """
    assert rows > 0, rows
    candidates = {1, rows, min(rows, _SORTED_WHOLE_ROWS[-1]), min(rows, _KERNEL_FROM_ROWS - 1)}
    return max(_of_rows(each, vocabulary, logit_bytes, version, units) for each in candidates)


def _of_rows(rows: int, vocabulary: int, logit_bytes: int, version: VllmVersion, units: int | None) -> int:
    # Logits in fp32 are not copied again.
    held = FP32 if logit_bytes == FP32 else logit_bytes + FP32
    sampler = VLLM_RULES[version].sampler
    if sampler == "fused":
        return vocabulary * rows * (held + DRAWN)
    if sampler == "in-place" and rows >= _KERNEL_FROM_ROWS:
        programs = rows if units is None else min(rows, units)
        buffers = 1 << (programs - 1).bit_length()
        buffers = buffers if units is None else min(buffers, units)
        return vocabulary * (rows * (held + DRAWN) + buffers * FP32)
    sorting = SORTED_WHOLE if rows in _SORTED_WHOLE_ROWS else SORTED_BY_ROW
    return vocabulary * rows * (held + sorting)
