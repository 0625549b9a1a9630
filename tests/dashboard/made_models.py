"""Model folders and files as the commands leave them, with headers that are right and weights of zeros."""

import json
import struct
from dataclasses import asdict

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.onnx_contract import OnnxContract

SMALL = ModelConfig(
    pattern="M-*-M", vocab_size=320, hidden_size=32, num_heads=2, num_kv_heads=1, feed_forward_size=48, state_size=8,
    ssm_head_dim=16, chunk_size=8, max_context_tokens=96,
)  # fmt: skip
HF = {
    "model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"], "num_hidden_layers": 2, "vocab_size": 320,
    "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "shared_intermediate_size": 48,
    "mamba_d_state": 8, "mamba_d_head": 16, "mamba_n_heads": 4, "mamba_n_groups": 1, "mamba_expand": 2,
    "mamba_chunk_size": 8, "max_position_embeddings": 96, "num_local_experts": 0, "attention_multiplier": 0.25,
    "position_embedding_type": "rope", "rope_theta": 10000.0, "tie_word_embeddings": True,
}  # fmt: skip
INT8 = {
    "default": {"format": "int8", "block_size": 32, "symmetric": True, "double": False, "activations": "float"},
    "parts": {}, "method": "nearest",
}  # fmt: skip
TENSORS = {
    "embedding.weight": ("F32", 40960), "sublayers.0.mixer.in_proj.weight": ("BF16", 2000),
    "sublayers.0.norm.weight": ("F32", 128), "sublayers.1.mixer.down_proj.weight": ("BF16", 3072),
    "sublayers.2.mixer.q_proj.weight": ("BF16", 2048), "final_norm.weight": ("F32", 128),
}  # fmt: skip


def write_weights(folder, tensors=TENSORS):
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (kind, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def make_model(folder, config=SMALL, **more):
    """A model folder of ours; `more` goes into config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format_version": 1, "model_type": "mamba_slm", "model": asdict(config), **more}
    (folder / "config.json").write_text(json.dumps(content))
    write_weights(folder)
    return folder


def make_quantized(folder, origin: object = "elsewhere"):
    make_model(folder, quantization=INT8)
    report = {
        "format_version": 1, "model": str(origin), "to": "int8, blocks of 32", "method": "nearest",
        "measured_on": "a text", "size": {"file_ratio": 0.536, "bits_per_weight": 8.5},
        "quality": {
            "num_tokens": 13148, "mean_kl": 1.3e-05, "argmax_agreement": 0.9967, "perplexity_before": 72.34,
            "perplexity": 72.35, "perplexity_change": 0.0001, "loss_change_error": 0.00005,
        },
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def make_hf(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(HF))
    write_weights(folder)
    (folder / "README.md").write_text(
        "# x\n\n## Verified\n\nlargest difference of a logit 1.1e-05\n\n## Runtimes\n\nno\n"
    )
    return folder


def make_onnx(folder):
    folder.mkdir(parents=True)
    OnnxContract(config=SMALL, weights="int8", files={"fused": "onnx/model.onnx"}, block_size=64).write(folder)
    report = {"weights": "int8", "mean_kl": 1e-4, "perplexity_before": 10.0, "perplexity_after": 10.2, "text": "notes"}
    (folder / "quantization.json").write_text(json.dumps(report))
    return folder


def make_adapter(folder, base):
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf_bytes(**changes):
    """A GGUF file's beginning: two layers, mamba and attention, and a tokenizer that nobody needs to read."""
    p = "granitehybrid"
    keys = {
        "general.architecture": p, "general.file_type": 7, f"{p}.vocab_size": 320, f"{p}.context_length": 96,
        f"{p}.embedding_length": 32, f"{p}.block_count": 2, f"{p}.expert_shared_feed_forward_length": 48,
        f"{p}.attention.head_count": 2, f"{p}.attention.head_count_kv": [0, 1], f"{p}.rope.freq_base": 10000.0,
        f"{p}.rope.scaling.finetuned": True, f"{p}.ssm.conv_kernel": 4, f"{p}.ssm.state_size": 8,
        f"{p}.ssm.group_count": 1, f"{p}.ssm.inner_size": 64, f"{p}.ssm.time_step_rank": 4,
        "tokenizer.ggml.model": "gpt2",
    } | changes  # fmt: skip
    data = b"GGUF" + struct.pack("<IQQ", 3, 24, len(keys))
    for key, value in keys.items():
        data += text(key)
        if isinstance(value, str):
            data += struct.pack("<I", 8) + text(value)
        elif isinstance(value, bool):
            data += struct.pack("<I?", 7, value)
        elif isinstance(value, int):
            data += struct.pack("<II", 4, value)
        elif isinstance(value, float):
            data += struct.pack("<If", 6, value)
        else:
            data += struct.pack("<IIQ", 9, 5, len(value)) + b"".join(struct.pack("<i", each) for each in value)
    return data
