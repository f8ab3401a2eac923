"""From a configuration node to an object: the only caller of Hydra's `instantiate`."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig


def build(node: DictConfig | dict | None, **runtime: Any) -> Any:
    """Builds what `node._target_` names, with plain dicts and lists as arguments.

    `runtime` adds arguments that no configuration can hold, such as an object built before. An error that the target
    raises comes as it is, with its own traceback; a TypeError comes in Hydra's words, which name the key.
    """
    try:
        return instantiate(node, _convert_="all", **runtime)
    except InstantiationException as error:
        if error.__cause__ is None or isinstance(error.__cause__, TypeError):
            raise
        raise error.__cause__ from None


def build_all(nodes: DictConfig | dict | None) -> list[Any]:
    """Builds every entry of a dict of nodes, in order; an entry that is `null` is switched off."""
    return [build(node) for node in (nodes or {}).values() if node is not None]
