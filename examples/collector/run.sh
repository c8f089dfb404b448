#!/bin/sh
# genai-meter and the OpenTelemetry Collector before it, until Ctrl-C: run.sh DIRECTORY. Other programs by GENAI_METER and OTELCOL.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
data=${1:?"usage: run.sh DIRECTORY (for the ledger and the queue)"}
meter=${GENAI_METER:-genai-meter}
otelcol=${OTELCOL:-$here/../../.tools/collector/otelcol}
mkdir -p "$data"
"$meter" serve --data-dir "$data/genai-meter" &
serving=$!
"$otelcol" --config "$here/otelcol.yaml" --set "extensions::file_storage::directory=$data/queue" &
collecting=$!
trap 'kill $collecting $serving 2>/dev/null' EXIT
trap 'exit 0' INT TERM
wait $collecting
