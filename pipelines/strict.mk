# strict.mk: how the pipelines run: a command that fails ends them, also within a pipe, and half a result is none.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory
# Intermediate streams are packed for the disk, and threads that wait in a busy loop would take the processor from others.
export WS2_LEVEL := 3
export GOMP_SPINCOUNT ?= 3000
# A comma that can stand inside a function call.
, := ,
