"""A net: a network with named outputs, each with a task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from torch import Tensor, nn

from offramp.checks import described
from offramp.copying import deep_copy
from offramp.errors import UserError, an_object, shown
from offramp.nets.inputs import check_inputs
from offramp.nets.ownership import owners
from offramp.nets.sample import Example, make_sample
from offramp.tasks import Task

__all__ = ["Net", "check_form", "check_net", "modules_of"]

_Self = TypeVar("_Self", bound="Net")


class Net(nn.Module):
    """A network with K named outputs, each with a task.

    A network of your own inherits from it and has ``outputs``, ``input_size`` and ``forward``. It need not
    inherit: any module with ``outputs``, ``forward`` and ``owners`` will do, and with ``input_size`` or
    ``sample`` where an input is needed to look at the network with.

    Attributes:
        outputs: The task of each output by the output's name, in the order of the outputs.
        input_size: Shape of one input without the batch axis, for dry runs and counting.
        example: An input for them where floats of that shape are none: a Tensor ``[N, ...]``, or a tuple or
            dict of such Tensors.
        convention: How :func:`offramp.cost` counts the net unless told otherwise, a key of
            :data:`~offramp.counting.conventions.CONVENTIONS`.
        spec: What tables call the net, and how it was built: ``{"net": name, **arguments}``. By default its
            class.
        other_names: The names that its parameters and buffers have in the network that it was made of, by
            which a file of that network's weights knows them.
    """

    outputs: Mapping[str, Task]
    input_size: tuple[int, ...]
    example: Example | None = None
    convention: str = "macs"
    spec: dict[str, object] | None = None
    other_names: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    @abstractmethod
    def forward(self, x: Any) -> list[Tensor]:
        """The outputs, in their order: K Tensors ``[N, ...]``."""

    def owners(self) -> dict[str, frozenset[int]]:
        """The outputs (0-based) whose losses reach each parameter; see :func:`~offramp.nets.owners`."""
        return owners(self, self.sample(1))

    def sample(self, n: int) -> Any:
        """An input of n samples to look at the net with, where values do not matter.

        The rows of ``example``, repeated, where the net has one; else random floats ``[n, *input_size]`` in
        the dtype and on the device of the parameters. Torch's random state stays as it was.

        Raises:
            UserError: The net has neither.
        """
        return make_sample(self, n, getattr(self, "input_size", None), self.example)

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        """A copy, also when modules keep results of their last forward pass, as LeViT's attention does."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update(deep_copy(vars(self), memo))
        return twin


def check_net(net: object, name: str) -> None:
    """Check that something is a net: a module with ``outputs`` and ``owners``.

    Args:
        net: What should be a net.
        name: What a message calls it.

    Raises:
        UserError: It is a plain backbone, wrapped around a net, or no network at all.
    """
    if isinstance(net, type):
        raise UserError(
            f"{name} is the class {net.__name__}; give a net made by it, such as {net.__name__}(...)"
        )
    if inside := _place_of_wrapped_net(net):
        raise UserError(f"{name} is {an_object(net)} around a net; give the net inside it, its {inside}")
    if isinstance(net, nn.Module) and hasattr(net, "outputs"):
        if hasattr(net, "owners"):
            _check_outputs(net)
            if not isinstance(net, Net):  # whose owners are found
                _check_owners(net)
            return
        raise UserError(
            f"{type(net).__name__} has no owners(); inherit from offramp.nets.Net, which finds them, "
            "or write it"
        )
    backbone = " without exits" if isinstance(net, nn.Module) else ""
    raise UserError(
        f"{name} is {an_object(net)}{backbone}, not a MultiExitNet; make one of it, e.g. by "
        "offramp.attach(backbone, at=['layer1', 'layer2']), or inherit from offramp.nets.Net"
    )


def _place_of_wrapped_net(wrapper: object) -> str:
    """Where a net stands in what is wrapped around it, such as ``.module``; nothing if it is no wrapper."""
    place, inner = "", wrapper
    while isinstance(inner, nn.Module):
        held = inner._modules
        if "_orig_mod" in held:  # of torch.compile, which passes attributes on
            place, inner = f"{place}._orig_mod", held["_orig_mod"]
        elif hasattr(inner, "outputs"):
            return place
        else:  # of data parallelism and of averages of weights
            place, inner = f"{place}.module", held.get("module")
    return ""


def _check_outputs(net: nn.Module) -> None:
    outputs: Any = net.outputs
    tasks = list(outputs.values()) if isinstance(outputs, Mapping) else []
    if not tasks or not all(isinstance(task, Task) for task in tasks):
        raise UserError(
            f"{type(net).__name__}.outputs is {shown(outputs)}, must map the name of each output to its "
            "task, e.g. {'label': offramp.tasks.Classification()}"
        )
    for task in tasks:
        if type(task).__hash__ is None:
            raise UserError(
                f"the task {type(task).__name__} cannot be told from others; make it a frozen dataclass"
            )


def _check_owners(net: nn.Module) -> None:
    owned: Any = net.owners()  # type: ignore[operator]
    names = {name for name, p in net.named_parameters() if p.requires_grad}
    places = range(len(net.outputs))  # type: ignore[arg-type]
    right = isinstance(owned, Mapping) and all(
        isinstance(ks, frozenset) and all(k in places for k in ks) for ks in owned.values()
    )
    if not right or not names <= owned.keys():
        missing = sorted(names - owned.keys())[:1] if right else []
        fault = f"does not name {missing[0]}" if missing else f"returns {shown(owned)}"
        raise UserError(
            f"{type(net).__name__}.owners() {fault}; it maps the name of every parameter to a frozenset of "
            f"the outputs (0 to {len(places) - 1}) whose losses reach it, as offramp.nets.owners() does"
        )


def modules_of(name: str, value: object) -> list[nn.Module]:
    """Check that an argument is several modules.

    Raises:
        UserError: It is something else.
    """
    modules = (
        [*value] if isinstance(value, Iterable) and not isinstance(value, str | Mapping | Tensor) else []
    )
    wrong = [described(each) for each in modules if not isinstance(each, nn.Module)]
    if not modules or wrong:
        given = f"several, among them {wrong[0]}" if wrong else described(value)
        raise UserError(f"{name} are {given}, must be modules, e.g. a list of nn.Sequential(...)")
    return modules


def check_form(example: object, channel_axis: object) -> None:
    """Check what is said of a net's inputs and features beside their sizes.

    Raises:
        UserError: An example that is no Tensors with rows and values, or an axis that is no number.
    """
    if example is not None:
        check_inputs(example, name="example")
        each = example.values() if isinstance(example, Mapping) else example
        tensors = [each] if isinstance(each, Tensor) else [*each] if isinstance(each, Iterable) else [None]
        if not all(isinstance(tensor, Tensor) and tensor.dim() and len(tensor) for tensor in tensors):
            raise UserError(
                "example must be a Tensor with at least one input, [N, ...], or a tuple or dict of such; got "
                f"{described(example)}"
            )
    numbers = [*channel_axis, *channel_axis.values()] if isinstance(channel_axis, Mapping) else [channel_axis]
    if channel_axis is not None and not all(type(number) is int for number in numbers):
        raise UserError(
            f"channel_axis is {described(channel_axis)}, must be an axis, or a mapping from exit to axis"
        )
