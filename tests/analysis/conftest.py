import pytest
import torch
from torch import nn

from offramp.nets import MultiExitNet


@pytest.fixture
def conv_net():
    """Three exits: convolutions, norms and dropout, in float64; and a batch for it."""
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Conv2d(reads, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        for reads in (3, 4, 4)
    ]
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)) for _ in stages]
    net = MultiExitNet(stages, heads, input_size=(3, 8, 8)).double()
    return net, torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.fixture
def state():
    """A copy of all parameters and buffers of a net, and of its modules' modes."""

    def read(net):
        tensors = {name: value.clone() for name, value in net.state_dict().items()}
        return tensors, [module.training for module in net.modules()]

    return read


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn during the test, each once it is written."""
    from matplotlib.figure import Figure

    figures, write = [], Figure.savefig

    def savefig(figure, *args, **kwargs):
        write(figure, *args, **kwargs)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


@pytest.fixture
def texts():
    """All words of a figure, after a look at where they stand: on the page, and none over another."""
    from matplotlib.text import Text

    def out_of_view(figure):
        axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
        return {
            tick.label1
            for axis in axes
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
            if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        }

    def read(figure):
        figure.draw_without_rendering()  # the file has another resolution
        found = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip()]
        found = [one for one in found if one.axes is None or one.axes.axison]
        hidden = out_of_view(figure)
        found = [one for one in found if one not in hidden]
        boxes = [one.get_window_extent().padded(-1) for one in found]
        page = figure.bbox.padded(1)
        for n, (one, box) in enumerate(zip(found, boxes, strict=True)):
            assert page.x0 <= box.x0 and box.x1 <= page.x1, one
            assert page.y0 <= box.y0 and box.y1 <= page.y1, one
            for other, there in zip(found[:n], boxes[:n], strict=True):
                assert not box.overlaps(there), (one, other)
        return [one.get_text() for one in found]

    return read
