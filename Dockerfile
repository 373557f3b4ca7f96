# MiloZero in a container, for CPUs:
#   docker build -t milozero .
#   docker run -v $(pwd):/workspace milozero mpiexec -n 3 python main.py --task=train --env_id=Hopper
# Commands run as the owner of the mounted folder and write to its data/. The image also contains the code: without a mounted
# folder, commands run as the user milo.
# For NVIDIA GPUs: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130, then docker run --gpus all … --cuda
# tests/container.sh builds and tests the image without Docker.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# g++ and Python's headers for compiled updates, EGL with Mesa for headless rendering, git to record the commit in a run's
# metadata. If the base image has no Python, install Debian's.
RUN apt-get update \
 && export DEBIAN_FRONTEND=noninteractive \
 && { command -v python3 || apt-get install -y --no-install-recommends python3 python3-dev python3-venv; } \
 && apt-get install -y --no-install-recommends \
      ca-certificates g++ git make libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri \
 && rm -rf /var/lib/apt/lists/*

# torch alone first, from its own index: otherwise a later package would fetch another build of it. Delete 600 MB of unused
# files: the images and meshes of EnvPool's other suites (MyoSuite, Playground, football) and torch's own tests. Keep the
# suites' task lists (.json): `import envpool` fails without them.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt requirements-opensim.txt /tmp/
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} \
      "$(grep -o '^torch==[^ ]*' /tmp/requirements.txt)" \
 && /opt/venv/bin/pip install --no-cache-dir -r /tmp/requirements.txt \
 && /opt/venv/bin/pip install --no-cache-dir --no-deps -r /tmp/requirements-opensim.txt \
 && cd /opt/venv/lib/python3*/site-packages \
 && find envpool_assets_mujoco_*/mujoco envpool_assets/gfootball -type f ! -name '*.json' -delete \
 && rm -rf torch/test /tmp/requirements*.txt

# Open MPI: allow more workers than cores, and allow root (--user=0).
ENV PATH=/opt/venv/bin:$PATH \
    VIRTUAL_ENV=/opt/venv \
    MUJOCO_GL=egl \
    OMPI_ALLOW_RUN_AS_ROOT=1 \
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe \
    PYTHONUNBUFFERED=1

# Commands run as root only if root owns /workspace (as in rootless Docker, where root is you). Every user, including one set
# with --user, gets this home directory and a user name, which torch requires.
RUN useradd --uid 1000 --create-home milo && chmod 1777 /home/milo \
 && printf '%s\n' '#!/bin/sh' 'owner=$(stat -c %u /workspace) group=$(stat -c %g /workspace)' \
      '[ "$(id -u)" != 0 ] || exec setpriv --reuid "$owner" --regid "$group" --clear-groups "$@"' \
      'exec "$@"' > /usr/local/bin/as_owner \
 && chmod 755 /usr/local/bin/as_owner
ENV HOME=/home/milo USER=milo
COPY --chown=milo . /workspace
RUN chown milo:milo /workspace /workspace/data
WORKDIR /workspace
ENTRYPOINT ["as_owner"]
CMD ["python", "main.py", "-h"]
