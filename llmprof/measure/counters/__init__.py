"""The GPU's own counters: what a pass really moved and multiplied, kernel by kernel (docs/counters.md).

Three instruments, each a tier of its own and never mixed: Nsight Compute (``ncu``), which counts each kernel, CUPTI
(``cupti``), which counts each module, and NVML's GPM (``gpm``), which knows how busy the memory of a whole GPU was.
Where none can be had there is a reason and a remedy, and no value.
"""
