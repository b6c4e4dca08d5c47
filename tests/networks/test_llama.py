import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_regimes.networks import LLAMA_PRESETS, Llama, LlamaConfiguration
from lightning_regimes.networks.llama import Attention, RMSNorm
from lightning_regimes.networks.rotary_embedding import rotary_angles, rotate

SMALL = LlamaConfiguration(hidden_size=24, num_layers=3, num_heads=3, intermediate_size=40, vocab_size=50)


def network(configuration=SMALL, *, seed=0, **options):
    torch.manual_seed(seed)
    return Llama(configuration, **options)


def tokens(batch=2, length=9, vocab_size=50):
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))


def loss(model, ids):
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


@pytest.mark.parametrize(
    ("name", "millions", "tied_millions"),
    [("20M", 19.5, 11.4), ("60M", 58.1, 41.7), ("135M", 134.1, 109.5), ("350M", 368.0, 335.2), ("1B", 1339.1, 1273.5)],
)
def test_presets_have_the_published_sizes(name, millions, tied_millions):
    configuration = LLAMA_PRESETS[name]
    tied = dataclasses.replace(configuration, tie_embeddings=True)
    assert configuration.num_parameters / 1e6 == pytest.approx(millions, abs=0.05)
    assert tied.num_parameters / 1e6 == pytest.approx(tied_millions, abs=0.05)
    with torch.device("meta"):
        assert Llama(name).num_parameters == configuration.num_parameters
        assert Llama(tied).num_parameters == tied.num_parameters


def test_grouped_heads_are_counted():
    grouped = dataclasses.replace(SMALL, num_key_value_heads=1)
    assert Llama(grouped).num_parameters == grouped.num_parameters < SMALL.num_parameters


def test_rms_norm_is_its_formula():
    norm = RMSNorm(6, eps=1e-3).double()
    torch.nn.init.normal_(norm.weight)
    hidden = torch.randn(4, 6, dtype=torch.float64)
    expected = norm.weight * hidden / (hidden.square().sum(-1, keepdim=True) / 6 + 1e-3).sqrt()
    torch.testing.assert_close(norm(hidden), expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("num_key_value_heads", [None, 1])
def test_attention_is_an_explicit_loop_over_positions_and_complex_rotations(num_key_value_heads):
    torch.manual_seed(0)
    configuration = dataclasses.replace(SMALL, num_key_value_heads=num_key_value_heads)
    attention = Attention(configuration).double()
    hidden = torch.randn(2, 7, 24, dtype=torch.float64)
    cosine, sine = rotary_angles(7, 8, dtype=torch.float64)
    expected = torch.empty_like(hidden)
    attention.requires_grad_(False)
    shared = num_key_value_heads or 3
    for b in range(2):
        query = (hidden[b] @ attention.query.weight.T).view(7, 3, 8)
        key = (hidden[b] @ attention.key.weight.T).view(7, shared, 8)
        value = (hidden[b] @ attention.value.weight.T).view(7, shared, 8)
        for t in range(7):
            heads = []
            for h in range(3):
                group = h * shared // 3
                rotated = _turned(query[t, h], t)
                scores = [float(rotated @ _turned(key[s, group], s)) / math.sqrt(8) for s in range(t + 1)]
                weights = [math.exp(score) for score in scores]
                heads.append(sum(w * value[s, group] for s, w in enumerate(weights)) / sum(weights))
            expected[b, t] = attention.output.weight @ torch.cat(heads)
    torch.testing.assert_close(attention(hidden, cosine, sine), expected, atol=1e-13, rtol=0)


def _turned(head, position):
    # Entries i and i + d/2 as a complex number, times exp(i · position · 10000^(−2i/d)).
    half = len(head) // 2
    number = torch.complex(head[:half], head[half:])
    frequencies = torch.tensor([10000.0 ** (-2 * i / len(head)) for i in range(half)], dtype=torch.float64)
    turned = number * torch.exp(1j * position * frequencies)
    return torch.cat([turned.real, turned.imag])


def test_rotated_products_depend_on_the_distance_only():
    cosine, sine = rotary_angles(50, 16, dtype=torch.float64)
    query, key = torch.randn(2, 16, dtype=torch.float64)
    queries, keys = rotate(query.expand(50, 16), cosine, sine), rotate(key.expand(50, 16), cosine, sine)
    products = queries @ keys.T
    for distance in (0, 3, 20):
        diagonal = products.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-12, rtol=0)


def test_a_later_token_leaves_earlier_logits_as_they_are_to_the_last_bit():
    model, ids = network(), tokens()
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 50
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.equal(before[:, 6], after[:, 6])


def test_the_first_loss_is_that_of_a_uniform_guess():
    model = network(dataclasses.replace(SMALL, hidden_size=96))
    assert loss(model, tokens(8, 40)).item() == pytest.approx(math.log(50), abs=0.03)


def test_initial_weights_have_their_standard_deviations():
    model = network(
        LlamaConfiguration(hidden_size=256, num_layers=8, num_heads=4, intermediate_size=300, vocab_size=300)
    )
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(parameter, torch.ones_like(parameter))
            continue
        residual = "attention.output" in name or "feed_forward.down" in name
        assert parameter.std().item() == pytest.approx(0.005 if residual else 0.02, rel=0.02), name


@pytest.mark.parametrize("tied", [False, True])
def test_hugging_face_weights_load_both_ways_exactly(tied):
    configuration = dataclasses.replace(SMALL, tie_embeddings=tied)
    first, second = network(configuration, seed=0), network(configuration, seed=1)
    theirs = first.hugging_face_state_dict()
    assert "model.layers.2.self_attn.q_proj.weight" in theirs
    theirs["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    if tied:
        del theirs["lm_head.weight"]
    second.load_hugging_face_state_dict(theirs)
    for name, parameter in first.state_dict().items():
        assert torch.equal(parameter, second.state_dict()[name]), name
    assert (second.lm_head.weight is second.embed_tokens.weight) == tied
    assert LlamaConfiguration.from_hugging_face(configuration.to_hugging_face()) == dataclasses.replace(
        configuration, num_key_value_heads=3
    )


def test_weights_that_do_not_fit_are_named():
    theirs = network().hugging_face_state_dict()
    larger = network(dataclasses.replace(SMALL, vocab_size=60))
    with pytest.raises(ValueError, match="vocabulary of 50 tokens, and the network one of 60"):
        larger.load_hugging_face_state_dict(theirs)
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.up_proj\.weight"):
        network().load_hugging_face_state_dict({k: v for k, v in theirs.items() if "0.mlp.up" not in k})
    with pytest.raises(ValueError, match="unknown score"):
        network().load_hugging_face_state_dict({**theirs, "score": torch.ones(1)})
    with pytest.raises(ValueError, match=r"blocks.*unknown model\.layers\.2"):
        network(dataclasses.replace(SMALL, num_layers=2)).load_hugging_face_state_dict(theirs)
    with pytest.raises(ValueError, match="has shape"):
        network(dataclasses.replace(SMALL, intermediate_size=44)).load_hugging_face_state_dict(theirs)
    with pytest.raises(ValueError, match="output head of its own"):
        network(dataclasses.replace(SMALL, tie_embeddings=True)).load_hugging_face_state_dict(theirs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}}, "rope_type"),
        ({"head_dim": 12}, "head_dim"),
    ],
)
def test_checkpoints_of_other_networks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LlamaConfiguration.from_hugging_face({**SMALL.to_hugging_face(), **changes})
    with pytest.raises(ValueError, match="vocab_size"):
        LlamaConfiguration.from_hugging_face({k: v for k, v in SMALL.to_hugging_face().items() if k != "vocab_size"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 25}, "`hidden_size`"),
        ({"num_layers": 0}, "`num_layers`"),
        ({"num_key_value_heads": 2}, "`num_key_value_heads`"),
        ({"norm_eps": 0.0}, "`norm_eps`"),
    ],
)
def test_unusable_sizes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **options)


def test_an_unknown_preset_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="'7B'; presets are 20M, 60M, 135M, 350M, 1B"):
        Llama("7B")


def test_activation_checkpointing_gives_the_same_gradients():
    plain, saving = network(), network(activation_checkpointing=True)
    kept = []
    for model in (plain, saving):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            value = loss(model, tokens())
        value.backward()
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]
    for ours, theirs in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_second_derivatives_by_two_ways_agree_with_differences(activation_checkpointing):
    model = network(activation_checkpointing=activation_checkpointing).double().eval()
    ids = tokens()
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    generator = torch.Generator().manual_seed(2)
    vector = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in parameters.items()}

    def functional_loss(values):
        logits = torch.func.functional_call(model, values, (ids[:, :-1],))
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    gradient = torch.func.grad(functional_loss)
    with sdpa_kernel(SDPBackend.MATH):
        _, forward = torch.func.jvp(gradient, (parameters,), (vector,))
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        first = torch.autograd.grad(functional_loss(leaves), list(leaves.values()), create_graph=True)
        dot = sum((g * v).sum() for g, v in zip(first, vector.values(), strict=True))
        reverse = dict(zip(leaves, torch.autograd.grad(dot, list(leaves.values())), strict=True))
        shifted = [gradient({n: p + h * vector[n] for n, p in parameters.items()}) for h in (1e-5, -1e-5)]
    for name in parameters:
        difference = (shifted[0][name] - shifted[1][name]) / 2e-5
        torch.testing.assert_close(forward[name], reverse[name], atol=1e-10, rtol=1e-8)
        torch.testing.assert_close(forward[name], difference, atol=1e-5, rtol=1e-4)


@pytest.mark.peer
@pytest.mark.parametrize("num_key_value_heads", [None, 2])
@pytest.mark.parametrize("tied", [False, True])
def test_logits_are_those_of_transformers(num_key_value_heads, tied):
    transformers = pytest.importorskip("transformers")
    configuration = LlamaConfiguration(
        hidden_size=128,
        num_layers=4,
        num_heads=4,
        intermediate_size=344,
        vocab_size=500,
        num_key_value_heads=num_key_value_heads,
        tie_embeddings=tied,
    )
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**configuration.to_hugging_face())).eval()
    ours = network(configuration).eval()
    # Larger than the initial weights, so that attention is far from uniform.
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5)
    theirs.load_state_dict(ours.hugging_face_state_dict())
    again = network(configuration, seed=1).eval()
    again.load_hugging_face_state_dict(theirs.state_dict())
    assert LlamaConfiguration.from_hugging_face(theirs.config.to_dict()).num_parameters == ours.num_parameters
    ids = tokens(3, 200, 500)
    with torch.no_grad():
        expected, found = theirs(ids).logits, again(ids)
    print(f"largest difference {float((found - expected).abs().max()):.2g} of {float(expected.abs().max()):.3g}")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
