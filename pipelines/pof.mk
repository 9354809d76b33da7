# pof.mk: the tables of "Temporal-consistent CAMs for Weakly Supervised Video Segmentation in Waste Sorting" (POF-CAM),
# with mean and spread over several seeds.
#
#   make -f pipelines/pof.mk DATA=... OUT=...
#   make -f pipelines/pof.mk OUT=...              a simulated belt of its own for each seed, at a size for two cores
#
#   DATA      as for ws2.mk; its frames, masks and flow are made once for all seeds
#   SEEDS     1 2 3
#   and all settings of ws2.mk. RECIPE is pof here: both reconstructions rise from 0 to 4 by half of the training.
#
# Tables, each a target, as OUT/NAME.tsv: `methods` (table 1: GradCAM, Frame-to-Frame, PuzzleCAM, POF-CAM), `ablation`
# (table 2: neither reconstruction, temporal, spatial, both) and `bias` (table 3: accuracy with and without background);
# `all` makes the first two. IoU in percent before the sorter, of one frame and of three, by both rules of ws2.mk (C, C3, T,
# T3), of masks at the edges of instance masks (R, on a simulated belt N), and behind each its standard deviation over the
# seeds.

SELF := $(lastword $(MAKEFILE_LIST))
HERE := $(dir $(SELF))
include $(HERE)strict.mk

DATA ?=
OUT ?=
SEEDS ?= 1 2 3
METHODS ?= gradcam f2f puzzle pof plain temporal
RECIPE ?= pof
# All networks learn from the frames that have two neighbours, so that they differ in their losses alone.
TRAIN_OPTIONS ?= --centres
JOBS ?= $(shell nproc)

ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),all)),)
$(if $(OUT),,$(error OUT is not set; it names the folder for results))
endif

# The simulated belt and its network; each setting given here counts before them.
include $(HERE)belt.mk
SYNTH ?= $(BELT)
GIVEN := $(foreach v,SIZE BACKBONE STRIDE FILL CLASSES PU FLAT FLOW INIT EPOCHS BATCH SCALES MERGE LEVEL WITHIN SAM REFINE THREADS DEVICE TRAIN_OPTIONS,\
         $(if $(filter undefined,$(origin $v)),,$v='$($v)'))
run = $(MAKE) -f $(HERE)ws2.mk OUT=$(OUT)/seed-$1 DATA=$(or $(DATA),$(OUT)/seed-$1/data) \
      WORK=$(if $(DATA),$(OUT)/work,$(OUT)/seed-$1) SEED=$1 METHODS='$(METHODS)' RECIPE=$(RECIPE) JOBS=$(JOBS) \
      $(if $(DATA),,$(BELT_NETWORK) TRUTH_N='ws2-synth -q $(SYNTH) --seed $1 --clip test/SEQ --tensors ids') $(GIVEN)

# ---- tables -----------------------------------------------------------------------------------------------------

.PHONY: all methods ablation bias help
all: methods ablation
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' $(SELF)

methods ablation bias: %: $(OUT)/%.tsv
	@awk -F '\t' '{ for (i = 1; i <= NF; i++) printf "%-11s", $$i; print "" }' $<

ifeq ($(DATA),)
$(SEEDS:%=$(OUT)/seed-%/data/ws2-synth.txt): $(OUT)/seed-%/data/ws2-synth.txt:
	@mkdir -p $(@D)
	@ws2-synth -q --dataset $(@D) $(SYNTH) --seed $* -j $(JOBS)
endif
# Seeds one after the other: a training takes all processors.
TABLES := $(SEEDS:%=$(OUT)/seed-%/table.tsv)
$(TABLES): $(OUT)/seed-%/table.tsv: $(if $(DATA),,$(OUT)/seed-%/data/ws2-synth.txt)
	@$(call run,$*) $@
BIASES := $(SEEDS:%=$(OUT)/seed-%/bias/table.tsv)
$(BIASES): $(OUT)/seed-%/bias/table.tsv: $(if $(DATA),,$(OUT)/seed-%/data/ws2-synth.txt)
	@$(call run,$*) $@
.NOTPARALLEL:

spread = awk -F '\t' -v keys=$1 -v only=$3 -v rows='$2' -f $(HERE)spread.awk
$(OUT)/methods.tsv: $(TABLES)
	@$(call spread,1,gradcam f2f puzzle pof,before) $^ >$@.part && mv $@.part $@
$(OUT)/ablation.tsv: $(TABLES)
	@$(call spread,1,plain=none temporal puzzle=spatial pof=both,before) $^ >$@.part && mv $@.part $@
$(OUT)/bias.tsv: $(BIASES)
	@$(call spread,2) $^ >$@.part && mv $@.part $@
