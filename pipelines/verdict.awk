# Of the tables of pu.mk's belts, one for each seed: how often the verdict of ws2-seg-train was right. A network has failed
# where its masks before the sorter are no better than a mask of all items (pooled IoU); there it should warn.
FNR == 1 {
    for (i = 1; i <= NF; i++)
        column[$i] = i
    next
}
$column["verdict"] == "refused" {
    refused++
    next
}
{
    failed = $3 <= $column["all_pooled"]
    warned = $column["verdict"] != "plausible"
    count[failed, warned]++
    if (failed != warned)
        print (failed ? "failed in silence" : "warned of a good one") ": " $1 ", IoU " $3 ", all items " $column["all_pooled"] ", estimated " $column["estimated_iou"]
}
END {
    printf "verdicts: %d failed and warned, %d failed in silence, %d good and silent, %d good but warned of; %d belts refused\n", count[1, 1], count[1, 0], count[0, 0], count[0, 1], refused
}
