import json

import pytest
from plain_records import plain_record


@pytest.fixture
def make_run(tmp_path):
    """Writes the folder of a finished run with the accuracies given."""

    def make(
        name,
        top1=(50.0, 60.0),
        *,
        method="joint",
        options=None,
        seed=0,
        net=None,
        data="digits",
        recipe=None,
        ensemble=61.5,
        seconds=(5.5, 6.5),
        val=None,
        init=None,
    ):
        folder = tmp_path / name
        folder.mkdir()
        net = net or {"net": "vgg7", "width": 16, "num_classes": 10}
        settings = {"epochs": 2, "lr": 0.1, "milestones": [1], "test_limit": None} | (recipe or {})
        run = plain_record(net, data, method=method, seed=seed, recipe=settings, options=options or {})
        run |= {"init": init} if init else {}
        exits = [
            {"top1": t, "top5": 90.0, "params": 1500 * (k + 1), "flops": 2_000_000 * (k + 1)}
            for k, t in enumerate(top1)
        ]
        result = {
            "net": net["net"], "method": method, "data": data, "seed": seed, "exits": exits,
            "average_top1": sum(top1) / len(top1), "ensemble_top1": ensemble,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(run))
        (folder / "result.json").write_text(json.dumps(result))
        names = "".join(f",val_top1_{k + 1}" for k in range(len(val or ())))
        values = "".join(f",{v}" for v in val or ())
        lines = [f"{epoch},{s}{values}" for epoch, s in enumerate(seconds, 1)]
        (folder / "metrics.csv").write_text("\n".join([f"epoch,seconds{names}", *lines, ""]))
        return folder

    return make
