"""The command lines that would serve a deployment: vLLM, SGLang and TensorRT-LLM (docs/planning.md). No torch."""

from llmprof.planning.deploy.api import command_lines
from llmprof.planning.deploy.line import ENGINES, CommandLine, Engine

__all__ = ["ENGINES", "CommandLine", "Engine", "command_lines"]
