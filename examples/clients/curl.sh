#!/bin/sh
# Asks a model server over REST: sh examples/clients/curl.sh localhost:8501 news
set -eu
server=${1:-localhost:8501}
model=${2:-ner}

echo "# the state of the model's versions"
curl --silent --show-error --fail "http://$server/v1/models/$model"

echo "# one object for each text: entity_count says how many cells of each list are entities, the rest is padding"
curl --silent --show-error --fail --header "Content-Type: application/json" \
    --data '{"instances": ["小明住在北京。", "WHO 12"]}' "http://$server/v1/models/$model:predict"
echo

echo "# the same by column, from one version; the list of versions also has those that failed or are unloaded"
version=$(curl --silent --show-error --fail "http://$server/v1/models/$model" |
    awk -F '"' '$2 == "version" { version = $4 } $2 == "state" && $4 == "AVAILABLE" { print version; exit }')
curl --silent --show-error --fail --data '{"inputs": {"text": ["WHO 12"]}}' \
    "http://$server/v1/models/$model/versions/$version:predict"
echo
