# What the README names. `make test` is all that CI runs.

PYTHON := .peers/venv/bin/python
export RUSTDOCFLAGS := -D warnings

.PHONY: run test bench bench-chat bench-quality setup lint hermetic interop package

# One linked room with chat users and phones that talk; ARGS=--once shows that it works and ends.
run:
	scripts/setup.sh --run
	cargo build --release --locked
	exec setpriv --pdeathsig TERM -- $(PYTHON) scripts/demo $(ARGS)

# Fast things first; the closing line is that of the tests with real peers.
test: setup lint hermetic interop

setup:
	scripts/setup.sh

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --test interop --locked -- -D warnings
	cargo clippy --no-default-features --locked -- -D warnings
	cargo clippy -p cusax-client --no-default-features --all-targets --locked -- -D warnings
	cargo package --quiet --no-verify --allow-dirty --locked -p cusax-sip -p cusax-media -p cusax -p cusax-client
	@if rustup target add wasm32-unknown-unknown >/dev/null 2>&1; then \
		cargo check --target wasm32-unknown-unknown --no-default-features --locked; \
	else \
		echo "skipped: the core is not checked for wasm32, since rustup cannot add that target here"; \
	fi

# No network, no clock, a PostgreSQL of its own: seconds.
hermetic:
	cargo test --workspace --locked
	cargo doc --workspace --no-deps --locked

# Prosody, ejabberd, Kamailio, slixmpp, nbxmpp, Profanity, Converse.js, baresip, Linphone, JsSIP, SIPp, Prometheus.
interop:
	cargo test --test interop --locked

# The Debian package, installed, updated and purged in a copy of this system that is gone afterwards: minutes.
package:
	scripts/package

# cusaxd beside Janus AudioBridge: tables, and target/bench/report.json. BENCH_QUICK=1 only shows that it works.
bench:
	scripts/setup.sh --bench
	cargo build --release --locked -p cusaxd -p cusax-load
	scripts/bench $(ARGS)

# Large rooms beside Prosody's own `muc`. Numbers after `--` in ARGS: occupants, messages, rooms.
bench-chat:
	scripts/setup.sh
	cargo bench --bench chat --locked -- $(ARGS)

# What people sound like over bad networks, by PESQ; minutes. Words after `--` in ARGS: some rows only.
bench-quality:
	scripts/setup.sh --quality
	cargo bench --bench quality --locked -- $(ARGS)
	.peers/quality/bin/python benches/quality/score.py target/bench/quality
