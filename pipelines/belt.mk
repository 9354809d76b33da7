# belt.mk: the simulated belt of `make demo` and of pof.mk, at a size for two cores, and the network that learns from it.
#
# BELT are options of ws2-synth, BELT_NETWORK settings of ws2.mk, BELT_PU options of ws2-seg-train. Items are about 60 pixels long, so that a cell of
# the maps (16 pixels) is smaller than an item, as on a real line at full size; hues tell wanted and unwanted apart,
# nothing is clear glass. Items carry labels and caps, and roll and slide: parts of them come and go, which is what
# the temporal term of POF-CAM is for. Many short clips show many items for few frames: how well a network from random
# weights generalises decides everything else. Such a network needs items on belts to know them in whole frames
# (FILL=belt), and maps finer than its cells to outline them (SCALES).

BELT := --preset clear --size 128 --speed 0.15 --scale 2 --density 5 --hue 0 --clear 0 --print 1 --rolling 1 --sliding 0.4 \
  --frames 5 --test-frames 8 --clips 128 --val-clips 16 --test-clips 8
BELT_NETWORK := SIZE=128 BACKBONE=resnet18 STRIDE=16 FILL=belt SCALES=1,2,4 BATCH=16 EPOCHS=8 INIT=none
BELT_PU := --reach 4 --epochs 8 --form plain --frames 0 --rounds 0
