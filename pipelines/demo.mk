# make demo: a small belt with clear settings from the simulator, all methods, the table and a picture.
#
# 96 short clips of each camera to learn from. With items about 40 pixels long, a cell of the maps (16 pixels) is
# smaller than an item, as on a real line at full size.

DEMO ?= demo-out
DEMO_METHODS := gradcam gradcam++ layercam puzzle
DEMO_EPOCHS := 5
DEMO_RUN = PATH="$(CURDIR)/$(BIN):$$PATH" $(MAKE) --no-print-directory -f pipelines/ws2.mk \
  DATA=$(DEMO)/data OUT=$(DEMO)/out METHODS="$(DEMO_METHODS)" PICTURE="gradcam puzzle" SIZE=128 BACKBONE=resnet18 \
  STRIDE=16 BATCH=16 INIT=none EPOCHS=$(DEMO_EPOCHS) SEED=1

.PHONY: demo
demo: all
	@PATH="$(CURDIR)/$(BIN):$$PATH" ws2-synth --dataset $(DEMO)/data --preset clear --size 128 --frames 5 \
	  --clips 96 --val-clips 12 --test-clips 12 --seed 1
	@$(DEMO_RUN) all $(DEMO)/out/iou/whole.tsv $(DEMO)/out/iou/foreground.tsv
	@printf '\nIoU in percent on test frames (C: coarse masks), before and after the sorter:\n\n'
	@awk -F '\t' '{ printf "%-12s", $$1; for (i = 2; i <= NF; i++) printf "%10s", $$i; print "" }' $(DEMO)/out/table.tsv
	@printf '\nFor comparison, on frames before the sorter: all of the frame %s, all that lies on the belt %s.\n' \
	  $(foreach g,whole foreground,$$(awk -F '\t' '$$1 == "before" && $$2 == "-" { print $$9 }' $(DEMO)/out/iou/$g.tsv))
	@echo "Frames, maps, masks and truth side by side: $(DEMO)/out/picture.png"
