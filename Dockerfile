# `parathinker serve` in a container:
#
#   docker build -t parathinker --build-arg TORCH_INDEX=ADDRESS .
#   docker run -p 127.0.0.1:8000:8000 -e PARATHINKER_SERVE_API_KEYS=KEY parathinker
#
# ADDRESS is one of PyTorch's package indexes, which its install page names: that for CPUs makes a
# small image, that of a CUDA version one for `docker run --gpus all`. Without it PyTorch comes from
# Python's own index, which for Linux on x86-64 has the build for CUDA.
#
# `--build-arg EXTRAS=serve,vllm` makes an image for `--backend vllm` on GPUs. vLLM chooses PyTorch and
# other packages itself, so constraints.txt and TORCH_INDEX say nothing there.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=
ARG EXTRAS=serve
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The compiled kernels need a C++ compiler, here only.
RUN apt-get update \
 && apt-get install --no-install-recommends -y g++ \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/parathinker
ENV PATH=/opt/parathinker/bin:$PATH
WORKDIR /source
COPY constraints.txt ./
# PyTorch first, and by itself: it is most of the image, and changes with its version only.
RUN case ",$EXTRAS," in \
  *,vllm,*) touch /constraints.txt ;; \
  *) cp constraints.txt / \
  && pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c /constraints.txt torch ;; \
esac
COPY . .
RUN pip install -c /constraints.txt ".[$EXTRAS]"

FROM python:${PYTHON}-slim
ARG EXTRAS=serve
# vLLM compiles kernels when it starts.
RUN case ",$EXTRAS," in \
  *,vllm,*) apt-get update \
  && apt-get install --no-install-recommends -y g++ \
  && rm -rf /var/lib/apt/lists/* ;; \
esac
RUN useradd --create-home --uid 10001 parathinker
COPY --from=build /opt/parathinker /opt/parathinker
ENV PATH=/opt/parathinker/bin:$PATH \
    PARATHINKER_SERVE_HOST=0.0.0.0 \
    PARATHINKER_SERVE_PORT=8000
USER parathinker
WORKDIR /home/parathinker
EXPOSE 8000
# No key, no start: a container listens beyond its machine.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s CMD ["python", "-c", \
  "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['PARATHINKER_SERVE_PORT']}/health\", timeout=4)"]
ENTRYPOINT ["parathinker", "serve"]
