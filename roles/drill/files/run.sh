#!/bin/sh
# run.sh FILE ID SECONDS: notes that it ran, outside the daemons: a line at its start and one at its end, each appended whole.
file=$1 id=$2
note() { printf '{"event":"%s","id":"%s","host":"%s","pid":%d,"at":%s}\n' "$1" "$id" "$(uname -n)" $$ "$(date +%s.%N)" >>"$file"; }
note start || exit 1
sleep "$3"
note end
