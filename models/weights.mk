# make weights              lists the pretrained weights that can be fetched
# make weights NAME=x       fetches and verifies them; prints the path of the file
#
# They go to the first folder of WS2_MODELS, else to ~/.cache/ws2. A file that is there and good is left alone.

WEIGHTS_TSV ?= models/weights.tsv

# From the command line only: some shells have a NAME of their own in the environment.
.PHONY: weights
weights:
	@models/fetch-weights '$(WEIGHTS_TSV)' $(if $(filter command,$(origin NAME)),'$(NAME)')
