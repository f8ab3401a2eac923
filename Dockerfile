# An image for training jobs that starts without installing anything:
#   docker build --target training --tag <account>.dkr.ecr.<region>.amazonaws.com/stocktake:1 .
#   python train.py -m experiment=resnet50_spot hydra/launcher=sagemaker compute.image_uri=<that tag> compute.requirements=null
# The job's own code comes through its channel `code` and goes before the copy in here.

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
