# Equal tables of several seeds to one: the mean of every cell and, in a column behind it, the standard deviation over the
# tables ("-" with one). The first `keys` columns name a row. -v rows="puzzle=spatial pof" chooses rows, in this order,
# and may give them other names; empty: all. -v only=REGEX chooses columns by their titles. Columns without a single number
# are left out.
FNR == 1 {
    tables++
    columns = NF
    for (i = 1; i <= NF; i++)
        title[i] = $i
    next
}
{
    name = $1
    for (i = 2; i <= keys; i++)
        name = name "\t" $i
    if (!(name in seen)) {
        seen[name] = 1
        order[++names] = name
    }
    for (i = keys + 1; i <= NF; i++) {
        if ($i ~ /^-?[0-9.]+$/ && title[i] ~ only) {
            count[name, i]++
            sum[name, i] += $i
            square[name, i] += $i * $i
            used[i] = 1
        }
    }
}
END {
    line = title[1]
    for (i = 2; i <= keys; i++)
        line = line "\t" title[i]
    for (i = keys + 1; i <= columns; i++)
        if (i in used)
            line = line "\t" title[i] "\tsd"
    print line
    wanted = split(rows, choice, " ")
    for (r = 1; r <= (wanted ? wanted : names); r++) {
        name = wanted ? choice[r] : order[r]
        shown = name
        if (wanted && split(name, pair, "=") == 2) {
            name = pair[1]
            shown = pair[2]
        }
        line = shown
        for (i = keys + 1; i <= columns; i++) {
            if (!(i in used))
                continue
            n = count[name, i]
            mean = n ? sum[name, i] / n : 0
            spread = n > 1 ? (square[name, i] - n * mean * mean) / (n - 1) : 0
            line = line "\t" (n ? sprintf("%.2f", mean) : "-") "\t" (n > 1 ? sprintf("%.2f", sqrt(spread > 0 ? spread : 0)) : "-")
        }
        print line
    }
}
