"""The focal loss summed over all anchors, value and gradient in one pass: `focal_terms(…).sum()`, faster."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from focalrepro.hardware import first_order, kernels
from focalrepro.losses import IGNORED, at_least_fp32, focal_terms

INSTEAD = "focalrepro.losses.focal_terms(logits, labels, alpha, gamma).sum()"


def detection_focal_loss(
    logits: Tensor, labels: Tensor, alpha: float | Tensor, gamma: float | Tensor
) -> Tensor:
    """Sum of the focal loss over all anchors and classes (section 4, "Focal loss"), a scalar in fp32.

    logits [..., K] of any float type, labels [...] as in `focal_terms`, which this equals. On the CPU value
    and gradient are made together, in pieces that stay in the cache; on CUDA by the kernels of
    `focal_triton`, where Triton is there. alpha and gamma may be scalar tensors on the logits' device.

    Both have gradients of the first order only: create_graph=True raises RuntimeError. For a second one, take
    `focal_terms(...).sum()`.
    """
    if logits.device.type == "cpu":
        return _FocalSum.apply(logits, labels, float(alpha), float(gamma))
    on_gpu = logits.device.type == "cuda" and logits.dtype != torch.float64
    if on_gpu and (fast := kernels("focalrepro.training.focal_triton")):
        return fast.focal_sum(logits, labels, alpha, gamma)
    return focal_terms(logits, labels, alpha, gamma).sum()


class _FocalSum(torch.autograd.Function):
    """Of a thousand terms 999 are (1 - α) σ(x)^γ softplus(x) and need no label, so the sum is made as if all
    were, in one pass without branches, then mended at the few that are not. A logit in bf16 or fp16 has only
    65,536 possible values, so there that pass looks its terms up in a table."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:  # noqa: ANN001
        classes = logits.shape[-1]
        x, labels = logits.detach().reshape(-1, classes).contiguous(), labels.reshape(-1)
        if x.element_size() == 2:
            total, grad = _looked_up_background(x, alpha, gamma)
        else:
            total, grad = _background(x, gamma)
            total, grad = total * (1 - alpha), grad.mul_(1 - alpha)

        ignored = (labels == IGNORED).nonzero().squeeze(1)
        if len(ignored):
            total -= (1 - alpha) * _background(at_least_fp32(x[ignored]), gamma)[0]
            grad[ignored] = 0
        anchor = (labels >= 0).nonzero().squeeze(1)
        if len(anchor):
            label = labels[anchor].long()
            picked = at_least_fp32(x[anchor, label])
            total -= (1 - alpha) * _background(picked, gamma)[0]
            value, slope = _background(-picked, gamma)  # an object's term is a background's at -x
            total += alpha * value
            grad[anchor, label] = (-alpha * slope).to(grad.dtype)
        ctx.save_for_backward(grad.view(logits.shape))
        return torch.tensor(total, dtype=torch.promote_types(x.dtype, torch.float32))

    @staticmethod
    @first_order(INSTEAD)
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN001
        (grad,) = ctx.saved_tensors
        if upstream != 1:  # a plain sum is handed on as it is: no second copy of the logits' size
            grad = grad * upstream.to(grad.dtype)
        return grad, None, None, None


PIECE = 1 << 15  # elements: five fp32 buffers of it fit a core's second-level cache


@lru_cache(maxsize=8)
def _tables(dtype: torch.dtype, alpha: float, gamma: float) -> tuple[Tensor, Tensor]:
    """The background's weighted term in fp32 and its gradient in dtype, for each of dtype's 65,536 values."""
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(dtype).double()
    s = F.softplus(x)
    log_p = x - s
    p, power = log_p.exp(), (gamma * log_p).exp()
    slope = power * (gamma * (1 - p) * s + p)
    return ((1 - alpha) * power * s).float(), ((1 - alpha) * slope).to(dtype)


def _looked_up_background(x: Tensor, alpha: float, gamma: float) -> tuple[float, Tensor]:
    """Sum and gradient of the background's weighted term for a contiguous x of a two-byte type."""
    values, slopes = _tables(x.dtype, alpha, gamma)
    grad = torch.empty_like(x)
    bits, out = x.view(-1).view(torch.uint16), grad.view(-1)
    place = torch.empty(min(2 * PIECE, len(bits)), dtype=torch.int32)
    looked = torch.empty(len(place), dtype=torch.float32)
    total = 0.0
    for piece, slope in zip(bits.split(2 * PIECE), out.split(2 * PIECE), strict=True):
        at = place[: len(piece)].copy_(piece)
        total += float(torch.index_select(values, 0, at, out=looked[: len(piece)]).sum())
        torch.index_select(slopes, 0, at, out=slope)
    return total, grad


def _background(x: Tensor, gamma: float) -> tuple[float, Tensor]:
    """Sum and gradient of σ(x)^γ softplus(x), the background's term without 1 - α, for x in fp32 or float64.

    With s = softplus(x) and log p = x - s:  value = p^γ s,  slope = p^γ (γ (1 - p) s + p).
    """
    flat, grad = x.reshape(-1), torch.empty_like(x)
    buffers = [x.new_empty(min(PIECE, len(flat))) for _ in range(4)]
    zero, total = x.new_zeros(()), 0.0
    for piece, slope in zip(flat.split(PIECE), grad.view(-1).split(PIECE), strict=True):
        v, s, p, w = (b[: len(piece)] for b in buffers)
        v.copy_(piece)
        torch.logaddexp(v, zero, out=s)  # softplus
        v.sub_(s)  # log p
        torch.exp(v, out=p)
        if gamma == 0:
            total += float(s.sum())
            slope.copy_(p)
            continue
        torch.exp(v.mul_(gamma), out=w)  # p^γ
        total += float(torch.dot(w, s))
        # γ (1 - p) s + p = p (1 - γ s) + γ s
        s.mul_(gamma)
        v.copy_(s).neg_().add_(1).mul_(p).add_(s).mul_(w)
        slope.copy_(v)
    return total, grad
