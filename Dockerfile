# Three images. One for training jobs that starts without installing anything:
#   docker build --platform linux/amd64 --provenance=false --output type=docker --target training --tag <account>.dkr.ecr.<region>.amazonaws.com/stocktake:1 .
#   python train.py -m experiment=resnet50_spot hydra/launcher=sagemaker compute.image_uri=<that tag> compute.requirements=null
# The job's own code comes through its channel `code` and goes before the copy in here. SageMaker's instances are amd64,
# and it refuses an image whose manifest is of the OCI format, which buildx writes with a provenance: hence the options.
#
# And one that serves an exported model, here or behind a SageMaker endpoint:
#   docker build --platform linux/amd64 --provenance=false --output type=docker --target serving --tag stocktake-serving:1 .
#   docker run --publish 8080:8080 --volume "$PWD/model:/opt/ml/model:ro" stocktake-serving:1
#
# And one that looks after it, for the schedule of scripts/monitor.py:
#   docker build --platform linux/amd64 --provenance=false --output type=docker --target monitoring --tag stocktake-monitoring:1 .

# AWS's PyTorch image: torch, CUDA, NCCL and the network drivers of its instances. Log in first:
#   aws ecr get-login-password --region us-east-1 | docker login --username AWS --password-stdin 763104351884.dkr.ecr.us-east-1.amazonaws.com
ARG BASE=763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker
FROM ${BASE} AS training

WORKDIR /opt/stocktake
# Before the code, so that a change of it does not install everything again.
COPY requirements.container.lock ./
RUN python3 -m pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.container.lock
COPY train.py ./
COPY conf ./conf
COPY src ./src
ENV PYTHONPATH=/opt/stocktake/src \
    PYTHONUNBUFFERED=1
# In this form, because a shell as the first process would keep SIGTERM to itself.
ENTRYPOINT ["python3", "-m", "stocktake.cloud.container"]


FROM python:3.13-slim AS serving

WORKDIR /opt/stocktake
COPY requirements.serve.lock ./
RUN python3 -m pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.serve.lock
COPY conf ./conf
COPY src ./src
COPY scripts/serve.py ./scripts/
# Written now, because the user below may not write beside the code.
RUN python3 -m compileall -q src && useradd --system --no-create-home --shell /usr/sbin/nologin stocktake
USER stocktake
ENV PYTHONPATH=/opt/stocktake/src \
    PYTHONUNBUFFERED=1
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/ping', timeout=2)"]
# SageMaker adds the word `serve`.
ENTRYPOINT ["python3", "scripts/serve.py", "host=0.0.0.0"]


FROM python:3.13-slim AS monitoring

WORKDIR /opt/stocktake
COPY requirements.monitor.lock ./
RUN python3 -m pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.monitor.lock
COPY conf ./conf
COPY src ./src
COPY scripts/monitor.py ./scripts/
ENV PYTHONPATH=/opt/stocktake/src \
    PYTHONUNBUFFERED=1
ENTRYPOINT ["python3", "scripts/monitor.py"]
