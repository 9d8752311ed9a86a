#!/bin/sh
# The least that a person would write to have a job's traces: wrapper.sh DIRECTORY NUMBER
set -eu
job=$1/$2
mkdir "$job"
printf '#!/bin/sh\ntrue\n' >"$job/script"
code=0
sh "$job/script" >"$job/stdout" 2>"$job/stderr" || code=$?
echo "$code" >"$job/exit"
