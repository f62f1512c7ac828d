"""Figures that papers print, computed again from llmprof's own lists of kernels and tensors. No torch."""
