"""Writes tests/data/pytorch/resnet8_statistics.txt: what tests/pytorch/running.lua prints, by PyTorch.

The weights and pictures are those of that script, which build/cnnc runs here.  tests/test_curve.c
compares cnnc with it.
"""
import subprocess
import tempfile

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import networks

BATCH, STEPS, CHANNELS, SIDE = 16, 20, 3, 32


def trained(folder):
    with open(f"{folder}/data", "rb") as file:
        data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    net = networks.resnet8()
    networks.load(net, f"{folder}/start")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    for samples in data.view(STEPS, BATCH, 1 + CHANNELS * SIDE * SIDE):
        image = samples[:, 1:].reshape(BATCH, CHANNELS, SIDE, SIDE) / 255
        loss = cross_entropy(net(image), samples[:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def lines(net):
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer, norm in enumerate(norms, 1):
        for name in "running_mean", "running_var":
            value = getattr(norm, name)
            yield f"batchnorm{layer}.{name} {value.square().mean().sqrt():.6g} {value.abs().max():.6g}\n"


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["build/cnnc", "run", "tests/pytorch/running.lua", folder], check=True,
                       stdout=subprocess.DEVNULL)
        with open("tests/data/pytorch/resnet8_statistics.txt", "w") as file:
            file.writelines(lines(trained(folder)))


main()
