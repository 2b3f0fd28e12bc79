#!/bin/sh
# `docker run IMAGE run DIR` runs al-engine; work pools and compose.yaml start `prefect`, and Dask's clusters `dask`.
case "$1" in
    prefect | dask | python) exec "$@" ;;
    *) exec al-engine "$@" ;;
esac
