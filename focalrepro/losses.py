"""The classification losses: cross entropy, α-balanced cross entropy and focal loss (section 3).

One convention throughout: α weighs the object class and 1 - α the background, as in the paper. So α = .25
turns the rare objects *down*: in the paper that pays once γ = 2 has turned the easy background down much
further.

For your own training loop: `FocalLoss` or `sigmoid_focal_loss`, and `softmax_focal_loss` where classes
exclude each other. For a detector, where nearly every target is background: `focal_terms`, which takes
integer labels, and the fast sum of it in `training/focal_sum.py`. This file needs torch alone.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Labels of anchors that are no object: none of the classes, and left out of the loss.
BACKGROUND = -1
IGNORED = -2


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """FL(p_t) = -α_t (1 - p_t)^γ log p_t with p = sigmoid(inputs): equation 5; drop-in for torchvision's.

    Unlike torchvision's it has finite values and gradients for every γ >= 0, in fp32, bf16 and fp16, and
    refuses what would be NaN; so torch.compile takes it, and torch.jit.script does not.

    Args:
        inputs: logits, any shape. targets: the same shape, 1 for object and 0 for background; values between
            are soft labels, with p_t = p t + (1 - p)(1 - t).
        alpha: weight of the object class, 1 - alpha of the background; a negative value means no weighting.
        gamma: how much easy examples are turned down; 2 is the paper's choice and torchvision's default.
        reduction: "none", "mean" or "sum"; the mean of no element is 0.
    Returns the inputs' type with "none". "mean" and "sum" of a two-byte type are in fp32, as torch's autocast
    has its sums and losses: 200,000 anchors of 8 classes add up to more than fp16 can hold.
    Errors: ValueError for other shapes, reductions, γ < 0, α > 1 or targets outside [0, 1]. That last one
    reads the targets once more, and on a GPU waits for them; bool targets need no look, nor does a CUDA graph
    or torch.compile, inside which nothing can be read, get one.
    """
    check_focal_parameters(alpha, gamma)
    check_logits(inputs)
    if inputs.shape != targets.shape:
        raise ValueError(
            f"targets have the shape {tuple(targets.shape)}, inputs {tuple(inputs.shape)}: they must be "
            "the same (one 0/1 target per logit; FocalLoss also takes class indices)"
        )
    check_targets(targets)
    x = at_least_fp32(inputs)
    t = targets.to(x.dtype)
    cross_entropy = F.softplus(-x) * t + F.softplus(x) * (1 - t)
    # (1 - p_t)^γ as exp(γ log(1 - p_t)): at p_t = 1 and γ < 1 a power has the derivative inf · 0. A target of
    # 0 or 1 has the form that nothing saturates; the other form also has the derivative by the target.
    miss = torch.sigmoid(x) * (1 - t) + torch.sigmoid(-x) * t
    log_miss = miss.clamp(min=torch.finfo(x.dtype).tiny).log()
    if not targets.requires_grad:
        log_miss = torch.where((t == 0) | (t == 1), F.logsigmoid((1 - 2 * t) * x), log_miss)
    loss = (gamma * log_miss).exp() * cross_entropy
    if alpha >= 0:
        loss = (alpha * t + (1 - alpha) * (1 - t)) * loss
    return reduce(loss, reduction, inputs.dtype)


def softmax_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: Sequence[float] | Tensor | None = None,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Tensor:
    """FL(p_t) = -α_t (1 - p_t)^γ log p_t with p = softmax(inputs): for classes that exclude each other.

    The paper's extension "to the multi-class case" (section 3, first footnote). γ = 0 is torch's cross
    entropy, whose `weight` is alpha. Finite values and gradients for every γ >= 0 at finite logits, and where
    a class is ruled out by a logit of -inf.

    Args:
        inputs: logits [..., C], C >= 2, the classes last: `inputs.movedim(1, -1)` for [N, C, H, W].
        targets: integer class indices [...] in 0 … C-1. Leave out what is to be ignored: `inputs[kept]`.
        alpha: α_t of each class, [C], 0 or more; None weighs all alike.
        gamma: how much easy examples are turned down.
        reduction: "none" [...], "mean" over all targets (not divided by their weights) or "sum".
    Returns fp32, or float64 for float64: a gap between two fp16 logits can be more than fp16 holds.
    Errors: ValueError for other shapes or reductions, γ < 0, targets that are no class index (compiled, where
    values cannot be looked at, their loss is NaN), a wrong alpha.
    """
    check_focal_parameters(-1, gamma)
    check_logits(inputs)
    classes = inputs.shape[-1] if inputs.dim() else 0
    if classes < 2 or targets.shape != inputs.shape[:-1] or targets.is_floating_point():
        raise ValueError(
            f"targets {tuple(targets.shape)} of {targets.dtype} do not fit logits {tuple(inputs.shape)}: "
            "give integer class indices in their shape less the last dimension, which holds 2 classes or more"
        )
    x = at_least_fp32(inputs)
    labelled = is_class(targets, inputs)
    if not (_is_traced(inputs) or labelled.any(-1).all()):
        raise ValueError(
            f"class indices reach from {int(targets.min())} to {int(targets.max())}; with {classes} logits "
            f"they must lie in 0 … {classes - 1}: leave out what is to be ignored"
        )
    log_p = F.log_softmax(x, dim=-1).clamp(min=-1e30)  # -inf · 0 would be NaN
    log_p_t = log_p.masked_fill(~labelled, 0).sum(-1)
    # log(1 - p_t) without cancellation: from the other classes, or where p_t is small from itself.
    others = log_p.masked_fill(labelled, -torch.inf).logsumexp(-1)
    log_miss = torch.where(log_p_t < -1, (-log_p_t.clamp(max=-0.5).exp()).log1p(), others)
    loss = -(gamma * log_miss).exp() * log_p_t
    if _is_traced(inputs):
        loss = loss.masked_fill(~labelled.any(-1), torch.nan)
    if alpha is not None:
        weight = torch.as_tensor(alpha, dtype=x.dtype, device=x.device)
        if weight.shape != (classes,) or not (_is_traced(weight) or (weight >= 0).all()):
            raise ValueError(f"alpha {alpha} must be one weight per class, {classes} of them, each 0 or more")
        loss = loss * weight.expand_as(x).masked_fill(~labelled, 0).sum(-1)
    return reduce(loss, reduction, loss.dtype)


def at_least_fp32(x: Tensor) -> Tensor:
    """x in fp32, or float64 as it is: the types in which losses are computed."""
    return x if x.dtype == torch.float64 else x.float()


def is_class(labels: Tensor, logits: Tensor) -> Tensor:
    """Whether each of logits [..., K] is that of its label's class, bool [..., K], from labels [...]."""
    return labels.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)


def reduce(loss: Tensor, reduction: str, dtype: torch.dtype) -> Tensor:
    """Applies a reduction by its name in torch: "none", "mean" or "sum".

    Only "none" is rounded to dtype, the logits': each element fits a two-byte type, their sum may not. The
    mean of no element is 0 and keeps its graph, where torch's is NaN: a batch without a labelled row teaches
    nothing and must not end the training.
    """
    if reduction == "none":
        return loss.to(dtype)
    if reduction == "mean":
        return loss.mean() if loss.numel() else loss.sum()
    if reduction == "sum":
        return loss.sum()
    raise ValueError(f"reduction is {reduction!r}; it must be 'none', 'mean' or 'sum'")


def check_focal_parameters(alpha: float, gamma: float) -> None:
    """Raises ValueError unless 0 <= γ < ∞ and α <= 1 (negative: no class weighting, as in torchvision)."""
    if isinstance(alpha, (list, tuple)) or (isinstance(alpha, Tensor) and alpha.numel() > 1) or alpha is None:
        wanted = (
            "one number, negative for no class weighting; softmax_focal_loss takes a weight for each class"
        )
        raise ValueError(f"alpha is {alpha}; it must be {wanted}")
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma is {gamma}; it must be 0 (cross entropy) or more, and finite")
    if not alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must lie in [0, 1], or be negative for no class weighting")


def check_logits(x: Tensor) -> None:
    """Raises ValueError for integers, whose losses would be cut off, and for complex numbers."""
    if not x.is_floating_point():
        raise ValueError(f"logits are of {x.dtype}; they must be floating point: give logits.float()")


def _is_traced(x: Tensor) -> bool:
    """Whether its values cannot be looked at: in torch.compile, torch.func or a CUDA graph, or on "meta"."""
    hidden = torch.compiler.is_compiling() or x.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(x)
    return hidden or (x.is_cuda and torch.cuda.is_current_stream_capturing())


def check_targets(targets: Tensor) -> None:
    """Raises ValueError where a target lies outside [0, 1]: a logarithm would quietly make it NaN."""
    if targets.dtype == torch.bool or not targets.numel() or _is_traced(targets):
        return
    low, high = torch.stack(torch.aminmax(targets.detach())).tolist()  # one wait for the device, not two
    if not (low >= 0 and high <= 1):  # so that NaN is refused, too
        raise ValueError(
            f"targets reach from {low:g} to {high:g}; they must lie in [0, 1]. Leave out what is to be "
            "ignored (-1 or 255, say), divide a mask of 0 and 255 by 255, and give class indices to "
            "FocalLoss in the logits' shape less the last dimension"
        )


class FocalLoss(nn.Module):
    """Focal loss as a criterion: `loss = FocalLoss(gamma=1.5)(logits, targets)`.

    targets are either 0/1 in the shape of the logits, or integer class indices in the shape of the logits
    without their last dimension (K one-against-all sigmoids; -1 is "none of the classes", -2 is left out).
    The default reduction is "mean", as in torch's own criteria. A detector divides the "sum" by its number of
    positive anchors and one for each image instead: a mean over 100,000 easy negatives is very small. Where
    all rows are left out the mean is 0.

    gamma is 1.5 here and 2 in `sigmoid_focal_loss`: a choice of the two interfaces and no finding. The
    function keeps torchvision's default, which is the paper's; the criterion's interface was set to 1.5. Give
    γ yourself where it matters. Result types, and the errors for targets outside [0, 1], are those of
    `sigmoid_focal_loss`.
    """

    def __init__(self, gamma: float = 1.5, alpha: float = 0.25, reduction: str = "mean") -> None:
        super().__init__()
        check_focal_parameters(alpha, gamma)
        reduce(torch.zeros(()), reduction, torch.float32)  # ValueError where there is none of that name
        self.gamma, self.alpha, self.reduction = gamma, alpha, reduction

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, alpha={self.alpha}, reduction={self.reduction!r}"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """logits [...] with targets [...] in {0, 1}, or logits [..., K] with class indices [...]."""
        if targets.shape == logits.shape:
            return sigmoid_focal_loss(logits, targets, self.alpha, self.gamma, self.reduction)
        if targets.shape != logits.shape[:-1] or targets.is_floating_point() or targets.dtype == torch.bool:
            raise ValueError(
                f"targets {tuple(targets.shape)} of {targets.dtype} do not fit logits {tuple(logits.shape)}: "
                "give 0/1 targets in their shape, or integer class indices in it less the last dimension"
            )
        if not _is_traced(targets) and targets.numel():
            low, high, classes = int(targets.min()), int(targets.max()), logits.shape[-1]
            if low < IGNORED or high >= classes:
                raise ValueError(
                    f"class indices reach from {low} to {high}; with {classes} logits they must lie in "
                    f"0 … {classes - 1}, or be {BACKGROUND} (background) or {IGNORED} (ignored)"
                )
            if classes == 1 and low >= 0:
                raise ValueError(
                    f"targets {tuple(targets.shape)} for logits {tuple(logits.shape)} would be class "
                    "indices, all of the one class 0; if they are 0/1, give targets.unsqueeze(-1); "
                    "background is -1"
                )
        kept, one_hot = targets != IGNORED, is_class(targets, logits)
        if self.reduction != "none" and not _is_traced(logits):
            return sigmoid_focal_loss(logits[kept], one_hot[kept], self.alpha, self.gamma, self.reduction)
        check_logits(logits)
        # What is left out is 0 before and after, so that no NaN of its logits comes back.
        seen = torch.where(kept.unsqueeze(-1), at_least_fp32(logits), 0.0)
        terms = sigmoid_focal_loss(seen, one_hot, self.alpha, self.gamma) * kept.unsqueeze(-1)
        if _is_traced(logits):  # whose values cannot be looked at
            known = (targets >= IGNORED) & (targets < logits.shape[-1])
            terms = terms.masked_fill(~known.unsqueeze(-1), torch.nan)
        if self.reduction == "mean":
            return terms.sum() / (kept.sum() * logits.shape[-1]).clamp(min=1)
        return reduce(terms, self.reduction, logits.dtype)


# ------------------------------------------------------------------------------------------------------
# For detectors: integer labels, summed over all anchors.


def signed_logits(logits: Tensor, labels: Tensor, alpha: float | Tensor) -> tuple[Tensor, Tensor]:
    """x_t and α_t per anchor and class, [..., K] in fp32, from logits [..., K] and labels [...].

    x_t is the logit itself for the labelled class and its negative for every other, so p_t = σ(x_t). α_t is
    alpha, 1 - alpha, or 0 on IGNORED anchors.
    """
    x, is_object = at_least_fp32(logits), is_class(labels, logits)
    x_t = torch.where(is_object, x, -x)
    return x_t, torch.where(is_object, alpha, 1 - alpha) * (labels != IGNORED).unsqueeze(-1)


def focal_terms(logits: Tensor, labels: Tensor, alpha: float | Tensor, gamma: float | Tensor) -> Tensor:
    """The plain definition per anchor and class, in fp32: [..., K] from logits [..., K] and labels [...].

    labels are class indices, BACKGROUND or IGNORED (whose terms are 0). With p_t = σ(x_t),
    -log p_t = softplus(-x_t) and (1 - p_t)^γ = exp(-γ softplus(x_t)).
    """
    x_t, weight = signed_logits(logits, labels, alpha)
    return weight * (-gamma * F.softplus(x_t)).exp() * F.softplus(-x_t)
