"""What a command that is sent by a launcher imports, which takes longer than all that it does."""

import importlib

import recorded_calls

MODULES = (
    *("boto3", "hydra", "obstore", "rich.console", "rich.live", "rich.table"),
    *("hydra_plugins.stocktake_sagemaker.rehearsal", "hydra_plugins.stocktake_sagemaker.sagemaker"),
    *("stocktake.cli.command_keys", "stocktake.cli.overrides", "stocktake.rehearsal.local_runner"),
    *("stocktake.cloud.client", "stocktake.cloud.monitor", "stocktake.cloud.preflight", "stocktake.cloud.requests"),
    *("stocktake.cloud.validation", "stocktake.report.search_files", "stocktake.tuning.study"),
)

for module in MODULES:
    importlib.import_module(module)

recorded_calls.install()
