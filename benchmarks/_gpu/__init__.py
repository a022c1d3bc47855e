"""What ``benchmarks/gpu.py`` checks on an accelerator."""

from _gpu import attached, gradients, leaving, methods, out_of_memory, several, whole

CHECKS = {
    "fp32": methods.fp32,
    "bf16": methods.bf16,
    "fp16": methods.fp16,
    "channels_last": methods.channels_last,
    "compile": methods.compiled,
    "several": several.several,
    "several_bf16": several.several_bf16,
    "leaving": leaving.leaving,
    "leaving_compiled": leaving.leaving_compiled,
    "attached": attached.attached,
    "forks": gradients.forks,
    "nets": gradients.nets,
    "out_of_memory": out_of_memory.out_of_memory,
    "data": whole.data,
    "resume": whole.resume,
    "tools": whole.tools,
    "memory": whole.memory,
}
