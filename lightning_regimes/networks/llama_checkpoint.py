"""LLaMA weights under Hugging Face's names and this package's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from lightning_regimes.networks.llama_configuration import LlamaConfiguration

_TO_HUGGING_FACE = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}
_FROM_HUGGING_FACE = {theirs: ours for ours, theirs in _TO_HUGGING_FACE.items()}
_OUTSIDE_BLOCKS = {
    "embed_tokens.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
# Tables that older versions stored, and that follow from the configuration.
_ROTARY_TABLE = "rotary_emb.inv_freq"


def to_hugging_face(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors under the names of ``transformers.LlamaForCausalLM``."""
    return {_their_name(name): tensor for name, tensor in state_dict.items()}


def from_hugging_face(state_dict: Mapping[str, Tensor], configuration: LlamaConfiguration) -> dict[str, Tensor]:
    """Return the tensors of a ``transformers.LlamaForCausalLM`` under this package's names.

    Args:
        state_dict: tensors by name; rotary tables are left out, and a tied head may be missing.
        configuration: of the network that will take them.

    Raises:
        ValueError: the vocabulary or another size is not the network's, or a name is missing or unknown.
    """
    inside = {theirs: ours for ours, theirs in _OUTSIDE_BLOCKS.items()}
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state_dict.items():
        block = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        if name in inside:
            renamed[inside[name]] = tensor
        elif block and block[2] in _FROM_HUGGING_FACE and int(block[1]) < configuration.num_layers:
            renamed[f"blocks.{block[1]}.{_FROM_HUGGING_FACE[block[2]]}.weight"] = tensor
        elif not name.endswith(_ROTARY_TABLE):
            unknown.append(name)
    if configuration.tie_embeddings and "embed_tokens.weight" in renamed:
        renamed.setdefault("lm_head.weight", renamed["embed_tokens.weight"])
    _require_vocabulary(renamed, configuration)
    shapes = _shapes(configuration)
    missing = [_their_name(name) for name in shapes if name not in renamed]
    if missing or unknown:
        raise ValueError(
            f"`state_dict` is not that of a LLaMA network with {configuration.num_layers} blocks: "
            f"missing {_some(missing)}; unknown {_some(unknown)}"
        )
    for name, shape in shapes.items():
        if tuple(renamed[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(renamed[name].shape)} in `state_dict`, and the network {shape}")
    return renamed


def _their_name(name: str) -> str:
    if name in _OUTSIDE_BLOCKS:
        return _OUTSIDE_BLOCKS[name]
    _, index, layer = name.removesuffix(".weight").split(".", 2)
    return f"model.layers.{index}.{_TO_HUGGING_FACE[layer]}.weight"


def _require_vocabulary(renamed: Mapping[str, Tensor], configuration: LlamaConfiguration) -> None:
    for name in ("embed_tokens.weight", "lm_head.weight"):
        if name in renamed and renamed[name].shape[0] != configuration.vocab_size:
            raise ValueError(
                f"the checkpoint has a vocabulary of {renamed[name].shape[0]} tokens, and the network one of "
                f"{configuration.vocab_size}; set `vocab_size`"
            )
    if configuration.tie_embeddings and {"embed_tokens.weight", "lm_head.weight"} <= renamed.keys():
        embedding, head = renamed["embed_tokens.weight"], renamed["lm_head.weight"]
        if embedding is not head and not bool((embedding == head).all()):
            raise ValueError("the checkpoint has an output head of its own, and the network's is tied to the embedding")


def _shapes(configuration: LlamaConfiguration) -> dict[str, tuple[int, ...]]:
    width, inner = configuration.hidden_size, configuration.intermediate_size
    shared = (configuration.num_key_value_heads or configuration.num_heads) * configuration.head_size
    block = {
        "attention_norm": (width,),
        "attention.query": (width, width),
        "attention.key": (shared, width),
        "attention.value": (shared, width),
        "attention.output": (width, width),
        "feed_forward_norm": (width,),
        "feed_forward.gate": (inner, width),
        "feed_forward.up": (inner, width),
        "feed_forward.down": (width, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {
        f"blocks.{index}.{layer}.weight": shape
        for index in range(configuration.num_layers)
        for layer, shape in block.items()
    }
    embedding = (configuration.vocab_size, width)
    return shapes | {"embed_tokens.weight": embedding, "final_norm.weight": (width,), "lm_head.weight": embedding}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "none"
