"""The LLaMA language model, readable from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lightning_regimes.networks.llama_checkpoint import from_hugging_face, to_hugging_face
from lightning_regimes.networks.llama_configuration import LlamaConfiguration, llama_preset
from lightning_regimes.networks.rotary_embedding import rotary_angles, rotate

# Standard deviation of all initial matrices.
_STANDARD_DEVIATION = 0.02


class RMSNorm(nn.Module):
    r"""Root-mean-square normalization :math:`g \odot x / \sqrt{\operatorname{mean}(x^2) + \epsilon}`.

    The mean is taken in float32 at least.

    Args:
        size: length of the last dimension.
        eps: ε.

    References:
        B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019, arXiv:1910.07467, equation 4.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the normalized states, of the same shape."""
        precise = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        normalized = precise * torch.rsqrt(precise.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * normalized.to(hidden.dtype)


class Attention(nn.Module):
    """Causal attention with rotary positions; several query heads may share a key head.

    Args:
        configuration: sizes of the network.
    """

    def __init__(self, configuration: LlamaConfiguration) -> None:
        super().__init__()
        self.num_heads = configuration.num_heads
        self.num_key_value_heads = configuration.num_key_value_heads or configuration.num_heads
        width = configuration.hidden_size
        shared_width = self.num_key_value_heads * configuration.head_size
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, shared_width, bias=False)
        self.value = nn.Linear(width, shared_width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return what each position gathers from those up to it, (B, T, hidden_size)."""
        batch, length, width = hidden.shape
        query = self.query(hidden).view(batch, length, self.num_heads, -1).transpose(1, 2)
        key = self.key(hidden).view(batch, length, self.num_key_value_heads, -1).transpose(1, 2)
        value = self.value(hidden).view(batch, length, self.num_key_value_heads, -1).transpose(1, 2)
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        if self.num_key_value_heads != self.num_heads:
            sharing = self.num_heads // self.num_key_value_heads
            key, value = key.repeat_interleave(sharing, dim=1), value.repeat_interleave(sharing, dim=1)
        gathered = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed: Tensor = self.output(gathered.transpose(1, 2).reshape(batch, length, width))
        return mixed


class SwiGLU(nn.Module):
    r"""The gated network :math:`W_d (\operatorname{silu}(W_g x) \odot W_u x)`.

    Args:
        configuration: sizes of the network.

    References:
        N. Shazeer, "GLU Variants Improve Transformer", 2020, arXiv:2002.05202, equation 6.
    """

    def __init__(self, configuration: LlamaConfiguration) -> None:
        super().__init__()
        self.gate = nn.Linear(configuration.hidden_size, configuration.intermediate_size, bias=False)
        self.up = nn.Linear(configuration.hidden_size, configuration.intermediate_size, bias=False)
        self.down = nn.Linear(configuration.intermediate_size, configuration.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the outputs at each position, (B, T, hidden_size)."""
        outputs: Tensor = self.down(F.silu(self.gate(hidden)) * self.up(hidden))
        return outputs


class Block(nn.Module):
    """Attention and a gated network, each on normalized states and added to what came in.

    Args:
        configuration: sizes of the network.
    """

    def __init__(self, configuration: LlamaConfiguration) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(configuration.hidden_size, configuration.norm_eps)
        self.attention = Attention(configuration)
        self.feed_forward_norm = RMSNorm(configuration.hidden_size, configuration.norm_eps)
        self.feed_forward = SwiGLU(configuration)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return the states after the block, (B, T, hidden_size)."""
        hidden = hidden + self.attention(self.attention_norm(hidden), cosine, sine)
        outputs: Tensor = hidden + self.feed_forward(self.feed_forward_norm(hidden))
        return outputs


class Llama(nn.Module):
    r"""The decoder-only transformer LLaMA: token ids ``(B, T)`` to logits ``(B, T, vocab_size)``.

    Matrices start from :math:`N(0, 0.02^2)`, those that write into the residual stream (the attention's output and the
    gated network's ``down``) from :math:`N(0, 0.02^2 / 2L)` with L blocks, so that the stream's variance doesn't grow
    with depth. Norms start from one. There are no biases and no dropout.

    Args:
        configuration: sizes, or the name of a preset, such as ``"60M"``.
        activation_checkpointing: keep only the states between blocks in training, and evaluate each block again in the
            backward pass: less memory for a third more time. It is of the non-reentrant kind, and off in evaluation.

    Raises:
        ValueError: the preset is unknown.

    References:
        H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, arXiv:2302.13971, section 2.2.
        A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3, for the initial
        scale of residual layers.
    """

    def __init__(
        self, configuration: LlamaConfiguration | str = "60M", *, activation_checkpointing: bool = False
    ) -> None:
        super().__init__()
        if isinstance(configuration, str):
            configuration = llama_preset(configuration)
        self.configuration = configuration
        self.activation_checkpointing = activation_checkpointing
        self.embed_tokens = nn.Embedding(configuration.vocab_size, configuration.hidden_size)
        self.blocks = nn.ModuleList(Block(configuration) for _ in range(configuration.num_layers))
        self.final_norm = RMSNorm(configuration.hidden_size, configuration.norm_eps)
        self.lm_head = nn.Linear(configuration.hidden_size, configuration.vocab_size, bias=False)
        if configuration.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self._initialize()

    @property
    def num_parameters(self) -> int:
        """Number of parameters; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the token after each position, (B, T, vocab_size).

        Args:
            tokens: ids, (B, T), int32 or int64.
        """
        hidden: Tensor = self.embed_tokens(tokens)
        configuration = self.configuration
        cosine, sine = rotary_angles(
            tokens.shape[1],
            configuration.head_size,
            base=configuration.rope_base,
            dtype=hidden.dtype,
            device=hidden.device,
        )
        for block in self.blocks:
            if self.activation_checkpointing and self.training and torch.is_grad_enabled():
                # Nothing in a block is random, hence no state of a generator to keep.
                hidden = checkpoint(block, hidden, cosine, sine, use_reentrant=False, preserve_rng_state=False)
            else:
                hidden = block(hidden, cosine, sine)
        logits: Tensor = self.lm_head(self.final_norm(hidden))
        return logits

    def hugging_face_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under the names that ``transformers.LlamaForCausalLM`` gives them."""
        return to_hugging_face(self.state_dict())

    def load_hugging_face_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the weights of a ``transformers.LlamaForCausalLM``.

        Args:
            state_dict: its tensors by name; rotary tables of older versions are passed over.

        Raises:
            ValueError: the vocabulary or another size is not the network's, or a name is missing or unknown.
        """
        self.load_state_dict(from_hugging_face(state_dict, self.configuration))

    @torch.no_grad()
    def _initialize(self) -> None:
        residual = _STANDARD_DEVIATION / math.sqrt(2 * self.configuration.num_layers)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes_to_stream = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                nn.init.normal_(parameter, std=residual if writes_to_stream else _STANDARD_DEVIATION)
