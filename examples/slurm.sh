#!/bin/bash
# The process that conducts a campaign, as a Slurm job of its own (docs/scaling.md): `sbatch examples/slurm.sh runs/mine`.
# With `executor: dask` it submits the jobs that compute. It needs one core. Two minutes before its time limit it stops,
# and submits itself again, until the campaign has its verdict.
#SBATCH --job-name=al-engine
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -u
campaign=${1:?give the campaign directory}

# A server of its own, on a port that no other user has: the login node's may belong to somebody else.
export PREFECT_HOME="$campaign/.prefect"
al-engine resume "$campaign" &
engine=$!
trap 'kill -TERM $engine' TERM
wait $engine || true
wait $engine
status=$?
[ $status -eq 4 ] && sbatch "$0" "$campaign" # stopped before its end, nothing finished is lost
exit $status
