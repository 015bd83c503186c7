"""GroupNorm with the ReLU after it, for maps in channels-last layout: as fast as the device allows.

On a CPU torch's kernels walk each group's few channels one image at a time; here all channels are summed at
once and the few numbers per group combined afterwards: some three times as fast. On a GPU one Triton kernel
does both, where there is Triton.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalrepro.hardware import first_order, kernels

TRITON = "focalrepro.detector.norm_triton"
INSTEAD = "relu(torch.nn.functional.group_norm(…))"


class GroupNormReLU(nn.GroupNorm):
    """ReLU of torch's GroupNorm: same parameters, same numbers up to rounding, in the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] of any float type, best channels last."""
        if x.device.type == "cpu" and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return F.relu_(_ChannelsLast.apply(x, self.weight, self.bias, self.num_groups, self.eps))
        fast = kernels(TRITON) if x.is_cuda else None
        if fast and fast.fits(self.num_channels, self.num_groups):
            return fast.GroupNormReLU.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return F.relu_(F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps))


class _ChannelsLast(torch.autograd.Function):
    """y = (x - mean) / std · weight + bias, as one multiply-add per element; x [B, C, H, W] channels last."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:  # noqa: ANN001
        rows = _rows(x)
        count = rows.shape[1] * rows.shape[2] // groups
        values = rows.float()
        mean = _over_groups(values.sum(1), groups) / count
        variance = _over_groups((values * values).sum(1), groups) / count - mean * mean
        rstd = (variance.clamp(min=0) + eps).rsqrt()
        scale = rstd * weight
        y = torch.addcmul((bias - mean * scale).unsqueeze(1), values, scale.unsqueeze(1))
        ctx.save_for_backward(rows, mean, rstd, weight)
        ctx.groups = groups
        return _image(y, x)

    @staticmethod
    @first_order(INSTEAD)
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN001
        rows, mean, rstd, weight = ctx.saved_tensors
        count = rows.shape[1] * rows.shape[2] // ctx.groups
        values, slope = rows.float(), _rows(upstream).float()
        total = slope.sum(1)  # [B, C]; with n = (x - mean) rstd, the sums over positions of dy and of dy · n
        along = ((slope * values).sum(1) - mean * total) * rstd
        # dx = rstd (dy w - mean of dy w - n · mean of dy w n), means over the group; as dy · a + x · b + c
        mean_total = _over_groups(total * weight, ctx.groups) / count
        mean_along = _over_groups(along * weight, ctx.groups) / count
        b = -rstd * rstd * mean_along
        c = -rstd * mean_total - b * mean
        grad = torch.addcmul(c.unsqueeze(1), slope, (rstd * weight).unsqueeze(1))
        grad.addcmul_(values, b.unsqueeze(1))
        return _image(grad, upstream), along.sum(0), total.sum(0), None, None


def _rows(x: Tensor) -> Tensor:
    """[B, C, H, W] as [B, H·W, C]: a view where x is channels last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])


def _image(rows: Tensor, like: Tensor) -> Tensor:
    """The way back, to the shape, type and layout of `like`; no view, so that a ReLU may work in place."""
    image = torch.empty_like(like, memory_format=torch.channels_last)
    _rows(image).copy_(rows)
    return image


def _over_groups(x: Tensor, groups: int) -> Tensor:
    """[B, C] summed over each group's channels, and the sum given back to each of them."""
    each = x.shape[1] // groups
    return x.view(len(x), groups, each).sum(-1, keepdim=True).expand(-1, -1, each).reshape(x.shape)
