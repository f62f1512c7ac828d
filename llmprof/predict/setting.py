"""One forward pass as numbers and formats: what every lowering asks for.

Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llmprof.predict import masks
from llmprof.predict.formats import Format, cache_format, float_format, matrix_format, plain_format
from llmprof.predict.leaf import Parameter
from llmprof.predict.masks import Sight
from llmprof.predict.tensor import Axes, Home, Tensor, new
from llmprof.spec.arch import ArchSpec, Gqa, Stack
from llmprof.workload import Execution, Workload


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """The formats and the sizes of one pass, and the constants that its kernels take.

    `core` runs fused attention by softmax in another way than `fused.attend` does, which it is called like.
    """

    arch: ArchSpec
    workload: Workload
    execution: Execution
    activations: Format
    weights: Format
    matrices: Format
    cache: Format
    constants: dict[tuple[object, ...], Tensor] = field(default_factory=dict)
    core: Callable[..., Tensor] | None = None

    @property
    def b(self) -> int:
        """Sequences in the batch."""
        return self.workload.batch

    @property
    def fused(self) -> bool:
        """Whether attention cores run as one kernel."""
        return self.execution.attention == "fused"

    @property
    def drops(self) -> bool:
        """Whether values are dropped: in training, where the workload says so."""
        return self.workload.dropout > 0.0

    def stored_format(self, parameter: Parameter) -> Format:
        """The format that a parameter is stored in."""
        return self.matrices if parameter.packable else self.weights

    def constant(self, key: tuple[object, ...], axes: Axes, fmt: Format) -> Tensor:
        """The constant `key`, made on first use: only those that some kernel takes exist (section 4)."""
        made = self.constants.get(key)
        if made is None:
            made = self.constants[key] = new(str(key[-1]), axes, fmt, Home.CONSTANT)
        return made


def setting(arch: ArchSpec, workload: Workload, execution: Execution) -> Setting:
    """The setting of a pass that `check_workload` has accepted."""
    dtypes = workload.dtypes
    return Setting(
        arch=arch,
        workload=workload,
        execution=execution,
        activations=float_format(dtypes.activations),
        weights=plain_format(dtypes),
        matrices=matrix_format(dtypes),
        cache=cache_format(dtypes.kv_cache),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One stack in one pass: which rows go through it, and what they may see.

    `row` is the name of its token axis, ``m`` in the encoder of an encoder-decoder and ``t`` elsewhere;
    `context` is s of a decoder and the stack's own length in an encoder. `cached`: this pass keeps something between
    tokens here, as decoders do in inference and nothing does in training.
    """

    setting: Setting
    stack: Stack
    row: str
    tokens: int
    context: int
    cached: bool
    runs: bool

    @property
    def rows(self) -> dict[str, int]:
        """The axes of this stack's rows, without their width."""
        return {"b": self.setting.b, self.row: self.tokens}

    @property
    def decodes(self) -> bool:
        """Whether this is a decoder stack, whatever the pass: its attention has a causal or a prefix mask."""
        return self.stack.mask != "bidirectional"

    def sight(self, attention: Gqa | None = None) -> Sight:
        """What self-attention sees here through the stack's mask, cut to a window or chunks where it has some."""
        return masks.sight(
            self.stack.mask,
            self.tokens,
            self.context,
            window=None if attention is None else attention.window,
            chunk=None if attention is None else attention.chunk,
            prefix=self.setting.workload.prefix_tokens,
        )

    def cache_rows(self, reach: int | None = None) -> int:
        """C: rows of a self-attention cache (section 9); `reach` is its window or chunk, where it has one."""
        return self.context if reach is None else min(reach, self.context)


def sides(setting: Setting) -> tuple[Side, ...]:
    """The stacks of the pass in the order of the model."""
    w = setting.workload
    main = setting.arch.main
    made = [
        Side(
            setting,
            main,
            row="t",
            tokens=w.new_tokens,
            context=w.context,
            cached=main.mask != "bidirectional" and w.phase != "train",
            runs=True,
        )
    ]
    encoder = setting.arch.encoder
    if encoder is not None:
        m = w.source_tokens
        made.insert(0, Side(setting, encoder, row="m", tokens=m, context=m, cached=False, runs=w.phase != "decode"))
    return tuple(made)
