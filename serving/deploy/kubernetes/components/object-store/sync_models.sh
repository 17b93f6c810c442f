#!/bin/sh
# Keeps MODEL_DIRECTORY equal to the newest KEEP_VERSIONS complete versions of MODEL_REMOTE, for a model server beside it.
#
# A version <number>/ of the remote is complete once the object <number>.complete lies beside it: an object store has no
# rename, so the uploader writes that marker last. Locally a version appears, and goes, by one rename: the model server
# loads a version folder the moment it sees it, whole or not, and a number that failed once is not tried again.
#
# When the remote cannot be listed, or lists no complete version, everything local stays: an outage of the store must not
# unload the model that serves.
#
# MODEL_REMOTE, MODEL_DIRECTORY; KEEP_VERSIONS (2); POLL_SECONDS (30; 0: once, with the result as exit status).
set -u
: "${MODEL_REMOTE:?expected the remote folder with the versions, such as store:bucket/ner}"
: "${MODEL_DIRECTORY:?expected the local folder for the versions, such as /models/ner}"
keep=${KEEP_VERSIONS:-2}
poll=${POLL_SECONDS:-30}

log() { echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) model-sync: $*"; }

fetch() {
  incoming="$MODEL_DIRECTORY/.incoming-$1"
  rm -rf "$incoming"
  # Without its variables a version goes AVAILABLE all the same, fails every request and takes the good one down.
  if rclone copy "$MODEL_REMOTE/$1" "$incoming" && [ -f "$incoming/saved_model.pb" ] &&
    [ -f "$incoming/variables/variables.index" ]; then
    mv "$incoming" "$MODEL_DIRECTORY/$1" && log "version $1 is here"
  else
    rm -rf "$incoming"
    log "version $1 could not be downloaded, or lacks saved_model.pb or variables/variables.index: left out, tried again"
    return 1
  fi
}

sync_once() {
  if ! listing=$(rclone lsf --files-only --max-depth 1 "$MODEL_REMOTE"); then
    log "$MODEL_REMOTE cannot be listed: what is here stays"
    return 1
  fi
  wanted=$(echo "$listing" | sed -n 's/^\([0-9][0-9]*\)\.complete$/\1/p' | sort -n | tail -n "$keep")
  if [ -z "$wanted" ]; then
    log "$MODEL_REMOTE has no <number>.complete: what is here stays"
    return 1
  fi
  for version in $wanted; do
    [ -d "$MODEL_DIRECTORY/$version" ] || fetch "$version" || return 1
  done
  for folder in "$MODEL_DIRECTORY"/[0-9]*; do
    version=${folder##*/}
    if [ -d "$folder" ] && ! echo "$wanted" | grep -qx "$version"; then
      mv "$folder" "$MODEL_DIRECTORY/.removed-$version" && rm -rf "$MODEL_DIRECTORY/.removed-$version"
      log "version $version is gone"
    fi
  done
}

mkdir -p "$MODEL_DIRECTORY"
# What an earlier run of this container left unfinished.
rm -rf "$MODEL_DIRECTORY"/.incoming-* "$MODEL_DIRECTORY"/.removed-*
if [ "$poll" -eq 0 ]; then
  sync_once
  exit
fi
# `sleep` in the background, so that SIGTERM ends the wait at once.
trap 'exit 0' TERM INT
while true; do
  sync_once
  sleep "$poll" &
  wait $!
done
