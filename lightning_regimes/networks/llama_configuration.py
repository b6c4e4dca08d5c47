"""Sizes of LLaMA networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LlamaConfiguration:
    """The sizes of a LLaMA network.

    Attributes:
        hidden_size: width of the residual stream.
        num_layers: number of blocks.
        num_heads: query heads in a block.
        intermediate_size: width of the gated network.
        vocab_size: number of token ids.
        num_key_value_heads: key and value heads, which groups of query heads share; by default one for each.
        tie_embeddings: whether the output head is the embedding's matrix.
        rope_base: base of the rotary angles.
        norm_eps: added to the mean square in normalizations.

    Raises:
        ValueError: a size is below 1, the heads do not divide the width into even parts, or the key heads the heads.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    vocab_size: int = 32000
    num_key_value_heads: int | None = None
    tie_embeddings: bool = False
    rope_base: float = 10000.0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size", "vocab_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is at least 1, got {getattr(self, name)}")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"`hidden_size` is a multiple of twice `num_heads`, for rotary positions need heads of even size, got "
                f"{self.hidden_size} and {self.num_heads}"
            )
        shared = self.num_key_value_heads
        if shared is not None and (shared < 1 or self.num_heads % shared):
            raise ValueError(f"`num_key_value_heads` divides `num_heads`, got {shared} and {self.num_heads}")
        for name in ("rope_base", "norm_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` is positive, got {getattr(self, name)}")

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_heads

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the network; a tied matrix counts once."""
        shared_width = (self.num_key_value_heads or self.num_heads) * self.head_size
        attention = 2 * self.hidden_size * (self.hidden_size + shared_width)
        block = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = (1 if self.tie_embeddings else 2) * self.vocab_size * self.hidden_size
        return embeddings + self.num_layers * block + self.hidden_size

    def to_hugging_face(self) -> dict[str, Any]:
        """Return the arguments of ``transformers.LlamaConfig`` that give the same network."""
        return {
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_key_value_heads or self.num_heads,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.tie_embeddings,
            "rms_norm_eps": self.norm_eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_base},
        }

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any]) -> LlamaConfiguration:
        """Return the sizes that a checkpoint's ``config.json`` describes.

        Args:
            config: what is in the file.

        Raises:
            ValueError: an entry is missing, or the network has what this one has not: biases, another activation,
                scaled rotary angles, or heads of their own size.
        """
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        for name, value, wanted in (
            ("hidden_act", config.get("hidden_act", "silu"), "silu"),
            ("attention_bias", config.get("attention_bias") or False, False),
            ("mlp_bias", config.get("mlp_bias") or False, False),
            ("rope_type", kind, "default"),
        ):
            if value != wanted:
                raise ValueError(f"`{name}` of the checkpoint is {value!r}, and only {wanted!r} is implemented")
        try:
            configuration = cls(
                hidden_size=config["hidden_size"],
                num_layers=config["num_hidden_layers"],
                num_heads=config["num_attention_heads"],
                intermediate_size=config["intermediate_size"],
                vocab_size=config["vocab_size"],
                num_key_value_heads=config.get("num_key_value_heads"),
                tie_embeddings=config.get("tie_word_embeddings", False),
                rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
                norm_eps=config.get("rms_norm_eps", 1e-6),
            )
        except KeyError as error:
            raise ValueError(f"`config` has no entry {error}, which a LLaMA network needs") from None
        head_size = config.get("head_dim") or configuration.head_size
        if head_size != configuration.head_size:
            raise ValueError(f"`head_dim` is {configuration.head_size} for these sizes, got {head_size}")
        return configuration


LLAMA_PRESETS: dict[str, LlamaConfiguration] = {
    "20M": LlamaConfiguration(hidden_size=256, num_layers=4, num_heads=4, intermediate_size=688),
    "60M": LlamaConfiguration(hidden_size=512, num_layers=8, num_heads=8, intermediate_size=1376),
    "135M": LlamaConfiguration(hidden_size=768, num_layers=12, num_heads=12, intermediate_size=2048),
    "350M": LlamaConfiguration(hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=2736),
    "1B": LlamaConfiguration(hidden_size=2048, num_layers=24, num_heads=32, intermediate_size=5461),
}
"""Sizes that studies of optimizers pre-train on C4, with 20, 58, 134, 368 and 1339 million parameters untied.

References:
    J. Zhao et al., "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", 2024, arXiv:2403.03507.
"""


def llama_preset(name: str) -> LlamaConfiguration:
    """Return the sizes of a preset.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in LLAMA_PRESETS:
        raise ValueError(f"there is no preset {name!r}; presets are {', '.join(LLAMA_PRESETS)}")
    return LLAMA_PRESETS[name]
