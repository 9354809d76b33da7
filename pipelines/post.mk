# post.mk: what can be made of class maps after the fact. The same maps, with and without several scales, dense CRF, random
# walk, instance masks, and their combinations (the comparison of table 4.4 of "Cross-architecture consistency for weakly
# supervised smoke segmentation").
#
#   make -f pipelines/post.mk OUT=... [METHOD=puzzle]
#
#   OUT       where ws2.mk left maps and weights of METHOD
#   WORK      where it left frames, masks and instance masks, OUT
#   METHOD    whose maps: gradcam gradcam++ layercam puzzle pof temporal plain
#   ROWS      of the table, all:
#               single      maps of the input at its own size; argmax
#               multi       maps of the scales that OUT was made with; argmax, as in all rows below that say nothing else
#               level otsu  the map of `before` above LEVEL; above Otsu's level of each frame
#               crf         dense CRF over the classes;  crf-one  over `before` and anything else, as smoke has it
#               walk        random walk by colours;  walk+crf  first one, then the other
#               edge        random walk over edges that IRN's network learnt from what the maps of training frames are
#               feature     sure of, and over AffinityNet's features; both are trained first, and only when asked for
#               ...+sepl    the mask brought to the edges of instance masks by the SEPL merge
#               oracle      above the level that fits the truth of each frame best: a bound, not a result
#   LEVEL     0.3
#   SIDE      frame size that the CRF's numbers are meant for, 500
#   AFFINITY  options of ws2-train for edge and feature; backbone and size are those of the weights of METHOD
#   SCALES    of maps of training frames, 0.5,1,2
#   JOBS      sequences at a time;  DEVICE of the network, cpu
#
# `all` makes what is not marked otherwise. The table is OUT/post/METHOD.tsv: IoU in percent on frames before and after the sorter.

SELF := $(lastword $(MAKEFILE_LIST))
include $(dir $(SELF))strict.mk

OUT ?=
WORK ?= $(OUT)
METHOD ?= puzzle
LEVEL ?= 0.3
SIDE ?= 500
AFFINITY ?= --backbone resnet50 --size 512
SCALES ?= 0.5,1,2
JOBS ?= $(shell nproc)
DEVICE ?= cpu
ROWS ?= single multi level otsu crf crf-one walk walk+crf multi+sepl level+sepl crf+sepl walk+sepl walk+crf+sepl oracle

ifneq ($(filter-out help,$(or $(MAKECMDGOALS),all)),)
$(if $(OUT),,$(error OUT is not set; it names the folder of results of ws2.mk))
$(if $(wildcard $(OUT)/cam/$(METHOD)/test/*/*.ws2),,$(error $(OUT)/cam/$(METHOD)/test holds no maps))
endif

SEQUENCES := $(patsubst $(OUT)/cam/$(METHOD)/test/%.ws2,%,$(wildcard $(OUT)/cam/$(METHOD)/test/*/*.ws2))
FILES := $(foreach r,$(ROWS),$(SEQUENCES:%=$(OUT)/post/$(METHOD)/$r/%.ws2))
OWN := puzzle pof temporal plain
network = $(if $(filter $(OWN),$(METHOD)),$(METHOD),standard)
maps = $(if $(filter $(OWN),$(METHOD)),puzzle,$(METHOD))

# What the maps of training frames are sure of, as each kind of affinity wants it.
LEARNT := $(sort $(filter edge feature,$(ROWS:%+sepl=%)))
TRAINED := $(patsubst $(WORK)/bgmask/training/%.ws2,%,$(wildcard $(WORK)/bgmask/training/*/*.ws2))
MAPS := $(TRAINED:%=$(OUT)/post/$(METHOD)/maps/%.ws2)

.PHONY: all masks maps help
all: $(OUT)/post/$(METHOD).tsv
	@awk -F '\t' '{ printf "%-16s", $$1; for (i = 2; i <= NF; i++) printf "%10s", $$i; print "" }' $<
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' $(SELF)

missing = $(strip $(foreach f,$1,$(if $(wildcard $f),,$f)))
each = $(if $(call missing,$1),@mkdir -p $(OUT)/post; echo "$@: $(words $(call missing,$1)) files"; \
	  printf '%s\n' $(call missing,$1) | parallel --will-cite -j $(JOBS) --halt soon$(,)fail=1 MAKEFLAGS= $(MAKE) -s -f $(SELF) \
	  OUT=$(OUT) WORK=$(WORK) METHOD=$(METHOD) LEVEL=$(LEVEL) SIDE=$(SIDE) DEVICE=$(DEVICE) SCALES=$(SCALES))
masks: $(LEARNT:%=$(OUT)/post/$(METHOD)/%.safetensors)
	$(call each,$(FILES))
maps:
	$(call each,$(MAPS))

# ---- affinities -----------------------------------------------------------------------------------------------

weights = $(OUT)/train/$(network).safetensors
$(OUT)/post/$(METHOD)/maps/%.ws2:
	@mkdir -p $(@D)
	@ws2-cam --method $(maps) --scales $(SCALES) -w $(weights) --device $(DEVICE) $(WORK)/bgmask/training/$*.ws2 | \
	  ws2-seeds --preset irn --out seeds.edge | ws2-seeds --preset psa --out seeds.feature | \
	  ws2-pick --keep rgb,seeds.edge,seeds.feature -o $@.part
	@ws2-check --quick $@.part && mv $@.part $@
$(OUT)/post/$(METHOD)/%.safetensors: | maps
	@echo "train: $*"; mkdir -p $(@D)/seeds.$*
	@for name in $(TRAINED); do \
	  ws2-pick --keep rgb,seeds.$* --rename seeds.$*=seeds -o $(@D)/seeds.$*/$${name//\//.}.ws2 $(@D)/maps/$$name.ws2; done
	@ws2-train --method affinity --affinity $* --init $(weights) $(AFFINITY) --device $(DEVICE) -j $(JOBS) --resume \
	  --log $(basename $@).tsv -o $@ $(@D)/seeds.$*/*.ws2
	@rm -r $(@D)/seeds.$*

# ---- masks and scores -----------------------------------------------------------------------------------------

# Maps of the sequence ROLE/NAME, beside frames and truth.
single = ws2-cam --method $(maps) --raw --scales 1 -w $(OUT)/train/$(network).safetensors --device $(DEVICE) $(WORK)/bgmask/test/$1.ws2
multi = ws2-merge $(OUT)/cam/$(METHOD)/test/$1.ws2 <(ws2-pick --keep rgb $(WORK)/bgmask/test/$1.ws2)
crf = ws2-crf --reference $(SIDE)
walk = ws2-walk
sepl = ws2-merge - <(ws2-pick --keep instances $(WORK)/sam/test/$1.ws2) | ws2-sam-refine | ws2-pick --drop coarse --rename refined=coarse

row.single = $(single) | ws2-coarse
row.multi = $(multi) | ws2-coarse
row.level = $(multi) | ws2-coarse -t $(LEVEL)
row.otsu = $(multi) | ws2-coarse --otsu
row.crf = $(multi) | $(crf) | ws2-coarse --absolute
row.crf-one = $(multi) | $(crf) --preset smoke --class before --gamma 16 | ws2-coarse --absolute -t 0.3
row.walk = $(multi) | $(walk) | ws2-coarse
row.walk+crf = $(multi) | $(walk) | $(crf) | ws2-coarse --absolute
row.edge = $(multi) | ws2-affinity -w $(OUT)/post/$(METHOD)/edge.safetensors --device $(DEVICE) | $(walk) --affinity edge --preset irn | ws2-coarse
row.feature = $(multi) | ws2-affinity -w $(OUT)/post/$(METHOD)/feature.safetensors --device $(DEVICE) | \
  $(walk) --affinity feature --preset psa | ws2-coarse
row.oracle = $(multi) | ws2-coarse --oracle truth --out coarse
row = $(row.$(patsubst %+sepl,%,$2)) $(if $(filter %+sepl,$2),| $(sepl))

name = $(patsubst $(word 1,$(subst /, ,$1))/%,%,$1)
$(OUT)/post/$(METHOD)/%.ws2:
	@mkdir -p $(@D)
	@$(call row,$(call name,$*),$(firstword $(subst /, ,$*))) | ws2-pick --keep coarse,truth -o $@.part
	@ws2-check --quick $@.part && mv $@.part $@

# As in ws2.mk, the first and last frame of a sequence do not count.
$(OUT)/post/$(METHOD).tsv: masks
	@printf 'masks\tbefore\tafter\n' >$@.part
	@for row in $(ROWS); do ws2-iou --centre --by-seq $(OUT)/post/$(METHOD)/$$row/*/*.ws2 | \
	  awk -F '\t' -v row=$$row 'NR == 1 { for (i = 1; i <= NF; i++) c[$$i] = i; next } \
	    $$c["seq"] == "-" || $$c["seq"] == "" { score[$$c["role"]] = $$c["iou"] } \
	    END { print row "\t" score["before"] "\t" score["after"] }'; done >>$@.part
	@mv $@.part $@
