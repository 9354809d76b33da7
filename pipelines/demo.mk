# make demo: the simulated belt of belt.mk, all methods, the table and a picture.

DEMO ?= demo-out
DEMO_METHODS := gradcam gradcam++ layercam f2f puzzle pof pu
include pipelines/belt.mk
DEMO_RUN = PATH="$(CURDIR)/$(BIN):$$PATH" $(MAKE) --no-print-directory -f pipelines/ws2.mk \
  DATA=$(DEMO)/data OUT=$(DEMO)/out METHODS="$(DEMO_METHODS)" PICTURE="puzzle pu" $(BELT_NETWORK) PU="$(BELT_PU)" RECIPE=pof \
  TRAIN_OPTIONS=--centres SEED=1 TRUTH_N='ws2-synth -q $(BELT) --seed 1 --clip test/SEQ --tensors ids'

.PHONY: demo
demo: all
	@PATH="$(CURDIR)/$(BIN):$$PATH" ws2-synth --dataset $(DEMO)/data $(BELT) --seed 1
	@$(DEMO_RUN) all $(DEMO)/out/iou/whole.tsv $(DEMO)/out/iou/foreground.tsv
	@printf '\nIoU in percent on test frames, before and after the sorter, of masks from the maps of one frame (C), of three (C3),\n'
	@printf 'cut to what lies on the belt (F), brought to the edges of regions (R), and to those of the true items, which is the\n'
	@printf 'most a merge can reach (N); pu is ours, the others are those of the papers:\n\n'
	@awk -F '\t' '{ printf "%-12s", $$1; for (i = 2; i <= 15; i++) if (i < 6 || i > 9) printf "%11s", $$i; print "" }' $(DEMO)/out/table.tsv
	@printf '\nFor comparison, on frames before the sorter: all of the frame %s, all that lies on the belt %s.\n' \
	  $(foreach g,whole foreground,$$(awk -F '\t' '$$1 == "before" && $$2 == "-" { print $$9 }' $(DEMO)/out/iou/$g.tsv))
	@echo "Frames, maps, masks and truth side by side: $(DEMO)/out/picture.png"
