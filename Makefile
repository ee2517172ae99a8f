# Every target is one line; the work is in hack/ and hack/xtask.
CARGO ?= cargo
.PHONY: all binaries test bench soak fuzz vendor validate-vendor validate-all fmt codegen demo clean setup
all: binaries
setup: ; hack/setup.sh
binaries: ; hack/binaries.sh
test: setup ; hack/test.sh
bench: setup ; $(CARGO) bench --workspace --benches
soak: setup ; BUILDKIT_TEST_SOAK=1 hack/test.sh
fuzz: ; hack/fuzz.sh
vendor: ; $(CARGO) vendor --locked vendor
validate-vendor: ; hack/validate-vendor.sh
validate-all: setup ; hack/validate-all.sh
fmt: ; $(CARGO) fmt --all
codegen: ; $(CARGO) run --quiet -p xtask -- codegen
demo: setup ; hack/demo.sh
clean: ; $(CARGO) clean && rm -rf bin
