"""The networks of graphs/ in PyTorch, each with its parameters in the order of the network file.

They are written out here because Debian has no torchvision.  None has dropout: what it drops
is each side's own.
"""
import json

import torch
from torch import nn


def pair(channels, out):
    return [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]


def lenet5():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(inplace=True), nn.Linear(120, 84), nn.ReLU(inplace=True), nn.Linear(84, 10))


def cifar_cnn():
    return nn.Sequential(*pair(3, 32), *pair(32, 64), nn.Flatten(), nn.Linear(4096, 256), nn.ReLU(inplace=True),
                         nn.Linear(256, 10))


class Residual(nn.Module):
    """What a body computes, added to its input or to what a shortcut makes of that."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x):
        return torch.relu_(self.body(x) + self.shortcut(x))


def resnet8():
    def stack(channels, out, stride):
        # "same" with stride 2: the one row and column of zeros that it takes come last.
        pad = [nn.ZeroPad2d((0, 1, 0, 1))] if stride > 1 else []
        body = pad + [nn.Conv2d(channels, out, 3, stride, padding=0 if pad else 1), nn.BatchNorm2d(out),
                      nn.ReLU(inplace=True), nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out)]
        return Residual(body, [nn.Conv2d(channels, out, 1, stride)] if stride > 1 else [])

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        stack(16, 16, 1), stack(16, 32, 2), stack(32, 64, 2), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


def conv_bn(channels, out, kernel, stride=1, groups=1):
    return [nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]


def resnet18():
    def stage(channels, out, stride):
        first = [*conv_bn(channels, out, 3, stride), nn.ReLU(inplace=True), *conv_bn(out, out, 3)]
        second = [*conv_bn(out, out, 3), nn.ReLU(inplace=True), *conv_bn(out, out, 3)]
        return [Residual(first, conv_bn(channels, out, 1, stride) if stride > 1 else []), Residual(second, [])]

    return nn.Sequential(
        *conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
        *stage(64, 64, 1), *stage(64, 128, 2), *stage(128, 256, 2), *stage(256, 512, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class InvertedResidual(nn.Module):
    def __init__(self, channels, out, stride, widening):
        super().__init__()
        wide = widening * channels
        self.adds = stride == 1 and channels == out
        self.body = nn.Sequential(
            *([*conv_bn(channels, wide, 1), nn.ReLU6(inplace=True)] if widening > 1 else []),
            *conv_bn(wide, wide, 3, stride, wide), nn.ReLU6(inplace=True), *conv_bn(wide, out, 1))

    def forward(self, x):
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v2():
    layers, channels = [*conv_bn(3, 32, 3, 2), nn.ReLU6(inplace=True)], 32
    for widening, out, blocks, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                          (6, 160, 3, 2), (6, 320, 1, 1)]:
        for block in range(blocks):
            layers.append(InvertedResidual(channels, out, 1 if block else stride, widening))
            channels = out
    return nn.Sequential(*layers, *conv_bn(320, 1280, 1), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(1280, 1000))


def values(net):
    """What cnnc calls parameters: all of state_dict but the counts of batches."""
    return [tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")]


def load(net, path):
    """Fills the network from a .safetensors file of cnnc's, by position: there the names are the graph's."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        flat = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    header.pop("__metadata__", None)
    entries = sorted(header.values(), key=lambda entry: entry["data_offsets"])
    shapes = [list(tensor.shape) for tensor in values(net)]
    if [entry["shape"] for entry in entries] != shapes:
        raise SystemExit(f"{path}: found other shapes than {shapes}")
    with torch.no_grad():
        for tensor, part in zip(values(net), flat.split([tensor.numel() for tensor in values(net)])):
            tensor.copy_(part.view(tensor.shape))
