"""From a configuration node to an object: the only caller of Hydra's `instantiate`."""

from collections.abc import Sequence
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict


def build(node: DictConfig | dict | None, **runtime: Any) -> Any:
    """Builds what `node._target_` names, with plain dicts and lists as arguments.

    `runtime` adds arguments that no configuration can hold, such as an object built before. An error that the target
    raises comes as it is, with its own traceback; a TypeError comes as Hydra's message, which names the key.
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


def as_plain(cfg: DictConfig) -> dict[str, Any]:
    """Returns a configuration as plain values, all of its interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def composed(folder: str, name: str, overrides: Sequence[str]) -> DictConfig:
    """Returns what Hydra makes of a command's overrides, without running it.

    Args:
        folder: Of the configuration, absolute.
        name: Of the command's own file in it, without `.yaml`.
    """
    with initialize_config_dir(folder, version_base="1.3"):
        cfg = compose(name, list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = cfg.hydra.run.dir
        cfg.hydra.job.num, cfg.hydra.job.id = 0, "0"
    HydraConfig.instance().set_config(cfg)  # ${hydra:...} asks it
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg
