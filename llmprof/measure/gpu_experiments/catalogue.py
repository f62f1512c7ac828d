"""Every experiment that runs under Nsight Compute, the most telling first."""

from __future__ import annotations

from llmprof.measure.gpu_experiments.attention import LONG_HEAD
from llmprof.measure.gpu_experiments.experiment import Experiment
from llmprof.measure.gpu_experiments.memory import COPIES, PRODUCTS
from llmprof.measure.gpu_experiments.rows import CASTS, NORMS, SOFTMAX

EXPERIMENTS: tuple[Experiment, ...] = (COPIES, SOFTMAX, LONG_HEAD, PRODUCTS, CASTS, NORMS)
