# make demo: a small belt with clear settings from the simulator, both methods, the table and a picture.

DEMO ?= demo-out
DEMO_METHODS := gradcam gradcam++ layercam puzzle
DEMO_RUN = PATH="$(CURDIR)/$(BIN):$$PATH" $(MAKE) --no-print-directory -f pipelines/ws2.mk \
  DATA=$(DEMO)/data OUT=$(DEMO)/out METHODS="$(DEMO_METHODS)" SIZE=128 BACKBONE=resnet18 STRIDE=16 BATCH=16 \
  INIT=none EPOCHS=$(DEMO_EPOCHS) SEED=1
DEMO_EPOCHS := 8

demo: all
	@PATH="$(CURDIR)/$(BIN):$$PATH" ws2-synth --dataset $(DEMO)/data --preset clear --size 128 --seed 1
	@$(DEMO_RUN) all
	@$(DEMO_RUN) $(DEMO)/out/iou/foreground.tsv
	@echo; column -t -s $$'\t' $(DEMO)/out/table.tsv
