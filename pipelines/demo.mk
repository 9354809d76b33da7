# make demo: a small belt with clear settings from the simulator, all methods, the table and a picture.
#
# Items are about 60 pixels long, so that a cell of the maps (16 pixels) is smaller than an item, as on a real line at full
# size; hues tell wanted and unwanted apart, nothing is clear glass; and the belt moves half a frame from picture to
# picture, so that 40 clips of each camera show many items. A network trained from scratch needs items on belts to know
# them in whole frames (FILL=belt), and maps finer than its cells to outline them (SCALES).

DEMO ?= demo-out
DEMO_METHODS := gradcam gradcam++ layercam puzzle
DEMO_EPOCHS := 12
DEMO_RUN = PATH="$(CURDIR)/$(BIN):$$PATH" $(MAKE) --no-print-directory -f pipelines/ws2.mk \
  DATA=$(DEMO)/data OUT=$(DEMO)/out METHODS="$(DEMO_METHODS)" PICTURE="gradcam puzzle" SIZE=128 BACKBONE=resnet18 \
  STRIDE=16 FILL=belt SCALES=1,2,4 BATCH=16 INIT=none EPOCHS=$(DEMO_EPOCHS) SEED=1

.PHONY: demo
demo: all
	@PATH="$(CURDIR)/$(BIN):$$PATH" ws2-synth --dataset $(DEMO)/data --preset clear --size 128 --frames 24 --speed 0.5 \
	  --scale 2 --density 5 --hue 0 --clear 0 --clips 40 --val-clips 6 --test-clips 4 --seed 1
	@$(DEMO_RUN) all $(DEMO)/out/iou/whole.tsv $(DEMO)/out/iou/foreground.tsv
	@printf '\nIoU in percent on test frames (C: coarse masks), before and after the sorter:\n\n'
	@awk -F '\t' '{ printf "%-12s", $$1; for (i = 2; i <= 3; i++) printf "%10s", $$i; print "" }' $(DEMO)/out/table.tsv
	@printf '\nFor comparison, on frames before the sorter: all of the frame %s, all that lies on the belt %s.\n' \
	  $(foreach g,whole foreground,$$(awk -F '\t' '$$1 == "before" && $$2 == "-" { print $$9 }' $(DEMO)/out/iou/$g.tsv))
	@echo "Frames, maps, masks and truth side by side: $(DEMO)/out/picture.png"
