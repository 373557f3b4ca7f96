#!/usr/bin/env bash
# Build the image without Docker and run the README's Docker commands in it: train with three workers, evaluate, record a
# video and run the tests. Needs root on Debian, the packages buildah and debootstrap, and about 10 GB.
#   tests/container.sh                 # everything: twenty minutes
#   TESTS="tests/unit tests/cli" …     # pytest arguments for the tests in the container; TESTS=none skips them
#   BASE=python:3.11-slim-bookworm …   # pull this base image instead of building one with debootstrap
#   OPTIONS="-v /mirror:/mirror:ro" …  # extra options for `buildah bud` and `buildah run`, such as a package mirror
#   TORCH_INDEX= …                     # package index for torch, as in the Dockerfile; empty: pip's default index
# The base image is kept for the next run; `buildah rmi milozero-base` removes it.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in buildah debootstrap; do
  command -v $tool >/dev/null || { echo "error: $tool is missing: sudo apt install buildah debootstrap" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "error: debootstrap needs root" >&2; exit 2; }
all="tests/unit tests/cli"
TESTS=${TESTS:-$all}
read -ra options <<< "${OPTIONS:-}"
export BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
containers=()
clean() {
  for one in "${containers[@]}"; do buildah rm "$one" >/dev/null || true; done
  rm -rf "$work"
}
trap clean EXIT
say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

if [ -z "${BASE:-}" ]; then
  BASE=localhost/milozero-base
  if ! buildah inspect --type image $BASE >/dev/null 2>&1; then
    say "building the Debian base image"
    debootstrap --variant=minbase bookworm "$work/root" > "$work/debootstrap.log" || { tail -20 "$work/debootstrap.log"; exit 1; }
    rm -rf "$work"/root/var/cache/apt/archives/*.deb
    one=$(buildah from scratch)
    containers+=("$one")
    buildah add --quiet "$one" "$work/root" / >/dev/null
    buildah commit --quiet "$one" $BASE
    rm -rf "$work/root"
  fi
fi

say "building the image"
arguments=(--build-arg "BASE=$BASE")
[ -z "${TORCH_INDEX+set}" ] || arguments+=(--build-arg "TORCH_INDEX=$TORCH_INDEX")
buildah bud "${options[@]}" "${arguments[@]}" -t localhost/milozero . \
  > "$work/build.log" 2>&1 || { tail -40 "$work/build.log"; exit 1; }
one=$(buildah from localhost/milozero)
containers+=("$one")
size=$(du -sh "$(buildah mount "$one")" | cut -f1)
say "built: $size"

# The mounted folder belongs to a user of this machine; the entry point runs commands as that user.
mkdir "$work/checkout"
commit=$(git stash create)
git archive "${commit:-HEAD}" | tar -x -C "$work/checkout"
chown -R 1234:1234 "$work/checkout"
as_root() { buildah run "${options[@]}" "$@"; }
inside() { as_root -v "$work/checkout:/workspace" "$one" -- /usr/local/bin/as_owner "$@"; }

say "checking users and versions"
inside sh -c 'id -u; python --version; mpiexec --version | head -1; g++ --version | head -1'
user=$(inside id -u)
[ "$user" = 1234 ]
user=$(as_root "$one" -- /usr/local/bin/as_owner id -un)
[ "$user" = milo ]

say "training with the README's command"
inside mpiexec -n 3 python main.py \
  --wandb_project=test-name-project --wandb_entity=wandb_username --task=train --algo=ppo --execution_time=00:01:00 \
  --save_frequency=50 --p_perception_stack=mlp_100 --v_perception_stack=mlp_100 --d_perception_stack=mlp_100 --batch_norm_all \
  --p_lr=0.0001 --v_lr=0.0001 --clip_norm=0.5 --rollout_len=2048 --batch_size=64 --num_demos=16 --uuid=some_name.seed02 \
  --env_id=Hopper --expert_path=data/demos/Hopper-v3 --seed=2 | tail -5
test -s "$work/checkout/data/checkpoints/some_name.seed02/last.pt"

say "training with compiled updates"
inside python main.py --task=train --env_id=InvertedPendulum --num_iters=2 --compile --uuid=compiled | tail -3

say "evaluating the first run and recording a video"
inside python main.py --task=eval --model_path=data/checkpoints/some_name.seed02 --iter_num=last --num_trajs=1 --render --save_traj | tail -5
test -s "$work/checkout/data/evaluations/some_name.seed02/last/episode_000.mp4"
test -s "$work/checkout/data/evaluations/some_name.seed02/last/episode_000.h5"

say "training as another user, without a mounted folder"
as_root --user 4321 "$one" -- /usr/local/bin/as_owner python main.py --task=train --env_id=CartPole --num_iters=1 --data_dir=/tmp/data | tail -2

if [ "$TESTS" != none ]; then
  say "running pytest $TESTS"
  as_root "$one" -- pip install --quiet --no-cache-dir -r requirements-dev.txt
  inside sh -c "git init -q . && python -m pytest $TESTS"
fi
say "all checks passed"
