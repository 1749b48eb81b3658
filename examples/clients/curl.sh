#!/usr/bin/env bash
# Inference with curl, in JSON.
#
#   bash curl.sh [--url localhost:8000]
set -euo pipefail

url=localhost:8000
if [ "${1:-}" = --url ]; then
    url=${2:?--url takes an address}
fi

# Ready: the answer is the status, there is no body.
curl -sS --fail "$url/v2/health/ready"

echo "the server:"
curl -sS --fail "$url/v2"
echo
echo "the model:"
curl -sS --fail "$url/v2/models/add_sub"
echo
echo "the sum and the difference:"
curl -sS --fail "$url/v2/models/add_sub/infer" --data '{
  "inputs": [
    {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]},
    {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16], "data": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}
  ]
}'
echo
