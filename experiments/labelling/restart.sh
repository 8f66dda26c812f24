#!/bin/sh
# Twenty molecules, killed in the middle and restarted; molecules that do not converge; a file with errors.
#
#     sh experiments/labelling/restart.sh
set -u
folder=$(mktemp -d)
npol enumerate 2 --frames 1 -o "$folder/molecules.extxyz"
label="npol label $folder/molecules.extxyz -o $folder/labels.h5 --level PBE/3-21G --accuracy fast --quantities forces"

$label 2> "$folder/log" &
process=$!
while [ "$(grep -c left "$folder/log")" -lt 8 ]; do sleep 0.1; done
kill -KILL "$process"
echo "killed after: $(tail -n 1 "$folder/log")"
$label 2> "$folder/log"
echo "restarted with: $(head -n 1 "$folder/log")"

npol label "$folder/molecules.extxyz" -o "$folder/few.h5" --level PBE/3-21G --accuracy fast --quantities forces \
    --max-cycles 2 2> "$folder/log"
grep FAILED "$folder/log" | head -n 2

printf '2\nspin=1\nO 0 0 0\nH 0 0 0.97\n2\n\nO 0 0 0\nHx 0 0 0.97\n' > "$folder/errors.xyz"
npol label "$folder/errors.xyz" -o "$folder/errors.h5"
rm -r "$folder"
