#!/bin/bash
# The process that conducts a campaign, as a Slurm job of its own (docs/scaling.md): `sbatch examples/slurm.sh runs/mine`.
# With `executor: dask` it submits the jobs that compute. It needs one core. Two minutes before its time limit it stops,
# and submits itself again, until the campaign has its verdict. If it stops for another reason, it ends.
#SBATCH --job-name=al-engine
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -u
campaign=${1:?give the campaign directory}

# A server of its own, on a port that no other user has: the login node's may belong to somebody else. Its database, which
# no campaign needs, lies on a local disk, because SQLite is slow and unsafe on network file systems.
export PREFECT_HOME="${TMPDIR:-/tmp}/al-engine-prefect-$(id -u)-${SLURM_JOB_ID:-$$}"
al-engine resume "$campaign" &
engine=$!
limit=
trap 'limit=reached; kill -TERM $engine' TERM
wait $engine || true
wait $engine
status=$?
# Status 4: it can be resumed. Without the signal it would fail again, such as with a full disk.
[ "$limit" = reached ] && [ $status -eq 4 ] && sbatch "$0" "$campaign"
exit $status
