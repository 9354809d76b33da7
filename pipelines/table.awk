# Tables of ws2-iou, one file for each method and stage (OUT/iou/METHOD.STAGE.tsv), to one row per method:
# headline IoU in percent on frames of the camera before and after the sorter, "-" where a stage was not run.
# -v methods="gradcam puzzle" gives the order.
BEGIN {
    stages = split("coarse coarse3 level level3 inside refined refined.true segmented", stage, " ")
    printf "method\tC_before\tC_after\tC3_before\tC3_after\tT_before\tT_after\tT3_before\tT3_after\tF_before\tF_after\tR_before\tR_after\tN_before\tN_after\tS_before\tS_after\n"
}
FNR == 1 {
    name = FILENAME
    sub(/.*\//, "", name)
    sub(/\.tsv$/, "", name)
    for (i = 1; i <= NF; i++)
        column[$i] = i
    next
}
$column["seq"] == "" || $column["seq"] == "-" {
    score[name, $column["role"]] = $column["iou"]
}
END {
    n = split(methods, method, " ")
    for (m = 1; m <= n; m++) {
        line = method[m]
        for (s = 1; s <= stages; s++) {
            for (r = 1; r <= 2; r++) {
                key = method[m] "." stage[s] SUBSEP (r == 1 ? "before" : "after")
                line = line "\t" (key in score ? score[key] : "-")
            }
        }
        print line
    }
}
