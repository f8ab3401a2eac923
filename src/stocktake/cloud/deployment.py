"""What a deployment sends, in its order, from plain values: the requests of endpoint_requests.py put together."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from stocktake.cloud import endpoint_requests, endpoint_scaling, endpoint_upkeep, inference_components
from stocktake.cloud.endpoint_requests import DIGEST_CHARACTERS, Request
from stocktake.cloud.endpoint_scaling import Scaling
from stocktake.cloud.endpoint_upkeep import Update
from stocktake.cloud.served_model import ServedModel
from stocktake.cloud.validation import problem_lines

MAX_NAME_CHARACTERS = 63 - 2 * (1 + DIGEST_CHARACTERS)  # AWS's 63, less the digests of model and config
ENDS_AT = "ends-at"  # tag: when the endpoint shall be gone, ISO 8601
OWN_TAGS = ("project", "endpoint", ENDS_AT)
# Stands in an alarm's actions for the scaling policy that is put before it, whose ARN holds a name of AWS's own.
POLICY_BEFORE = "arn:aws:autoscaling:us-east-1:000000000000:scalingPolicy:the-policy-before"


@dataclass(frozen=True)
class Call:
    """One request to one of AWS's services, by botocore's names."""

    service: str
    operation: str
    request: Request

    def problems(self, config_keys: Mapping[str, str]) -> list[str]:
        return problem_lines(self.operation, self.request, config_keys, self.service)


@dataclass(frozen=True)
class Before:
    """What there is of an endpoint before a deployment.

    Attributes:
        answering: The variant that answers, as CreateEndpointConfig takes it; None where AWS was not asked.
        has_component: Its model is an inference component that is there; not where a deployment was broken off.
    """

    answering: Mapping[str, Any] | None = None
    has_component: bool = True


@dataclass(frozen=True)
class Endpoint(ServedModel):
    """What an endpoint shall be; the keys of conf/deploy/deploy.yaml.

    Attributes:
        target: `serverless`, `realtime` or `async`.
        capture_url: S3 folder for requests and answers; None captures nothing.
        async_output_url: S3 folder for the answers of an asynchronous endpoint.
        ttl_h: Hours until it shall be deleted; None for no end.
        scheduler_role_arn: With which EventBridge deletes it; None leaves that to a person.
        shadow_percent: Of the requests, which the model is given copies of while what runs answers; 0: it answers.
    """

    name: str
    target: str
    role_arn: str
    image_uri: str
    instance_type: str
    num_instances: int
    memory_mb: int
    max_concurrency: int
    capture_url: str | None = None
    capture_percent: int = 100
    async_output_url: str | None = None
    ttl_h: float | None = None
    scheduler_role_arn: str | None = None
    kms_key: str | None = None
    network_isolation: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()
    scaling: Scaling = field(default_factory=Scaling)
    shadow_percent: int = 0
    update: Update = field(default_factory=Update)

    def ends_at(self, now: datetime) -> datetime | None:
        return None if self.ttl_h is None else now + timedelta(hours=self.ttl_h)

    @property
    def hosts_component(self) -> bool:
        """Whether its model is an inference component, without which no instances at all are not to be had."""
        return self.target == "realtime" and self.scaling.is_to_zero

    def stages(self, model_url: str, now: datetime, before: Before | None = None) -> list[list[Call]]:
        """Returns the requests that bring the endpoint to a model, in order; after each stage AWS has to come to rest.

        Args:
            model_url: Of model.tar.gz in S3; another archive has another one.
            now: With a time zone.
            before: The endpoint of this name; None where there is none yet.
        """
        stages = [self.calls(model_url, now, before)]
        if self.hosts_component and not (before and before.has_component):
            component = inference_components.create(self.name, self._model_name(model_url), self.memory_mb, self.tags)
            stages.append([Call("sagemaker", "CreateInferenceComponent", component)])
        return [stage for stage in (*stages, self.scaling_calls()) if stage]

    def calls(self, model_url: str, now: datetime, before: Before | None = None) -> list[Call]:
        """Returns the requests of the first stage."""
        ends_at = self.ends_at(now)
        tags = {**self.tags, "endpoint": self.name}
        tags |= {ENDS_AT: ends_at.astimezone(UTC).isoformat(timespec="seconds")} if ends_at else {}
        model_name = self._model_name(model_url)
        config_name = f"{model_name}-{now.astimezone(UTC):%y%m%d%H%M%S}"
        model = Call("sagemaker", "CreateModel", self.model(model_name, model_url, tags))
        alarms = [Call("cloudwatch", "PutMetricAlarm", alarm) for alarm in self._alarms()]
        if self.hosts_component and before:
            update = [self._update_component(model_name)] if before.has_component else []
            return [model, *alarms, *update, *self._planned_end(ends_at)]
        return [
            model,
            Call("sagemaker", "CreateEndpointConfig", self._config(config_name, model_name, tags, before)),
            *alarms,
            self._update(config_name) if before else self._create(config_name, tags),
            *self._planned_end(ends_at),
        ]

    def _model_name(self, model_url: str) -> str:
        return f"{self.name}-{self._model_digest(model_url)}"

    def _model_digest(self, model_url: str) -> str:
        """Returns what tells this model from others of the endpoint; of equal digests one is there already."""
        network = [self.network_isolation, *self.subnets, "", *self.security_groups]
        what = [model_url, self.image_uri, self.role_arn, sorted(self.environment.items()), network]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:DIGEST_CHARACTERS]

    def _config(self, name: str, model_name: str, tags: Mapping[str, str], before: Before | None) -> Request:
        variant, shadow = self._variant(model_name), None
        if self.shadow_percent:
            # What answers is not known before AWS is asked: in a dry run another of the kind stands there.
            variant = (before and before.answering) or self._variant(f"{self.name}-as-it-is")
            shadow = endpoint_requests.shadow_variant(
                model_name, self.instance_type, self.num_instances, variant, self.shadow_percent
            )
        return endpoint_requests.endpoint_config(
            name,
            variant,
            shadow,
            role_arn=self.role_arn if self.hosts_component else None,
            capture_url=self.capture_url,
            capture_percent=self.capture_percent,
            async_output_url=self.async_output_url if self.target == "async" else None,
            kms_key=self.kms_key,
            tags=tags,
        )

    def _variant(self, model_name: str) -> Request:
        if self.target == "serverless":
            return endpoint_requests.serverless_variant(model_name, self.memory_mb, self.max_concurrency)
        if self.hosts_component:
            return inference_components.variant(self.instance_type, self.scaling.max_instances or 1)
        return endpoint_requests.instance_variant(model_name, self.instance_type, self.num_instances)

    def _alarms(self) -> list[Request]:
        update = self.update
        return endpoint_upkeep.alarms(self.name, update.max_errors, update.max_latency_s, self.hosts_component)

    def _alarm_names(self) -> list[str]:
        return [alarm["AlarmName"] for alarm in self._alarms()]

    def _create(self, config_name: str, tags: Mapping[str, str]) -> Call:
        return Call("sagemaker", "CreateEndpoint", endpoint_requests.create_endpoint(self.name, config_name, tags))

    def _update(self, config_name: str) -> Call:
        update = self.update
        shifting = endpoint_requests.blue_green(
            update.shift,
            update.step_percent,
            update.wait_s,
            update.termination_wait_s,
            update.max_time_s,
            self._alarm_names(),
        )
        return Call("sagemaker", "UpdateEndpoint", endpoint_requests.update_endpoint(self.name, config_name, shifting))

    def _update_component(self, model_name: str) -> Call:
        update = self.update
        request = inference_components.update(
            self.name, model_name, self.memory_mb, update.wait_s, update.max_time_s, self._alarm_names()
        )
        return Call("sagemaker", "UpdateInferenceComponent", request)

    def scaling_calls(self) -> list[Call]:
        """Returns the requests that make its instances follow the requests, for once it is in service.

        Application Auto Scaling takes no variant of an endpoint that is still being made. The alarm's action is that
        of the policy before it, which AWS names.
        """
        scaling, service = self.scaling, "application-autoscaling"
        if self.target == "serverless" or scaling.max_instances is None:
            return []
        scalable = (
            endpoint_scaling.component(self.name)
            if self.hosts_component
            else endpoint_scaling.variant(self.name, self.target == "async")
        )
        calls = [
            Call(service, "RegisterScalableTarget", endpoint_scaling.register(scalable, scaling)),
            Call(service, "PutScalingPolicy", endpoint_scaling.follow_load(self.name, scalable, scaling)),
        ]
        if scaling.is_to_zero:
            alarm = endpoint_scaling.unanswered_alarm(self.name, scalable, POLICY_BEFORE)
            calls += [
                Call(service, "PutScalingPolicy", endpoint_scaling.leave_zero(self.name, scalable, scaling)),
                Call("cloudwatch", "PutMetricAlarm", alarm),
            ]
        return calls

    def _planned_end(self, ends_at: datetime | None) -> list[Call]:
        if ends_at is None or self.scheduler_role_arn is None or self.shadow_percent:
            return []  # a shadow says nothing of how long the endpoint beside it shall be there
        role_arn, hosts_component = self.scheduler_role_arn, self.hosts_component
        requests = endpoint_upkeep.planned_end(self.name, role_arn, ends_at, hosts_component)
        return [Call("scheduler", "CreateSchedule", request) for request in requests]
