"""Small experiments that only a GPU can decide: a prediction, a measurement, and the hypothesis that they settle.

``python -m llmprof.measure.gpu_experiments`` runs them all and prints one JSON record (docs/measurements/README.md).
"""
