"""Leave a network exactly as it was: after a run to learn something about it, and where a call is refused."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from offramp.copying import values_kept
from offramp.say import say

__all__ = ["restored_on_error", "snapshot", "unchanged"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS: list[Any] = [  # of torch.nn.modules.module.register_module_forward_hook and its like
    hooks
    for name, hooks in vars(torch.nn.modules.module).items()
    if name.startswith("_global_") and isinstance(hooks, dict)
]


@contextmanager
def unchanged(*modules: nn.Module) -> Iterator[None]:
    """Restore the modules and all random states at the end, whatever ran in between.

    Restored are attributes (modes, counters, lists and dicts among them), the values of buffers, and the
    random states of torch, numpy and Python. Parameters are not copied, since a forward pass does not write
    to them. Hooks of the user's own do not run meanwhile, because what they count or store lies outside the
    module, be they on modules, on parameters or on all modules there are; torch's own on a module (weight
    norm, pruning, observers) do.

    Args:
        *modules: The networks, with all of their submodules.
    """
    parts = list(dict.fromkeys(part for module in modules for part in module.modules()))
    restore = _attributes_and_buffers(parts)
    for hooks in (*_hooks_on_parameters(parts), *_GLOBAL_HOOKS):
        restore.append(partial(_put_items_back, hooks, hooks.copy()))
    gpus = sorted({t.get_device() for part in parts for t in part.parameters(recurse=False) if t.is_cuda})
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        for part in parts:
            for name in _HOOKS:
                hooks = vars(part).get(name)
                if hooks:
                    vars(part)[name] = type(hooks)((k, h) for k, h in hooks.items() if _is_of_torch(h))
        for hooks in _GLOBAL_HOOKS:
            hooks.clear()
        for hooks in _hooks_on_parameters(parts):
            for key in [key for key, hook in hooks.items() if not _is_of_torch(hook)]:
                del hooks[key]
        with torch.random.fork_rng(gpus), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about a run that the user did not ask for
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        _call_all(restore)


def snapshot(*modules: nn.Module) -> Callable[[], None]:
    """Note attributes, values of buffers and all random states; return a function that puts them back.

    For a step that may have to be done again: neither parameters nor gradients are among them.

    Args:
        *modules: The networks, with all of their submodules.
    """
    parts = dict.fromkeys(part for module in modules for part in module.modules())
    return partial(_call_all, _attributes_and_buffers(parts) + _random_states())


@contextmanager
def restored_on_error(net: nn.Module) -> Iterator[Callable[[], None]]:
    """Put a network and all random states back if an error ends the block, so that a refusal changes nothing.

    Restored are attributes, parameters, buffers and gradients, with values, device, dtype and memory format.
    The values are copied at the beginning. What cannot be restored is said beside the error.

    Args:
        net: The network, with all of its submodules.

    Yields:
        A function to call where the changes that are wanted begin: from there on nothing is put back.
    """
    restore = [_attributes(part) for part in net.modules()]
    of_parameters = (tensor for p in net.parameters() for tensor in (p, p.grad) if tensor is not None)
    restore += [_tensor(t) for t in (*of_parameters, *net.buffers()) if not is_lazy(t)]
    restore += _random_states()
    try:
        yield restore.clear
    except BaseException:
        try:
            _call_all(restore)
        except Exception as trouble:  # shall not hide the error
            say(f"a part of {type(net).__name__} could not be put back as it was: {trouble}")
        raise


def _attributes_and_buffers(parts: Iterable[nn.Module]) -> list[Callable[[], None]]:
    """Functions that restore the attributes of modules and the values of their own buffers."""
    parts = list(parts)
    restore = [_attributes(part) for part in parts]
    buffers = (buffer for part in parts for buffer in part.buffers(recurse=False))
    return restore + [values_kept(b) for b in buffers if not b.is_meta and not is_lazy(b)]


def _call_all(functions: Iterable[Callable[[], None]]) -> None:
    """Call every function, also after one that fails, whose error is raised in the end."""
    functions = iter(functions)
    try:
        for function in functions:
            function()
    except BaseException:
        _call_all(functions)
        raise


def _random_states() -> list[Callable[[], None]]:
    """Functions that restore the random states of Python, numpy and torch."""
    states: list[tuple[Callable[[Any], None], Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    if torch.cuda.is_initialized():
        states.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    return [partial(put_back, state) for put_back, state in states]


def _tensor(tensor: Tensor) -> Callable[[], None]:
    """A function that restores a tensor's values, how they lie in memory, and whether it is trained."""
    put_values_back, trained = values_kept(tensor), tensor.requires_grad

    def put_back() -> None:
        put_values_back()
        tensor.requires_grad_(trained)

    return put_back


def _attributes(part: nn.Module) -> Callable[[], None]:
    """A function that restores a module's attributes, and the items of lists, dicts and sets among them."""
    before = dict(vars(part))
    # Most are empty dicts of hooks, and an OrderedDict is slow to copy.
    contents = [(value, value.copy() if value else ()) for value in before.values() if _has_items(value)]

    def put_back() -> None:
        vars(part).clear()
        vars(part).update(before)
        for value, items in contents:
            _put_items_back(value, items)

    return put_back


def _has_items(value: Any) -> bool:
    """Whether it is a list, dict or set, or something like a dict that can be copied."""
    if isinstance(value, (dict, list, set)):  # most are, and an abstract class takes longer to ask
        return True
    return isinstance(value, MutableMapping) and hasattr(value, "copy")


def _put_items_back(value: Any, items: Any) -> None:
    """Give a list, dict or set the items that it had."""
    if isinstance(value, list):
        value[:] = items
    elif value or items:
        value.clear()
        value.update(items)


def _hooks_on_parameters(parts: Iterable[nn.Module]) -> list[Any]:
    """The dicts of hooks that the parameters have."""
    parameters = dict.fromkeys(p for part in parts for p in part.parameters(recurse=False))
    stores = [(p._backward_hooks, p._post_accumulate_grad_hooks) for p in parameters]
    return [hooks for store in stores for hooks in store if hooks]


def _is_of_torch(hook: Any) -> bool:
    return getattr(hook, "__module__", type(hook).__module__).partition(".")[0] == "torch"
