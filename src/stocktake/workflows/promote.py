"""scripts/promote.py: whether a challenger takes the place of the champion; of one that does not, nothing is sent."""

import copy
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, open_dict

from stocktake.cloud.deployment import MAX_NAME_CHARACTERS
from stocktake.cloud.deployment_checks import PLACEHOLDERS, account_problems, refuse, request_problems, show
from stocktake.cloud.inference_image import with_image
from stocktake.cloud.model_archive import ARCHIVE_NAME, ModelArchive
from stocktake.cloud.model_registry import APPROVED, CONFIG_KEYS, PENDING, ModelRegistry, RegisteredModel
from stocktake.cloud.secrets import typed_command
from stocktake.cloud.validation import problem_lines
from stocktake.config import as_plain, build
from stocktake.console import is_agreed
from stocktake.evaluation.comparison import measure_comparison
from stocktake.evaluation.paired_bootstrap import PairedBootstrap
from stocktake.evaluation.promotion import (
    EVALUATION,
    Criteria,
    Decision,
    decide,
    describe_p_value,
    lineage,
    registered_properties,
    require_exported,
    require_registered,
    require_unseen,
)
from stocktake.evaluation.results import Evaluation, read_evaluations
from stocktake.report.comparison import describe_comparison, describe_decision, render_comparison
from stocktake.run_folder import METRICS_NAME
from stocktake.serving.model_folder import MODEL_NAME, RUN_FOLDER, read_exported
from stocktake.serving.request_parsing import RAW
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions, join_url, split_url
from stocktake.workflows.deploy import deploy, open_endpoints

PAGE_KEY, DECISION_KEY = "comparison.html", "promotion.json"
NAMES, FROM_REGISTRY = ["champion", "challenger"], "registry"  # as champion: the newest approved version


class CannotPromote(ValueError):
    """A promotion that cannot be decided or cannot go where it is to go; the message says why and what to type."""


def promote(cfg: DictConfig) -> Decision:
    """Writes promotion.json and, where there is a champion, comparison.html; returns (and prints) the decision.

    A promoted challenger is deployed and registered where `endpoint` and `registry` are set.

    Raises:
        NotComparable: An evaluation is not of test bins, or of some that its model was trained on.
        EvaluationError: The evaluations are not of the same bins, records or counts.
        CannotPromote: A name is wrong, the exported model is not the challenger's, or its deployment was rolled back.
        CannotDeploy: Something is missing or wrong before anything is made.
    """
    _check_destinations(cfg)
    storage = build(cfg.storage)
    criteria = Criteria(cfg.margin, cfg.level, cfg.max_ece_increase)
    champion, registered = _registered_champion(cfg) if cfg.champion == FROM_REGISTRY else (cfg.champion, {})
    if champion is None:
        evaluations = [Evaluation.read(cfg.challenger, storage)]
    else:
        evaluations = read_evaluations([champion, cfg.challenger], storage)
    for evaluation in evaluations:
        require_unseen(evaluation)
    require_registered(evaluations[0], registered)
    challenger = evaluations[-1]
    comparison = None
    if champion is not None:
        comparison = measure_comparison(evaluations, list(map(PairedBootstrap.of, evaluations)), NAMES)
    decision = Decision(challenger.url, None, criteria) if comparison is None else decide(comparison, criteria)
    compared = None if comparison is None else comparison.to_json()
    recorded = {**decision.to_json(), "model": lineage(challenger), "comparison": compared}
    output = Folder(cfg.output_dir, storage)
    files = {DECISION_KEY: _to_bytes(recorded)}
    if comparison is not None:
        files[PAGE_KEY] = render_comparison(comparison, typed_command(sys.argv), decision).encode()
        print(*describe_comparison(comparison), f"Open {join_url(output.url, PAGE_KEY)}", sep="\n")
    output.write_together(files)
    _tell(decision)
    if decision.is_promoted and (cfg.endpoint or cfg.registry):
        recorded |= _hand_over(cfg, challenger, decision)
        output.write(DECISION_KEY, _to_bytes(recorded))
    print(json.dumps({key: value for key, value in recorded.items() if key != "comparison"}))
    return decision


def _check_destinations(cfg: DictConfig) -> None:
    """Checks the names of what a challenger goes to, before anything is read.

    Raises:
        CannotPromote: AWS would take no such name, or a key has nothing to act on.
    """
    found = []
    if cfg.endpoint is not None:
        found += problem_lines("DescribeEndpoint", {"EndpointName": cfg.endpoint}, {"EndpointName": "endpoint"})
        if len(cfg.endpoint) > MAX_NAME_CHARACTERS:
            found.append(f"endpoint={cfg.endpoint} is too long: at most {MAX_NAME_CHARACTERS} allowed")
    if cfg.registry is not None:
        found += problem_lines("CreateModelPackageGroup", {"ModelPackageGroupName": cfg.registry}, CONFIG_KEYS)
    if cfg.champion == FROM_REGISTRY and cfg.registry is None:
        found.append("champion=registry, but registry is not set. Type registry=<group>, or the champion's folder")
    if cfg.approval is not None and cfg.registry is None:
        found.append(f"approval={cfg.approval}, but registry is not set. Type registry=<group>, or approval=null")
    if cfg.shadow_percent and cfg.endpoint is None:
        found.append(f"shadow_percent={cfg.shadow_percent}, but endpoint is not set. Type endpoint=<name>")
    if found:
        raise CannotPromote(". ".join(found) + ".")


def _registered_champion(cfg: DictConfig) -> tuple[str | None, Mapping[str, str]]:
    """Returns the evaluation and the properties of the newest approved version, None where the group has none.

    Raises:
        CannotPromote: The version does not name its evaluation.
    """
    _, endpoints = open_endpoints(cfg)
    version = ModelRegistry(endpoints.client).newest_approved(cfg.registry)
    if version is None:
        print(f"registry={cfg.registry} has no approved version, so there is no champion yet.")
        return None, {}
    properties = version.get("CustomerMetadataProperties", {})
    if (evaluation := properties.get(EVALUATION)) is None:
        raise CannotPromote(
            f"champion=registry, but {version['ModelPackageArn']} does not say where its evaluation is. Type "
            "champion=<folder of its evaluation>."
        )
    print(f"The champion is {version['ModelPackageArn']}, evaluated in {evaluation}")
    return evaluation, properties


def _to_bytes(recorded: Mapping[str, Any]) -> bytes:
    return (json.dumps(recorded, indent=2) + "\n").encode()


def _tell(decision: Decision) -> None:
    print(f"{describe_decision(decision)}.")
    if decision.p_value is not None:
        print(f"Its accuracy differs by {decision.accuracy}, {describe_p_value(decision.p_value)}.")
    if decision.reasons:
        print(f"Because {'; '.join(decision.reasons)}.")


def _hand_over(cfg: DictConfig, challenger: Evaluation, decision: Decision) -> dict[str, Any]:
    """Deploys a promoted challenger and makes it a version in the registry; returns what promotion.json says of it."""
    location = _location(cfg, challenger)
    deployment = copy.deepcopy(cfg)
    with open_dict(deployment):
        deployment.update({"model": location, "name": cfg.endpoint, "action": "deploy"})
    files, exported = read_exported(location, StorageOptions(profile=cfg.profile, region=cfg.region))
    require_exported(challenger, location, exported)
    values, files, found = with_image(as_plain(cfg), files)
    archive = ModelArchive.of(files)
    model = _registered_model(cfg, values, archive, registered_properties(challenger, decision, exported))
    found += request_problems(values, model.calls(), CONFIG_KEYS, ("bucket", "image_uri")) if cfg.registry else []
    if not cfg.dry_run:
        refuse(found)  # before anything is deployed
    answers = cfg.endpoint is not None and _is_deployed(deployment, archive)
    model = replace(model, approval=cfg.approval or (APPROVED if answers else PENDING))
    if cfg.dry_run:
        if cfg.registry is not None:
            show(model.calls(), found)
        return {}
    package = None if cfg.registry is None else _register(cfg, model, archive, challenger)
    return {
        "model_version": exported["version"],
        "endpoint": cfg.endpoint,
        "answers": answers,
        "model_package": package,
    }


def _location(cfg: DictConfig, challenger: Evaluation) -> str:
    """Returns the folder of the challenger's exported model.

    Raises:
        CannotPromote: There is none.
    """
    location = cfg.exported or join_url(split_url(challenger.url)[0], RUN_FOLDER)
    if not Folder(location, StorageOptions(profile=cfg.profile, region=cfg.region)).exists(MODEL_NAME):
        export = command("scripts/export.py", {"checkpoint": challenger.result.subject.checkpoint})
        raise CannotPromote(
            f"{location} holds no {MODEL_NAME}, and an exported model is what goes further. Type: {export}, "
            "or exported=<its folder>"
        )
    return location


def _is_deployed(cfg: DictConfig, archive: ModelArchive) -> bool:
    """Deploys a model as scripts/deploy.py does; returns whether it answers now, or would, in a dry run.

    Raises:
        CannotPromote: It was rolled back.
    """
    if deploy(cfg):
        raise CannotPromote(f"endpoint={cfg.name} was rolled back: the model of before answers. Nothing is registered.")
    if cfg.dry_run:
        return not cfg.shadow_percent
    # Not where a person said no, or nobody waited, or it is given copies alone.
    url = open_endpoints(cfg)[1].model_url(cfg.name)
    return url is not None and archive.sha256[:12] in url.split("/")


def _registered_model(
    cfg: DictConfig, values: Mapping[str, Any], archive: ModelArchive, properties: Mapping[str, str | None]
) -> RegisteredModel:
    """Returns the version that is to be made, with placeholders for what is not set."""
    bucket, image_uri = (values[key] or PLACEHOLDERS[key] for key in ("bucket", "image_uri"))
    folder_url = join_url(f"s3://{bucket}", cfg.registry_prefix.strip("/"), str(cfg.registry), archive.sha256[:12])
    return RegisteredModel(
        group=str(cfg.registry),
        description=f"{properties['model_version']}: exact on {properties['accuracy']} of the test bins",
        image_uri=image_uri,
        model_url=join_url(folder_url, ARCHIVE_NAME),
        metrics_url=join_url(folder_url, METRICS_NAME),
        content_types=RAW,
        instance_type=cfg.instance_type,
        properties=properties,
        commit=properties["commit"],
        environment=values["environment"],
        tags=values["tags"],
    )


def _register(cfg: DictConfig, model: RegisteredModel, archive: ModelArchive, challenger: Evaluation) -> str | None:
    """Makes a version of the group in the registry; returns its ARN, None where a person said no."""
    aws, endpoints = open_endpoints(cfg)
    refuse(list(account_problems(aws, None, cfg.bucket)))
    if not is_agreed(f"Make it a version of {cfg.registry} in the model registry, {model.approval}?", cfg.yes):
        return None
    metrics = Folder(challenger.url, build(cfg.storage)).read(METRICS_NAME)
    storage = StorageOptions(profile=cfg.profile, region=aws.region_name, anonymous=False)
    folder = Folder(split_url(model.model_url)[0], storage)
    folder.write_together({ARCHIVE_NAME: archive.content, METRICS_NAME: metrics})
    arn = ModelRegistry(endpoints.client).register(model)
    print(f"Registered: {arn}, {model.approval}")
    if model.approval == PENDING:
        approve = f"aws sagemaker update-model-package --model-package-arn {arn} --model-approval-status {APPROVED}"
        print(f"To approve it: {approve}")
    return arn
