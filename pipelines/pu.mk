# pu.mk: what dense before/after learning (ws2-seg-train) owes to each of its parts, and where it stops working. All on
# simulated belts, whose truth is known, with mean and spread over several seeds.
#
#   make -f pipelines/pu.mk OUT=...
#
#   OUT       where results go; a rerun does only what is missing
#   SEEDS     1 2 3
#   PU        options of ws2-seg-train that all rows share, those of belt.mk
#   ITEMS     pictures of real items to lay on the belts instead of drawn ones, as `ws2-synth --items` wants them
#   METHODS   rows of OUT/methods.tsv, methods of ws2.mk
#   ABLATION  rows of OUT/ablation.tsv:
#               taken     before the sorter all is taken for unwanted, after it for wanted, and nothing of what follows
#               beside    the same with items of the other camera laid beside: what ws2-seg-train does when nothing is asked for,
#                         and what the next ones change
#               frames    with the frames' own loss;  round1 round2   with rounds of self-training
#               reach8 reach16   with a larger reach;  flat   with evened frames, which the others do not have, and ws2.mk has
#               mixture   positive-unlabelled as Kiryo et al. have it for pictures, and nothing else
#               mixture-beside mixture-frames mixture-round1 mixture-round2 mixture-round3   and in turn with all of that
#               mixture-whole   mixture-round1 where one network judges the frames that it has learnt
#               labels    the same network learning from the truth: a bound, not a result
#             and of what is made of the probabilities of beside afterwards:
#               mirror    mean over the frame and its mirror images;  vote  in regions;  track  along tracks;  three  frames merged
#   STRESS    rows of OUT/stress.tsv, FACTOR_VALUE, an option of ws2-synth each, with +flat for evened frames; `clips` are those
#             of either camera; clips_48 is SYNTH as it is: 40 % unwanted, the sorter misses 5 %, cameras differ mildly
#   SYNTH     options of the belts of STRESS;  PU_STRESS  options of ws2-seg-train for them
#   JOBS      sequences at a time;  THREADS of the training
#
# Targets: `methods`, `ablation`, `stress`, `all`. IoU in percent; of methods the columns of ws2.mk (C as they are, F cut to what lies
# on the belt, R refined); of the others the mean over frames and pooled, before the sorter and after it; of stress
# beside what a mask of all items would have, what ws2-seg-train estimates without truth, and, in OUT/verdicts.txt, how often
# its verdict was right: it should warn where the masks are no better than a mask of all items.

SELF := $(lastword $(MAKEFILE_LIST))
HERE := $(dir $(SELF))
include $(HERE)strict.mk
include $(HERE)belt.mk

OUT ?=
SEEDS ?= 1 2 3
PU ?= $(BELT_PU)
ITEMS ?=
METHODS ?= gradcam puzzle pof pu
JOBS ?= $(shell nproc)
THREADS ?= $(shell nproc)
ABLATION ?= taken beside frames round1 round2 reach8 reach16 flat mixture mixture-beside mixture-frames mixture-round1 mixture-round2 \
  mixture-round3 mixture-whole labels mirror vote track three
STRESS ?= unwanted_0.05 unwanted_0.1 unwanted_0.2 unwanted_0.6 miss_0 miss_0.1 miss_0.3 \
  camera-difference_none camera-difference_strong camera-difference_strong+flat \
  density_2 density_9 density_crowded clips_4 clips_12 clips_24 clips_48
SYNTH ?= $(BELT) --clips 48
PICTURES := $(addprefix --items ,$(ITEMS))
PU_STRESS ?= $(PU)

ifneq ($(filter-out help,$(or $(MAKECMDGOALS),all)),)
$(if $(OUT),,$(error OUT is not set; it names the folder for results))
endif

.PHONY: all methods ablation stress help
.NOTPARALLEL:
all: methods ablation stress
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' $(SELF)
methods ablation stress: %: $(OUT)/%.tsv
	@awk -F '\t' '{ for (i = 1; i <= NF; i++) printf (i == 1 ? "%-30s" : "%-13s"), $$i; print "" }' $<
	@[ $@ != stress ] || cat $(OUT)/verdicts.txt

# ws2.mk with pu alone: $1 target, $2 folder of frames and masks, $3 of results, $4 seed, $5 options of ws2-seg-train, $6 FLAT.
pu = $(MAKE) -f $(HERE)ws2.mk $1 DATA=$2/data WORK=$2 OUT=$3 SEED=$4 METHODS=pu JOBS=$(JOBS) THREADS=$(THREADS) $(BELT_NETWORK) \
  PU='$5' FLAT=$6
# Runs $1 and writes the seconds that it took on all processors to $2.
timed = TIMEFORMAT=%U && { time $1 >&3 2>&4; } 3>&1 4>&2 2>$2.part && tail -n 1 $2.part >$2 && rm $2.part
# Of a table of ws2-iou the mean and pooled IoU and the recall on frames of one camera.
scores = awk -F '\t' -v role=$1 'NR == 1 { for (i = 1; i <= NF; i++) c[$$i] = i; next } $$c["role"] == role && $$c["seq"] == "-" { \
  printf "\t%s\t%s\t%s", $$c["iou"], $$c["pooled"], $$c["recall"] }'
both = $(call scores,before) $1; $(call scores,after) $1
HEADS := before\tpooled\trecall\tafter\tpooled\trecall

# ---- a belt for each seed, and all methods on it ------------------------------------------------------------------

belt = $(OUT)/belt/seed-$1
define one_belt
$(call belt,$1)/data/ws2-synth.txt:
	@mkdir -p $$(@D)
	@ws2-synth -q --dataset $$(@D) $(BELT) $(PICTURES) --seed $1 -j $(JOBS)
$(call belt,$1)/methods/table.tsv: $(call belt,$1)/data/ws2-synth.txt
	@$$(MAKE) -f $(HERE)ws2.mk $$@ DATA=$(call belt,$1)/data WORK=$(call belt,$1) OUT=$$(@D) SEED=$1 METHODS='$(METHODS)' PU='$(PU)' RECIPE=pof \
	  TRAIN_OPTIONS=--centres JOBS=$(JOBS) THREADS=$(THREADS) $(BELT_NETWORK) TRUTH_N='ws2-synth -q $(BELT) $(PICTURES) --seed $1 --clip test/SEQ --tensors ids'
$(call belt,$1)/ablation.tsv: $(ABLATION:%=$(call belt,$1)/%.row)
	@{ printf 'row\t$(HEADS)\tseconds\n'; cat $$^; } >$$@.part; mv $$@.part $$@
endef
$(foreach s,$(SEEDS),$(eval $(call one_belt,$s)))

$(OUT)/methods.tsv: $(foreach s,$(SEEDS),$(call belt,$s)/methods/table.tsv)
	@awk -F '\t' -v keys=1 -v only='^[CFR]_' -f $(HERE)spread.awk $^ >$@.part; mv $@.part $@
$(OUT)/ablation.tsv: $(foreach s,$(SEEDS),$(call belt,$s)/ablation.tsv)
	@awk -F '\t' -v keys=1 -f $(HERE)spread.awk $^ >$@.part; mv $@.part $@

# ---- parts ----------------------------------------------------------------------------------------------------

beside := --form plain --paste 0.5 --frames 0 --rounds 0
options.taken := $(beside) --paste 0
options.beside := $(beside)
options.frames := $(beside) --frames 1
options.round1 := $(beside) --rounds 1
options.round2 := $(beside) --rounds 2
options.reach8 := $(beside) --reach 8
options.reach16 := $(beside) --reach 16
options.flat := $(beside)
mixture := --form absolute --paste 0.5 --frames 1
options.mixture := $(mixture) --paste 0 --frames 0 --rounds 0
options.mixture-beside := $(mixture) --frames 0 --rounds 0
options.mixture-frames := $(mixture) --rounds 0
options.mixture-round1 := $(mixture) --rounds 1
options.mixture-round2 := $(mixture) --rounds 2
options.mixture-round3 := $(mixture) --rounds 3
options.mixture-whole := $(mixture) --rounds 1 --halves no
NETWORKS := $(patsubst options.%,%,$(filter options.%,$(.VARIABLES)))

# A network of its own.
define network
$(call belt,$1)/$2.row: $(call belt,$1)/data/ws2-synth.txt
	@echo "seed $1: $2"; mkdir -p $$(basename $$@)
	@$$(call pu,bgmask,$(call belt,$1),$(call belt,$1)/$2,$1) >/dev/null
	@$$(call timed,$$(call pu,train,$(call belt,$1),$(call belt,$1)/$2,$1,$(PU) $(options.$2),$(filter flat,$2)),$(call belt,$1)/$2/seconds)
	@$$(call pu,$(call belt,$1)/$2/iou/pu.coarse.tsv,$(call belt,$1),$(call belt,$1)/$2,$1,$(PU) $(options.$2),$(filter flat,$2))
	@{ printf $2; $$(call both,$(call belt,$1)/$2/iou/pu.coarse.tsv); printf '\t'; cat $(call belt,$1)/$2/seconds; } >$$@.part; mv $$@.part $$@
endef
$(foreach s,$(SEEDS),$(foreach a,$(NETWORKS),$(eval $(call network,$s,$a))))

# The bound: the truth beside the frames, which only a simulated belt has; size and batch are those of the other rows.
of_network = $(patsubst $1=%,%,$(filter $1=%,$(BELT_NETWORK)))
NETWORK := --size $(call of_network,SIZE) --batch $(call of_network,BATCH)
define supervised
$(call belt,$1)/labels.row: $(call belt,$1)/beside.row
	@echo "seed $1: labels"; mkdir -p $$(basename $$@)
	@cd $(call belt,$1)/bgmask; for f in training/*/*.ws2 validation/*/*.ws2; do mkdir -p ../truth/$$$$(dirname $$$$f); \
	  ws2-merge -o ../truth/$$$$f $$$$f <(ws2-synth -q $(BELT) $(PICTURES) --seed $1 --clip $$$${f%.ws2} --tensors truth); done
	@$$(call timed,ws2-seg-train --method labels -j $(THREADS) $(NETWORK) --seed $1 $(PU) -o $$(basename $$@)/labels.safetensors \
	  $$$$(printf -- '--validation %s ' $(call belt,$1)/truth/validation/*/*.ws2) $(call belt,$1)/truth/training/*/*.ws2,$$(basename $$@)/seconds)
	@ws2-seg -j $(THREADS) -w $$(basename $$@)/labels.safetensors $(call belt,$1)/bgmask/test/*/*.ws2 | ws2-iou --centre --by-seq --mask mask >$$(basename $$@)/iou.tsv
	@{ printf labels; $$(call both,$$(basename $$@)/iou.tsv); printf '\t'; cat $$(basename $$@)/seconds; } >$$@.part; mv $$@.part $$@
endef
$(foreach s,$(SEEDS),$(eval $(call supervised,$s)))

# What is made of the probabilities of beside, at the threshold of its weights. $1 seed.
of = $(call belt,$1)/$2/test/*/*.ws2
seg = ws2-seg -j $(THREADS) $2 -w $(call belt,$1)/beside/train/pu.safetensors $(call of,$1,bgmask)
moving = ws2-merge <($(call seg,$1)) <(ws2-cat --segments $(call of,$1,flow))
threshold = $$(awk -F '\t' 'END { print $$3 }' $(call belt,$1)/beside/train/pu.tsv)
vote = ws2-vote -j $(THREADS) --mask mask
later.mirror = $(call seg,$1,--tta)
later.vote = ws2-merge <($(call seg,$1)) <(ws2-cat --segments $(call of,$1,sam)) | $(vote)
later.track = $(moving) | $(vote) --by track
later.three = $(moving) | ws2-fuse -j $(THREADS) -k 1 | ws2-coarse --in prob --absolute --threshold $(call threshold,$1) --out fused | \
  ws2-pick --drop mask --rename fused=mask
define afterwards
$(call belt,$1)/$2.row: $(call belt,$1)/beside.row
	@echo "seed $1: $2"; mkdir -p $$(basename $$@)
	@$$(call pu,flow sam,$(call belt,$1),$(call belt,$1)/beside,$1) >/dev/null
	@$$(call later.$2,$1) | ws2-iou --centre --by-seq --mask mask >$$(basename $$@)/iou.tsv
	@{ printf $2; $$(call both,$$(basename $$@)/iou.tsv); printf '\t-\n'; } >$$@.part; mv $$@.part $$@
endef
$(foreach s,$(SEEDS),$(foreach a,mirror vote track three,$(eval $(call afterwards,$s,$a))))

# ---- where it stops working -----------------------------------------------------------------------------------

# FACTOR_VALUE or FACTOR_VALUE+flat
factor = $(firstword $(subst _, ,$1))
setting = $(patsubst %+flat,%,$(lastword $(subst _, ,$1)))
folder = $(OUT)/stress/$1/seed-$2
# The numbers of a belt that ws2-seg-train would not learn from, since more seems to lie on it after the sorter, as on crowded
# ones. Any other failure ends the run.
NOTHING := -\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-
# What is known without truth of the last round, and the pictures that all rounds learnt from.
known = awk -F '\t' 'NR > 1 { images += $$10; for (i = 1; i <= NF; i++) last[i] = $$i } \
  END { printf "%s\t%s\t%s\t%s\t%s\t%d\t%s\t", last[2], last[6], last[7], last[8], last[9], images, last[11] }'
define stressed
$(call folder,$1,$2).row:
	@echo "seed $2: $1"; mkdir -p $$(basename $$@)/data
	@ws2-synth -q --dataset $$(basename $$@)/data $(SYNTH) $(PICTURES) --$(call factor,$1) $(call setting,$1) --seed $2 -j $(JOBS)
	@$$(call pu,bgmask,$$(basename $$@),$$(basename $$@),$2) >/dev/null
	@if { $$(call timed,$$(call pu,train,$$(basename $$@),$$(basename $$@),$2,$(PU_STRESS),$(findstring flat,$1)),$$(basename $$@)/seconds); } 2>$$(basename $$@)/said; then \
	  cat $$(basename $$@)/said >&2; \
	  $$(call pu,$$(basename $$@)/iou/pu.coarse.tsv $$(basename $$@)/iou/foreground.tsv,$$(basename $$@),$$(basename $$@),$2,$(PU_STRESS),$(findstring flat,$1)); \
	  { printf '%s' '$1'; $$(call both,$$(basename $$@)/iou/pu.coarse.tsv); $$(call scores,before) $$(basename $$@)/iou/foreground.tsv; printf '\t'; \
	    $$(known) $$(basename $$@)/train/pu.tsv; cat $$(basename $$@)/seconds; } >$$@.part; \
	else cat $$(basename $$@)/said >&2; grep -q 'have the cameras been swapped' $$(basename $$@)/said; printf '%s\t$(NOTHING)\trefused\t-\n' '$1' >$$@.part; fi; mv $$@.part $$@
	@rm -rf $$(basename $$@)/{data,read,bgmask,cam,coarse}
endef
$(foreach s,$(SEEDS),$(foreach c,$(STRESS),$(eval $(call stressed,$c,$s))))
$(foreach s,$(SEEDS),$(eval $(OUT)/stress/seed-$s.tsv: $(STRESS:%=$(OUT)/stress/%/seed-$s.row) ; @{ printf 'case\t$(HEADS)\tall_before\tall_pooled\tall_recall\tprior\testimated_recall\tmost_recall\tfalse_positives\testimated_iou\timages\tverdict\tseconds\n'; cat $$^; } >$$@.part; mv $$@.part $$@))
$(OUT)/stress.tsv: $(SEEDS:%=$(OUT)/stress/seed-%.tsv)
	@awk -F '\t' -v keys=1 -f $(HERE)spread.awk $^ >$@.part; mv $@.part $@
	@awk -F '\t' -f $(HERE)verdict.awk $^ >$(OUT)/verdicts.txt
