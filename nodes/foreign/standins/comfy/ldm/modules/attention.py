"""Attention of queries, keys and values [N, T, heads * d]. The layers of networks are not here."""

from graphflow_nodes.foreign.unet_attention import attention as _attention

__all__ = ["attention_basic", "attention_pytorch", "default", "exists", "optimized_attention"]


def optimized_attention(
    q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **_
):
    if skip_reshape:  # [N, heads, T, d]
        q, k, v = (one.transpose(1, 2).flatten(2) for one in (q, k, v))
    found = _attention(q, k, v, heads, mask)
    return found.unflatten(-1, (heads, -1)).transpose(1, 2) if skip_output_reshape else found


attention_basic = attention_pytorch = attention_sub_quad = attention_split = optimized_attention
optimized_attention_masked = optimized_attention


def optimized_attention_for_device(device, mask=False, small_input=False):
    return optimized_attention


def exists(value):
    return value is not None


def default(value, other):
    return value if value is not None else other() if callable(other) else other
