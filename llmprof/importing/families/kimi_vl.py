"""Kimi-VL, of Moonshot's own code: the tower of text, ``deepseek_v3`` where it does not say what it is."""

from __future__ import annotations

from llmprof.importing.towers import family_of_towers

# modeling_kimi_vl.py of moonshotai/Kimi-VL-A3B-Instruct (read in public copies, 2026-11-30): the tower is a whole
# DeepseekV3ForCausalLM, made of text_config, whose flag is the one that counts.
FAMILY = family_of_towers("deepseek_v3", tied="tower")
