# ws2.mk: from two folders of video to masks of what must go, and a score table (WS2, sections 3, 4 and 6).
#
#   make -f pipelines/ws2.mk DATA=... OUT=...
#
#   DATA      the authors' layout: DATA/train_val_dataset/{training,validation}/{before,after}/video_NNN
#             (a folder of pictures, or video_NNN.mp4), DATA/test_set/{images,masks}/{before,after}/video_NNN
#             (without masks there is no table)
#   OUT       where results go; a rerun does only what is missing
#   WORK      where frames, masks and flow go, OUT; trainings that differ in nothing else may share it
#   METHODS   gradcam gradcam++ layercam puzzle; f2f (GradCAM of five frames, Frame-to-Frame), pof (POF-CAM), and its
#             parts: temporal (without the puzzle), plain (without both); pu: ours, not of the papers, which learns what single
#             pixels are (ws2-seg-train), and whose masks take the places of those from maps
#   PU        options of ws2-seg-train for pu
#   FLAT      yes: pu sees both cameras in the same light, evened by their belts; empty: it does not
#   SIZE      side of the network's input, 512
#   BACKBONE  resnet18 resnet34 resnet50 resnet101
#   STRIDE    32 or 16
#   FILL      of removed background: black as in the papers, mean, or belt (see ws2-train)
#   CLASSES   3 (before, after, belt alone) or 2
#   RECIPE    ws2 or pof: weights of the losses of puzzle, pof and temporal (see ws2-train)
#   FLOW      belt or dis: how ws2-flow finds motion
#   EPOCHS    25; from scratch (INIT=none) three times as many, unless given
#   BATCH     32
#   INIT      file with pretrained weights (see `make weights`), or none
#   SCALES    of the input when maps are made, 0.5,1,2 (the papers: 0.2,0.5,1,2,4,6)
#   MERGE     of the maps of three frames: mean, max or confidence (see ws2-fuse); f2f takes the maximum, as published
#   LEVEL     of the second kind of masks, 0.3
#   WITHIN    fg: cut the coarse masks to the foreground mask; empty as in the papers
#   SAM       weights of SAM 2 for instance masks (see `make weights`); empty: regions that need none
#   REFINE    options of ws2-sam-refine, none
#   TRUTH_N   command that writes a stream with the true instance masks of the test sequence SEQ (ROLE/NAME) as `ids`,
#             u16[h,w] (a simulated belt knows them: ws2-synth --clip)
#   PICTURE   methods that the picture shows, METHODS;  BEFORE, AFTER: test sequences of each camera in it, 4 and 2
#   JOBS      sequences at a time;  THREADS of the training;  DEVICE cpu, cuda, auto;  SEED
#
# Stages, each a target: read median bgmask flow train cam coarse sam refine iou; `all` ends with OUT/table.tsv and
# OUT/picture.png.
# The table's C are masks from the maps of one frame, where the map of `before`, each divided by its maximum, is above those
# of the other classes (the papers' code); T are masks where it is above LEVEL (their text). C3 and T3 are from the maps of three
# frames: the neighbours' maps, warped by the flow, and merged (POF-CAM, future work). f2f is such a merge by itself: C and T
# of five frames, C3 and T3 of three. F are the masks C where something lies on the belt (ws2-coarse --within fg).
# Of pu, C are the masks where pixels are unwanted above the threshold that was found without truth, T those above 1/2; C3 and
# T3 the same of probabilities merged over three frames. They lie on the belt as they are, so F is C. R are votes of the pixels of
# each region (ws2-vote) at the same threshold.
# R are the masks C brought to the edges of instance masks by the SEPL merge (WS2, section 4). N are the true items that are
# coarse by more than half, which is the most that a merge can make of C; what lies in no true mask is belt.
# `pseudo` writes the masks R of the training frames before the sorter, in the authors' layout, for a segmentation network:
# OUT/pseudo/images and OUT/pseudo/METHOD.
# `bias` prints the accuracy of a classifier with and without background (POF-CAM, table 3).
# Paths must not contain spaces.

SELF := $(lastword $(MAKEFILE_LIST))
include $(dir $(SELF))strict.mk

DATA ?=
OUT ?=
WORK ?= $(OUT)
METHODS ?= gradcam f2f puzzle pof
SIZE ?= 512
BACKBONE ?= resnet50
STRIDE ?= 32
FILL ?= black
CLASSES ?= 3
RECIPE ?= ws2
PU ?=
FLAT ?= yes
FLOW ?= belt
INIT ?= none
EPOCHS ?= $(if $(filter none,$(INIT)),75,25)
BATCH ?= 32
SCALES ?= 0.5,1,2
MERGE ?= mean
LEVEL ?= 0.3
WITHIN ?=
SAM ?=
REFINE ?=
TRUTH_N ?=
PICTURE ?= $(METHODS)
BEFORE ?= 4
AFTER ?= 2
JOBS ?= $(shell nproc)
THREADS ?= $(shell nproc)
DEVICE ?= cpu
SEED ?= 42
TRAIN_OPTIONS ?=
SETTINGS := DATA OUT WORK METHODS SIZE BACKBONE STRIDE FILL CLASSES RECIPE PU FLAT FLOW INIT EPOCHS BATCH SCALES MERGE LEVEL WITHIN SAM REFINE TRUTH_N PICTURE BEFORE AFTER \
            THREADS DEVICE SEED TRAIN_OPTIONS

ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),all)),)
$(if $(DATA),,$(error DATA is not set; it names the folder with train_val_dataset and test_set))
$(if $(OUT),,$(error OUT is not set; it names the folder for results))
endif

# ---- what there is ----------------------------------------------------------------------------------------

ROLES := before after
folder.training := $(DATA)/train_val_dataset/training
folder.validation := $(DATA)/train_val_dataset/validation
folder.test := $(DATA)/test_set/images
VIDEO := .mp4 .mkv .avi .mov .MP4 .MKV .AVI .MOV

# Sequence names of split $1 and role $2: folders and videos without their ending.
sequences = $(sort $(foreach e,$(VIDEO),$(patsubst %$e,%,$(notdir $(wildcard $(folder.$1)/$2/*$e))))\
            $(patsubst $(folder.$1)/$2/%/,%,$(wildcard $(folder.$1)/$2/*/)))
# Files of stage $1 for split $2, in OUT; and of stages that say nothing of a training, in WORK.
files = $(foreach r,$(ROLES),$(patsubst %,$(OUT)/$1/$2/$r/%.ws2,$(call sequences,$2,$r)))
worked = $(foreach r,$(ROLES),$(patsubst %,$(WORK)/$1/$2/$r/%.ws2,$(call sequences,$2,$r)))
# The folder or video behind SPLIT/ROLE/NAME.
source = $(firstword $(wildcard $(addprefix $(folder.$(word 1,$(subst /, ,$1)))/$(word 2,$(subst /, ,$1))/$(word 3,$(subst /, ,$1)),/ $(VIDEO))))
role = $(word 2,$(subst /, ,$1))

$(foreach s,training test,$(foreach r,$(ROLES),$(if $(if $(DATA),$(call sequences,$s,$r),yes),,\
  $(error $(folder.$s)/$r holds no sequence: neither folders nor videos))))

SPLITS := training validation test
READ := $(foreach s,$(SPLITS),$(call worked,read,$s))
BGMASK := $(foreach s,$(SPLITS),$(call worked,bgmask,$s))
# Flow is for the maps of several frames, and, beside frames and masks in one file, for the trainings with triplets.
FLOWS := $(call worked,flow,test)
MOVING := $(foreach s,training validation,$(call worked,moving,$s))
CAM := $(foreach m,$(METHODS),$(call files,cam/$m,test))
COARSE := $(foreach m,$(METHODS),$(call files,coarse/$m,test))
COARSE3 := $(foreach m,$(METHODS),$(call files,coarse3/$m,test))
INSTANCES := $(call worked,sam,test)
REFINED := $(foreach m,$(METHODS),$(call files,refined/$m,test))
# Masks to learn from are those of the training frames before the sorter.
LEARNT := $(addprefix training/before/,$(call sequences,training,before))

# The network behind the maps of a method, and what ws2-cam makes of it.
OWN := puzzle pof temporal plain pu
network = $(if $(filter $(OWN),$1),$1,standard)
maps = $(if $(filter $(OWN),$1),puzzle,$(patsubst f2f,gradcam,$1))
TRIPLETS := pof temporal
NETWORK := $(sort $(foreach m,$(METHODS),$(call network,$m)))

.PHONY: all read median bgmask flow train cam coarse sam refine iou pseudo picture bias help
# Without true masks there is no score, but masks all the same.
TRUTH := $(wildcard $(DATA)/test_set/masks)
all: $(if $(TRUTH),$(OUT)/table.tsv,refine) picture
help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' $(SELF)

# One job for each file of $1 that is missing: GNU parallel starts make for it.
missing = $(strip $(foreach f,$1,$(if $(wildcard $f),,$f)))
define each
$(if $(call missing,$1),@mkdir -p $(OUT); echo "$@: $(words $(call missing,$1)) sequences"; \
  printf '%s\n' $(call missing,$1) | parallel --will-cite -j $(JOBS) --halt soon$(,)fail=1 --joblog $(OUT)/$@.jobs \
  MAKEFLAGS= $(MAKE) -s -f $(SELF) $(foreach v,$(SETTINGS),$v='"$($v)"') JOBS=1)
endef
# Results appear whole or not at all.
define finish
@ws2-check --quick $@.part && mv $@.part $@
endef

# ---- frames, background, foreground ---------------------------------------------------------------------------

read:
	$(call each,$(READ))
median: $(ROLES:%=$(WORK)/median/%.ws2)
bgmask: median
	$(call each,$(BGMASK))
flow: bgmask
	$(call each,$(FLOWS) $(if $(filter $(TRIPLETS),$(NETWORK)),$(MOVING)))

$(WORK)/read/%.ws2:
	@mkdir -p $(@D)
	@ws2-read --role $(call role,$*) --seq $(notdir $*) --size $(SIZE) \
	  $(if $(and $(TRUTH),$(filter test/%,$*)),--truth $(patsubst $(folder.test)/%,$(DATA)/test_set/masks/%,$(patsubst %/,%,$(call source,$*)))) \
	  -o $@.part $(call source,$*)
	$(finish)

# The training sequences of a camera give its background; test frames have no say in it.
$(WORK)/median/%.ws2: | read
	@mkdir -p $(@D); echo "median: $*"
	@ws2-median -j $(THREADS) -o $@.part $(filter $(WORK)/read/training/$*/%,$(READ))
	$(finish)

$(WORK)/bgmask/%.ws2:
	@mkdir -p $(@D)
	@ws2-bgmask -b $(WORK)/median/$(call role,$*).ws2 -o $@.part $(WORK)/read/$*.ws2
	$(finish)

# Of the frames as they were: masked ones would move with their masks.
$(WORK)/moving/%.ws2:
	@mkdir -p $(@D)
	@ws2-flow --method $(FLOW) -o $@.part $(WORK)/bgmask/$*.ws2
	$(finish)
$(WORK)/flow/%.ws2:
	@mkdir -p $(@D)
	@ws2-flow --method $(FLOW) $(WORK)/bgmask/$*.ws2 | \
	  ws2-pick --keep flow.next,flow.next.valid,flow.prev,flow.prev.valid -o $@.part
	$(finish)

# ---- classifier -------------------------------------------------------------------------------------------------

TRAINING := $(call worked,bgmask,training)
VALIDATION := $(call worked,bgmask,validation)
train_with = ws2-train --size $(SIZE) --backbone $(BACKBONE) --stride $(STRIDE) --epochs $(EPOCHS) \
  --batch $(BATCH) --init $(INIT) --seed $(SEED) --device $(DEVICE) -j $(THREADS) --resume $(TRAIN_OPTIONS)
# Files to learn from: with flow for a method that needs it.
seen_by = $(if $(filter $(TRIPLETS),$1),$(patsubst $(WORK)/bgmask/%,$(WORK)/moving/%,$2),$2)

train: $(NETWORK:%=$(OUT)/train/%.safetensors)
$(OUT)/train/%.safetensors: | bgmask $(if $(filter $(TRIPLETS),$(NETWORK)),flow)
	@mkdir -p $(@D); echo "train: $*"
	@$(train_with) --method $* --recipe $(RECIPE) --classes $(CLASSES) --fill $(FILL) --log $(OUT)/train/$*.tsv -o $@ \
	  $(addprefix --validation ,$(call seen_by,$*,$(VALIDATION))) $(call seen_by,$*,$(TRAINING))
# Pixels: no mask is needed here either, but a round or more.
belts = $(if $(FLAT),$(ROLES:%=--flat-field $(WORK)/median/%.ws2))
$(OUT)/train/pu.safetensors: | bgmask
	@mkdir -p $(@D); echo "train: pu"
	@ws2-seg-train --size $(SIZE) --batch $(BATCH) --seed $(SEED) --device $(DEVICE) -j $(THREADS) --resume $(belts) $(PU) \
	  --figures $(OUT)/train/pu.tsv -o $@ $(addprefix --validation ,$(VALIDATION)) $(TRAINING)

# ---- maps, masks, scores -----------------------------------------------------------------------------------------

cam: train
	$(call each,$(CAM))
coarse: cam flow
	$(call each,$(COARSE) $(COARSE3))
sam: bgmask
	$(call each,$(INSTANCES))
refine: coarse sam
	$(call each,$(REFINED))
KINDS := coarse coarse3 level level3 inside refined $(if $(TRUTH_N),refined.true)
IOU := $(foreach k,$(KINDS),$(METHODS:%=$(OUT)/iou/%.$k.tsv))
iou: $(IOU)

method = $(firstword $(subst /, ,$1))
below = $(patsubst $(call method,$1)/%,%,$1)

# Not divided by their maxima, so that a neighbour's weak map stays weak; but those of Frame-to-Frame are, which merges
# finished maps.
$(OUT)/cam/%.ws2:
	@mkdir -p $(@D)
	@ws2-cam --method $(call maps,$(call method,$*)) $(if $(filter f2f,$(call method,$*)),,--raw) --scales $(SCALES) \
	  -w $(OUT)/train/$(call network,$(call method,$*)).safetensors --device $(DEVICE) $(WORK)/bgmask/$(call below,$*).ws2 | \
	  ws2-pick --drop rgb -o $@.part
	$(finish)

# Probabilities take the place of maps, and the mask at the threshold of the weights comes with them.
$(OUT)/cam/pu/%.ws2:
	@mkdir -p $(@D)
	@ws2-seg --prob cam --mask coarse --classes $(if $(filter 2,$(CLASSES)),after$(,)before,after$(,)before$(,)bg) -w $(OUT)/train/pu.safetensors \
	  $(if $(FLAT),--flat-field $(WORK)/median/$(call role,$*).ws2) --device $(DEVICE) $(WORK)/bgmask/$*.ws2 | ws2-pick --drop rgb -o $@.part
	$(finish)

# Maps $1 of every frame merged with those of $2 neighbours on either side; and masks from maps.
fused = ws2-merge $(OUT)/cam/$1.ws2 $(WORK)/flow/$(call below,$1).ws2 | ws2-fuse -k $2 --merge $(if $(filter f2f/%,$1),max,$(MERGE)) | \
  ws2-pick --drop flow.next,flow.next.valid,flow.prev,flow.prev.valid
within = $(if $(WITHIN),--within $(WITHIN))
masks = ws2-coarse $(within) | ws2-coarse --threshold $(LEVEL) --out level $(within) | ws2-coarse --within fg --out inside | \
  ws2-pick --drop cam
# Of probabilities: of one frame, whose mask is there, and of three.
chosen = $$(awk -F '\t' 'END { print $$3 }' $(OUT)/train/pu.tsv)
half = ws2-coarse --absolute --threshold 0.5 --out level | ws2-pick --drop cam
$(OUT)/coarse/pu/%.ws2:
	@mkdir -p $(@D)
	@ws2-merge $(OUT)/cam/pu/$*.ws2 <(ws2-pick --keep coarse --rename coarse=inside $(OUT)/cam/pu/$*.ws2) | $(half) -o $@.part
	$(finish)
$(OUT)/coarse3/pu/%.ws2:
	@mkdir -p $(@D)
	@ws2-merge <(ws2-pick --drop coarse $(OUT)/cam/pu/$*.ws2) $(WORK)/flow/$*.ws2 | ws2-fuse -k 1 --merge mean --raw | \
	  ws2-coarse --absolute --threshold $(chosen) | $(half) -o $@.part
	$(finish)
$(OUT)/coarse/%.ws2:
	@mkdir -p $(@D)
	@$(if $(filter f2f/%,$*),$(call fused,$*,2),cat $(OUT)/cam/$*.ws2) | $(masks) -o $@.part
	$(finish)
$(OUT)/coarse3/%.ws2:
	@mkdir -p $(@D)
	@$(call fused,$*,1) | $(masks) -o $@.part
	$(finish)

# Instance masks, and the coarse masks that follow their edges.
$(WORK)/sam/%.ws2:
	@mkdir -p $(@D)
	@ws2-sam $(if $(SAM),-w $(SAM) --preset ws2 --device $(DEVICE)) $(WORK)/bgmask/$*.ws2 | \
	  ws2-pick --keep instances,instances.box,instances.score,instances.stability -o $@.part
	$(finish)
refined = ws2-sam-refine $(REFINE)
# The true masks of METHOD/SPLIT/ROLE/NAME, if they are known.
known = $(and $(TRUTH_N),$(filter test/%,$(call below,$1)),$(subst SEQ,$(patsubst test/%,%,$(call below,$1)),$(TRUTH_N)))
$(OUT)/refined/%.ws2:
	@mkdir -p $(@D)
	@ws2-merge $(OUT)/coarse/$*.ws2 $(WORK)/sam/$(call below,$*).ws2 \
	  $(if $(call known,$*),<($(call known,$*) | ws2-pick --keep ids)) | $(refined) | \
	  $(if $(call known,$*),ws2-sam-refine --rule max_iou --instances ids --out refined.true |) \
	  ws2-pick --keep refined$(if $(filter test/%,$(call below,$*)),$(if $(TRUTH),$(,)truth)$(if $(TRUTH_N),$(,)refined.true)) -o $@.part
	$(finish)
# Of probabilities, votes in the same regions.
$(OUT)/refined/pu/%.ws2:
	@mkdir -p $(@D)
	@ws2-merge $(OUT)/cam/pu/$*.ws2 $(WORK)/sam/$*.ws2 $(if $(call known,pu/$*),<($(call known,pu/$*) | ws2-pick --keep ids)) | \
	  ws2-vote --in cam --mask refined | \
	  $(if $(call known,pu/$*),ws2-sam-refine --rule max_iou --instances ids --out refined.true |) \
	  ws2-pick --keep refined$(if $(filter test/%,$*),$(if $(TRUTH),$(,)truth)$(if $(TRUTH_N),$(,)refined.true)) -o $@.part
	$(finish)

# The papers score the middle frames of triplets only: the first and last of a sequence do not count.
define score
$(OUT)/iou/%.$1$2.tsv: | $3
	@mkdir -p $$(@D)
	@ws2-iou --centre --by-seq --mask $1 $$(filter $(OUT)/$4/$$*/%,$5) >$$@.part
	@mv $$@.part $$@
endef
$(eval $(call score,inside,,coarse,coarse,$(COARSE)))
$(foreach mask,coarse level,$(eval $(call score,$(mask),,coarse,coarse,$(COARSE))) $(eval $(call score,$(mask),3,coarse,coarse3,$(COARSE3))))
$(foreach mask,refined refined.true,$(eval $(call score,$(mask),,refine,refined,$(REFINED))))

# What masks would score that know nothing: the whole frame. And nothing of wanted and unwanted: all that lies on the
# belt.
$(OUT)/iou/whole.tsv: | bgmask
	@mkdir -p $(@D)
	@ws2-iou --centre --by-seq --whole $(filter $(WORK)/bgmask/test/%,$(BGMASK)) >$@.part
	@mv $@.part $@
$(OUT)/iou/foreground.tsv: | bgmask
	@mkdir -p $(@D)
	@ws2-iou --centre --by-seq --mask fg $(filter $(WORK)/bgmask/test/%,$(BGMASK)) >$@.part
	@mv $@.part $@

$(OUT)/table.tsv: $(IOU)
	@awk -F '\t' -v methods='$(METHODS)' -f $(dir $(SELF))table.awk $^ >$@.part
	@mv $@.part $@

# ---- masks to learn from --------------------------------------------------------------------------------------

# The same stages for training frames; pictures of frames and masks bear the same names.
of_learnt = $(foreach m,$(METHODS),$(LEARNT:%=$(OUT)/$1/$m/%$2))
pseudo: train
	$(call each,$(call of_learnt,cam,.ws2) $(LEARNT:%=$(WORK)/sam/%.ws2) $(if $(filter f2f,$(METHODS)),$(LEARNT:%=$(WORK)/flow/%.ws2)))
	$(call each,$(call of_learnt,coarse,.ws2))
	$(call each,$(call of_learnt,refined,.ws2))
	$(call each,$(LEARNT:%=$(OUT)/pseudo/.done/images/%) $(call of_learnt,pseudo/.done,))
$(OUT)/pseudo/.done/images/%:
	@mkdir -p $(@D)
	@ws2-write -q --by-seq --png $(OUT)/pseudo/images $(WORK)/bgmask/$*.ws2
	@touch $@
$(OUT)/pseudo/.done/%:
	@mkdir -p $(@D)
	@ws2-write -q --by-seq --png $(OUT)/pseudo/$(call method,$*) --tensor refined $(OUT)/refined/$*.ws2
	@touch $@

# ---- the picture: frames, maps, masks and truth side by side ---------------------------------------------------

# Test sequences that are shown, and the one frame of each.
shown = $(foreach r,before after,$(addprefix $r/,$(wordlist 1,$(if $(filter before,$r),$(BEFORE),$(AFTER)),$(call sequences,test,$r))))
middle = $$(ws2-ls $1 | awk -F '\t' 'NR == 2 { print int(($$8 + $$9) / 2) }')
# A tensor name has no plus sign.
plain = $(subst +,p,$1)
take = <(ws2-pick --frames $$n:$$((n + 1)) --keep $1 $(if $3,--rename $1=$1.$(call plain,$3)) $2)

picture: $(OUT)/picture.png
$(OUT)/look/%.ws2: | refine
	@mkdir -p $(@D)
	@n=$(call middle,$(WORK)/bgmask/test/$*.ws2); \
	ws2-merge -o $@.part $(call take,rgb$(if $(TRUTH),$(,)truth),$(WORK)/bgmask/test/$*.ws2) \
	  $(foreach m,$(PICTURE),$(call take,cam,$(OUT)/cam/$m/test/$*.ws2,$m) $(call take,coarse,$(OUT)/coarse/$m/test/$*.ws2,$m) \
	    $(call take,refined,$(OUT)/refined/$m/test/$*.ws2,$m))
	$(finish)
panels = rgb $(foreach m,$(call plain,$(PICTURE)),cam.$m:before coarse.$m refined.$m) $(if $(TRUTH),truth)
$(OUT)/picture.png: $(patsubst %,$(OUT)/look/%.ws2,$(call shown))
	@ws2-cat --segments $^ | ws2-write --panel "$$(echo $(panels) | tr ' ' ,)" --sheet $@

# ---- bias: does the classifier look at the background? -----------------------------------------------------------

# Two classes, trained with background (keep) and without it, filled with black as in the paper or with any belt; each
# tested with and without (POF-CAM, table 3).
BIAS ?= keep black belt
$(OUT)/bias/%.safetensors: | bgmask
	@mkdir -p $(@D); echo "bias: $* background"
	@$(train_with) --method standard --classes 2 $(if $(filter keep,$*),--background keep,--fill $*) --log $(OUT)/bias/$*.tsv -o $@ \
	  $(addprefix --validation ,$(VALIDATION)) $(TRAINING)

bias: $(OUT)/bias/table.tsv
	@cat $<

accuracy = ws2-train --evaluate $1 --background $2 --device $(DEVICE) -j $(THREADS)
$(OUT)/bias/table.tsv: $(BIAS:%=$(OUT)/bias/%.safetensors)
	@printf 'tested\ttrained\ttrain\tvalidation\n' >$@.part
	@for tested in keep remove; do for trained in $(BIAS); do \
	  printf '%s\t%s' $$tested $$trained; \
	  for part in '$(TRAINING)' '$(VALIDATION)'; do \
	    $(call accuracy,$(OUT)/bias/$$trained.safetensors,$$tested) $$part | awk -F '\t' '$$1 == "all" { printf "\t%s", $$NF }'; \
	  done; echo; done; done >>$@.part
	@mv $@.part $@
