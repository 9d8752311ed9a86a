# Length and share of G and C of every sequence in a FASTA file, to statistics.tsv; a summary to stdout.
BEGIN { OFS = "\t"; table = "statistics.tsv"; print "id", "length", "gc_percent", "unknown" > table }

function finish() {
    if (id == "") return
    upper = toupper(sequence)
    length_all = length(upper)
    unknown = gsub(/[^ACGT]/, "", upper)
    known = length(upper)
    gc = gsub(/[GC]/, "", upper)
    printf "%s\t%d\t%.2f\t%d\n", id, length_all, (known ? 100 * gc / known : 0), unknown > table
    sequences++; bases += length_all; all_known += known; all_gc += gc
    if (length_all > longest) { longest = length_all; longest_id = id }
}

/^>/ { finish(); id = substr($1, 2); sequence = ""; next }
{ sequence = sequence $0 }

END {
    finish()
    if (!sequences) { print "no sequence in " FILENAME > "/dev/stderr"; exit 1 }
    printf "%d sequences, %d bases, longest %s (%d), GC %.2f %%\n", sequences, bases, longest_id, longest, 100 * all_gc / all_known
}
