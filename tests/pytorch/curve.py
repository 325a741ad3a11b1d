"""curve.py [CURVE]

Writes tests/data/pytorch/lenet5_losses.txt, or CURVE: the loss of each of 100 steps by PyTorch, from the weights and
with the batches of tests/pytorch/curve.lua, which build/cnnc runs here for the weights.
tests/test_curve.c compares cnnc with it.
"""
import gzip
import subprocess
import sys
import tempfile

import torch
from torch.nn.functional import cross_entropy

import networks

BATCH, STEPS = 64, 100
TRAIN = "/usr/share/datasets/fashion-mnist/train-"


def read_idx(path, header, count):
    with gzip.open(path) as file:
        return torch.frombuffer(bytearray(file.read(header + count)), dtype=torch.uint8, offset=header)


def curve(weights):
    images = read_idx(f"{TRAIN}images-idx3-ubyte.gz", 16, STEPS * BATCH * 784).view(STEPS, BATCH, 1, 28, 28) / 255
    labels = read_idx(f"{TRAIN}labels-idx1-ubyte.gz", 8, STEPS * BATCH).view(STEPS, BATCH).long()
    net = networks.lenet5()
    networks.load(net, weights)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for image, label in zip(images, labels):
        loss = cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["build/cnnc", "run", "tests/pytorch/curve.lua", f"{folder}/weights", f"{folder}/log"],
                       check=True)
        with open(sys.argv[1] if len(sys.argv) > 1 else "tests/data/pytorch/lenet5_losses.txt", "w") as file:
            file.writelines(f"{loss:.7g}\n" for loss in curve(f"{folder}/weights"))


main()
