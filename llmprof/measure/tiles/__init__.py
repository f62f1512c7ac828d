"""Walks the tiles of attention kernels, as docs/reference-tiles.md says what they do, through memories that count.

Each file is one algorithm. It moves every tile by itself, computes the attention in float64 where it is given values,
and so must return both the right answer and the bytes. The closed forms of the same counts are written elsewhere, from
the same page; no code is shared.
"""
