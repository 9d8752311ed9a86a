#!/usr/bin/env python3
"""Prints the sample jobs as JSON, as an app in any language would make them:

    python3 docs/samples/jobs.py | execd submit --wait -

They work on `sequences.fasta` (made up, of believable length and composition) and on the texts of this repository.  Three of them
must not end well.  `x-expected` is the app's own: execd keeps what it does not know as it is.
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

SEQUENCES = (HERE / "sequences.fasta").read_text()
STATISTICS = (HERE / "statistics.awk").read_text()
TEXTS = {path.name: path.read_text() for path in sorted([ROOT / "README.rst", *ROOT.glob("docs/*.rst")])}

LIMITS = {"memory": "1G", "walltime": "1m"}

SORT_AND_MERGE = """set -e
for text in *.rst; do
    tr -cs 'A-Za-z' '\\n' < "$text" | tr 'A-Z' 'a-z' | sort > "$text.sorted"
done
sort -m *.sorted | uniq -c | sort -k1,1nr -k2 > words.txt
head -n 3 words.txt
"""

KMERS = """set -e
awk '!/^>/ { for (i = 1; i <= length($0) - 7; i++) seen[substr($0, i, 8)]++ }
     END { for (kmer in seen) print seen[kmer], kmer }' sequences.fasta | sort -k1,1nr -k2 > kmers.txt
head -n 1 kmers.txt
"""

COMPOSITION = """set -e
awk '/^>/ { file = "by-organism/" $2 "_" $3 ".fasta" } { print > file }' sequences.fasta
for file in by-organism/*.fasta; do
    echo "$(grep -c '^>' "$file") $(basename "$file" .fasta)"
done
"""

DAMAGED = "".join(SEQUENCES.splitlines(keepends=True)[1:200])

JOBS = [
    {
        "name": "sequence statistics",
        "command": ["awk", "-f", "statistics.awk", "sequences.fasta"],
        "inputs": {"sequences.fasta": SEQUENCES, "statistics.awk": STATISTICS},
        "outputs": ["statistics.tsv"],
        "x-expected": {"status": "finished", "results": ["statistics.tsv"]},
    },
    {
        "name": "8-mers, counted and sorted",
        "command": KMERS,
        "inputs": {"sequences.fasta": SEQUENCES},
        "outputs": ["kmers.txt"],
        "x-expected": {"status": "finished", "results": ["kmers.txt"]},
    },
    {
        "name": "one file for each organism",
        "command": COMPOSITION,
        "inputs": {"sequences.fasta": SEQUENCES, "by-organism/about": "One file for each organism.\n"},
        "outputs": ["by-organism/*.fasta", "stdout"],
        "x-expected": {"status": "finished", "results": ["by-organism/Quercus_robur.fasta", "stdout"]},
    },
    {
        "name": f"words of {len(TEXTS)} texts, sorted and merged",
        "command": SORT_AND_MERGE,
        "inputs": TEXTS,
        "outputs": ["words.txt", "*.sorted"],
        "x-expected": {"status": "finished", "results": ["words.txt", *(f"{name}.sorted" for name in TEXTS)]},
    },
    {
        "name": "word counts",
        "command": ["wc", "-w", *TEXTS],
        "inputs": TEXTS,
        "outputs": ["stdout"],
        "x-expected": {"status": "finished", "results": ["stdout"]},
    },
    {
        "name": "fails: damaged sequences",
        "command": ["awk", '!/^>/ && NR == 1 { print FILENAME ": no header" > "/dev/stderr"; exit 3 }', "damaged.fasta"],
        "inputs": {"damaged.fasta": DAMAGED},
        "outputs": ["stderr"],
        "x-expected": {"status": "error", "code": 3, "reason": "exit code", "results": ["stderr"]},
    },
    {
        "name": "is killed by a signal: its own",
        "command": "kill -KILL $$",
        "x-expected": {"status": "error", "signal": "SIGKILL", "reason": "signal"},
    },
    {
        "name": "takes longer than its walltime",
        "command": ["sleep", "60"],
        "resources": {"walltime": "1s"},
        "x-expected": {"status": "error", "reason": "walltime"},
    },
]

if __name__ == "__main__":
    print(json.dumps([{"project": "samples", "resources": LIMITS, **job} for job in JOBS]))
